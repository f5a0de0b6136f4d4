"""The report of one step and the joined page."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from llm_workshop.report import Report, join_reports
from llm_workshop.report.page import inline_image, png_size
from llm_workshop.report.plots import new_figure
from llm_workshop.report.report import column_texts, format_value
from llm_workshop.settings import load_settings


class PageReader(HTMLParser):
    """Collects what the tests ask of a page: ids, links, images, scripts, text."""

    def __init__(self, page: str):
        super().__init__()
        self.ids, self.links, self.images, self.scripts, self.text = [], [], [], 0, ""
        self.outside = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "img":
            self.images.append(attributes)
        if tag == "script":
            self.scripts += 1
        self.outside += [v for k, v in attributes.items() if k in ("src", "href") and not v.startswith(("data:", "#"))]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def artifacts(tmp_path):
    return SimpleNamespace(reports=tmp_path / "smoke" / "reports")


def a_figure():
    figure, axes = new_figure()
    axes.plot([1, 2, 3], [3.0, 2.0, 1.5])
    axes.set_title("손실")
    return figure


def write_two_reports(artifacts):
    report = Report(artifacts, "week05-pretrain", "5주차 · 사전학습")
    report.text("## 한눈에\n\n**굵게** 쓴 글.").facts({"파라미터": 14_234_112, "학습률": 1e-4})
    report.heading("곡선").figure(a_figure(), "loss", "학습 손실")
    report.output("예: ``` 안의 글 <b>x</b>").save()
    Report(artifacts, "week03-tokenizer", "3주차 · 토크나이저").text("본문").save(quiet=True)


def test_save_writes_markdown_and_png_and_prints_where(artifacts, capsys):
    report = Report(artifacts, "week05-pretrain", "5주차\n사전학습")
    path = report.figure(a_figure(), "loss", "학습 손실").save()
    assert path == artifacts.reports / "week05-pretrain.md"
    assert str(path) in capsys.readouterr().out
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# 5주차 사전학습\n") and "![학습 손실](week05-pretrain-loss.png)" in text
    assert (artifacts.reports / "week05-pretrain-loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in artifacts.reports.iterdir()) == ["week05-pretrain-loss.png", "week05-pretrain.md"]


def test_a_folder_will_do_instead_of_artifacts(tmp_path):
    assert Report(tmp_path, "week01-hello", "인사").save(quiet=True) == tmp_path / "week01-hello.md"


@pytest.mark.parametrize("name", ["Week 5", "../week05", "week05_pretrain", ""])
def test_names_that_are_no_file_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"week05-pretrain"):
        Report(tmp_path, name, "x")


def test_a_figure_name_is_used_once(tmp_path):
    report = Report(tmp_path, "week01-a", "가").figure(a_figure(), "loss", "하나")
    with pytest.raises(ValueError, match="'loss'"):
        report.figure(a_figure(), "loss", "둘")


def test_table_takes_mappings_with_different_keys(tmp_path):
    text = Report(tmp_path, "week01-a", "가").table([{"이름": "a|b", "값": 12345}, {"값": 0.5, "비고": True}]).markdown()
    lines = text.strip().splitlines()[2:]
    assert lines[0] == "| 이름 | 값 | 비고 |"
    assert lines[1] == "| :-- | --: | :-- |"
    assert lines[2] == "| a\\|b | 12,345 | – |"
    assert lines[3] == "| – | 0.5 | 예 |"


def test_table_refuses_what_it_cannot_show(tmp_path):
    report = Report(tmp_path, "week01-a", "가")
    with pytest.raises(ValueError, match="at least one row"):
        report.table([])
    with pytest.raises(ValueError, match="header"):
        report.table([["a", 1]])
    with pytest.raises(ValueError, match="3 cells"):
        report.table([["a", 1, 2]], header=["이름", "값"])


@pytest.mark.parametrize(
    "value, shown",
    [(None, "–"), (True, "예"), (1234567, "1,234,567"), (0.12345, "0.1235"), (1.2e-5, "1.20e-05"),
     (123456.7, "123,457"), (0.0, "0"), (-0.0, "0"), (float("nan"), "nan"), ("글", "글")],
)  # fmt: skip
def test_format_value(value, shown):
    assert format_value(value) == shown


@pytest.mark.parametrize(
    "values, shown",
    [([0.94, 6.3, -0.0, None], ["0.94", "6.30", "0.00", "–"]), ([1.0, 0.9658], ["1.0000", "0.9658"]), ([-0.001, 0.25, 3], ["-0.001", "0.250", "3"]),
     ([1.0, 2.0], ["1", "2"]), ([1e-5, 0.5], ["1.00e-05", "0.5"]), ([123456.7, 0.1235], ["123,457", "0.1235"]), (["글", 0.5, 0.25], ["글", "0.5", "0.25"])],
)  # fmt: skip
def test_fractions_of_a_column_have_the_same_decimals(values, shown):
    assert column_texts(values) == shown


def test_facts_are_no_column(tmp_path):
    text = Report(tmp_path, "week01-a", "가").facts({"비율": 0.5, "손실": 2.345}).markdown()
    assert "| 0.5 |" in text and "| 2.345 |" in text


def test_the_command_for_the_page_is_of_the_same_run(tmp_path, capsys):
    Report(SimpleNamespace(reports=tmp_path, settings=load_settings("smoke", "nsmc")), "week01-a", "가").save()
    assert "make report SCALE=smoke DATA=nsmc)" in capsys.readouterr().out


def test_joined_page_is_self_contained_and_ordered(artifacts):
    write_two_reports(artifacts)
    path = join_reports(artifacts.reports)
    assert path == artifacts.reports / "report.html"
    page = path.read_text(encoding="utf-8")
    reader = PageReader(page)
    assert reader.outside == []
    assert not re.search(r"url\(|@import|https?://", page)
    assert page.index("3주차 · 토크나이저") < page.index("5주차 · 사전학습")
    assert [image["alt"] for image in reader.images] == ["학습 손실"]
    assert reader.images[0]["src"].startswith("data:image/png;base64,iVBOR")
    with Image.open(artifacts.reports / "week05-pretrain-loss.png") as image:
        assert (reader.images[0]["width"], reader.images[0]["height"]) == tuple(map(str, image.size)), "links land before images are decoded"
    assert "loading" not in reader.images[0] and "smooth" not in page
    assert "<figcaption>학습 손실</figcaption>" in page
    assert "smoke" in reader.text and "14,234,112" in reader.text
    assert "width=device-width" in page and "prefers-color-scheme: dark" in page


def test_contents_point_at_headings_that_exist(artifacts):
    write_two_reports(artifacts)
    reader = PageReader(join_reports(artifacts.reports).read_text(encoding="utf-8"))
    targets = [link[1:] for link in reader.links]
    assert len(targets) == 4 and set(targets) <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))


def test_markup_in_data_stays_text(artifacts):
    evil = "<script>alert(1)</script> *별* [글](javascript:alert(1)) ![x](y)"
    report = Report(artifacts, "week02-noise", "2주차").table([{"문서": evil}]).output(evil + " ````")
    report.text(evil.replace("![x](y)", "")).save(quiet=True)
    page = join_reports(artifacts.reports).read_text(encoding="utf-8")
    reader = PageReader(page)
    assert reader.scripts == 1, "only the page's own script"
    assert not any(link.startswith("javascript:") for link in reader.links)
    assert reader.text.count("<script>alert(1)</script>") == 3
    assert "*별*" in reader.text


def test_images_outside_the_folder_are_not_read(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"x")
    folder = tmp_path / "reports"
    folder.mkdir()
    for name in ("../secret.png", "missing.png"):
        with pytest.warns(UserWarning, match="is missing: run the step that makes it again"):
            assert inline_image(folder, name) == name
    assert inline_image(folder, "https://example.org/a.png") == "https://example.org/a.png"


def test_the_size_of_what_is_no_png_is_not_told(tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "text.png").write_bytes(b"x" * 40)
    assert [png_size(tmp_path / name) for name in ("cut.png", "text.png", "none.png")] == [{}, {}, {}]


def test_long_cells_keep_a_readable_width(tmp_path):
    Report(tmp_path, "week02-a", "가").table([{"이름": "짧은 말", "까닭": "네 낱말보다 훨씬 더 길게 적은 까닭", "수": 12345678901234567}]).save(quiet=True)
    page = join_reports(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'<td class="wordy"[^>]*>(.*?)</td>', page) == ["네 낱말보다 훨씬 더 길게 적은 까닭"]


def test_a_notebook_shows_figures_and_no_objects(tmp_path, monkeypatch, capsys):
    shown = []
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    monkeypatch.setattr("IPython.display.display", shown.append)
    report = Report(tmp_path, "week01-a", "가").section("1. 절").figure(a_figure(), "loss", "손실 | 학습")
    assert [image.data for image in shown] == [(tmp_path / "week01-a-loss.png").read_bytes()]
    formatted = DisplayFormatter(parent=None).format(report)
    assert formatted == ({}, {}), "a cell that ends in a method of the report prints nothing"
    assert capsys.readouterr().out == ""


def test_broken_bytes_in_one_report_do_not_lose_the_page(artifacts):
    write_two_reports(artifacts)
    (artifacts.reports / "week04-bad.md").write_bytes(b"# \xea\xb0\x80 \xff\xfe\n\ntext")
    assert "week04-bad" in join_reports(artifacts.reports).read_text(encoding="utf-8")


def test_no_reports_yet_names_the_cure(tmp_path):
    with pytest.raises(FileNotFoundError, match="make week5-pretrain"):
        join_reports(tmp_path)


def test_a_section_is_printed_and_heads_what_is_added_to_it(tmp_path, capsys):
    report = Report(tmp_path, "week04-a", "가")
    report.section("1. 빈 절").section("2. 찬 절").text("본문").table([{"값": 1}])
    report.section("3. 제목이 따로 있는 절").heading("다른 제목").text("둘째 본문")
    report.section("4. 글이 제목을 단 절").text("## 글의 제목\n\n셋째 본문").heading("작은 제목", level=3)
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.strip("─ ") for line in printed] == ["1. 빈 절", "2. 찬 절", "3. 제목이 따로 있는 절", "4. 글이 제목을 단 절"]
    headings = [line for line in report.markdown().splitlines() if line.startswith("#")]
    assert headings == ["# 가", "## 2. 찬 절", "## 다른 제목", "## 글의 제목", "### 작은 제목"]


def test_section_lines_are_equally_long_on_the_terminal(tmp_path, capsys):
    Report(tmp_path, "week04-a", "가").section("한글 제목").section("Latin title")
    first, second = (line for line in capsys.readouterr().out.splitlines() if line)
    assert len(first) + 4 == len(second) == 100, "four Hangul syllables take eight columns"
