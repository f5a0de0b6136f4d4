"""``workshop curate``: people's own files in, clean text and a data card out; nothing of theirs is touched."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from llm_workshop import cli
from llm_workshop.artifacts import Artifacts
from llm_workshop.corpora.document import read_documents
from llm_workshop.corpora.sample.generator import generate
from llm_workshop.curation import card as cards
from llm_workshop.curation.command import curate_settings, split_settings
from llm_workshop.pipeline import build_corpus
from llm_workshop.settings import load_settings

RECIPE = """
title: 내 규칙
steps:
  - unicode
  - whitespace
dedup: {exact: true, near: false}
"""


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    documents = list(generate(0.02, seed=5))
    lines = [json.dumps({"text": document.text}, ensure_ascii=False) for document in documents]
    (folder / "a.jsonl").write_text("\n".join([*lines, *lines[:7], ""]), encoding="utf-8")
    (folder / "b.txt").write_bytes("윈도에서 쓴 옛 글입니다.\r\n둘째 줄도 있어요.\r\n".encode("cp949"))
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder, len(documents) + 1


def curate(*words):
    return cli.main(["curate", *map(str, words)])


def test_files_become_clean_text_without_duplicates_and_a_card(mine, tmp_path, capsys):
    folder, count = mine
    out = tmp_path / "out"
    assert curate(folder, "curation.workers=1", "--recipe", tmp_path / "recipe.yaml", "--out", out) == 0
    printed = capsys.readouterr().out
    assert f"{count + 7:,} documents" in printed and "dropped as exact 7" in printed
    kept = [document for split in ("train", "valid") for document in read_documents(out / "curated" / f"{split}.jsonl")]
    assert len(kept) == count and "윈도에서 쓴 옛 글입니다.\n둘째 줄도 있어요." in {document.text for document in kept}
    page = (out / "reports" / "data-card.md").read_text(encoding="utf-8")
    assert page.startswith("# 데이터 카드: 내 규칙") and f"| 모은 글 | {count + 7} |" in page and "똑같은 글 7" in page
    assert (out / "reports" / "report.html").stat().st_size > 20_000
    capsys.readouterr()
    assert curate(folder, "curation.workers=1", "--recipe", tmp_path / "recipe.yaml", "--out", out) == 0
    assert capsys.readouterr().out.count("up to date") == 3


def test_nothing_of_ones_own_is_replaced_or_read_back(mine, tmp_path, capsys):
    folder, _ = mine
    (tmp_path / "out" / "raw").mkdir(parents=True)
    (tmp_path / "out" / "raw" / "precious.txt").write_text("내 글", encoding="utf-8")
    assert curate(folder, "--out", tmp_path / "out") == 1
    assert "was not made by this command" in capsys.readouterr().err
    assert (tmp_path / "out" / "raw" / "precious.txt").read_text(encoding="utf-8") == "내 글"
    assert curate(folder, "--out", folder / "out") == 1
    assert "lies within" in capsys.readouterr().err and not (folder / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.txt", "--out", "x"], "no file or folder nothing.txt"),
        (["curation.workers=1", "--out", "x"], "no files to curate"),
        (["a.txt", "--recipe", "nope", "--out", "x"], "no recipe 'nope'"),
        (["a.txt", "curation.worker=1", "--out", "x"], "did you mean 'workers'"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert curate(*words) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_settings_may_stand_among_the_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_settings(["a", "curation.workers=2", "b.txt", "x=y"]) == (["a", "b.txt", "x=y"], ["curation.workers=2"])
    (tmp_path / "a.b=c").touch()
    assert split_settings(["a.b=c"]) == (["a.b=c"], [])
    assert curate_settings(["a"], [], None, 0).curation.megabytes is None
    assert curate_settings(["a"], ["curation.megabytes=3"], None, 0).curation.megabytes == 3
    assert curate_settings(["a"], [], "my.yaml", 0).curation.recipe == "my.yaml"
    assert curate_settings(["a"], ["curation.text_fields=Q,A"], None, 0).curation.text_fields == ("Q", "A")


def test_the_corpus_is_what_was_curated(mine, tmp_path):
    folder, count = mine
    out = tmp_path / "out"
    settings = load_settings("smoke", data=str(folder), overrides=["corpus.curated=true"])
    artifacts = Artifacts(settings, tmp_path / "runs")
    with pytest.raises(ValueError, match=r"no curated at .*week2-dedup"):
        build_corpus(artifacts)
    assert curate(folder, "curation.workers=1", "--recipe", tmp_path / "recipe.yaml", "--out", out) == 0
    artifacts.root = out
    build_corpus(artifacts)
    metrics = artifacts.read_manifest("corpus")["metrics"]
    assert metrics["train"]["documents"] + metrics["valid"]["documents"] == count
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("exact: true", "exact: false"), encoding="utf-8")
    assert curate(folder, "curation.workers=1", "--recipe", tmp_path / "recipe.yaml", "--out", out) == 0
    build_corpus(artifacts)  # another curated stage is another corpus
    assert sum(values["documents"] for values in artifacts.read_manifest("corpus")["metrics"].values()) == count + 7


def test_plots_and_tables_of_a_card_with_rare_values():
    side = {"documents": 3, "characters": 900_000, "length": [0] * 24, "hangul": [0] * 20 + [3]}
    side["length"][1], side["length"][19] = 2, 1
    rule = {"name": "unheard_of", "seen": 3, "changed": 0, "dropped": 2, "characters_removed": 0,
            "reasons": {"a": 1, "b": 1, "c": 0, "d": 0}, "changes": [], "drops": []}  # fmt: skip
    card = {"before": side, "after": side, "rules": [rule], "rule_seconds": [{"name": "unheard_of", "seconds": 0.003}], "tags": {}}
    [row] = cards.rule_rows(card)
    assert row["규칙"] == "unheard_of" and row["버린 까닭"] == "a 1, b 1, c 0 외 1가지" and row["µs/글"] == 1000
    hangul = cards.before_after_plot(card).axes[1].patches
    assert max(patch.get_height() for patch in hangul) == 3  # texts of nothing but Hangul are in the last class
    assert len(cards.rules_plot(card).axes) == 3
    assert cards._visible("가\u200b나\n\ud83d") == "가<200B>나⏎<D83D>"


def test_settings_and_files_may_stand_after_the_options(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = cli.parse(["curate", "a.txt", "--out", "x", "curation.broken_share=1", "b.txt"])
    assert split_settings(options.files) == (["a.txt", "b.txt"], ["curation.broken_share=1"])
    assert cli.parse(["tokens", "a.b=1", "--scale", "smoke", "c.d=2"]).overrides == ["a.b=1", "c.d=2"]
    assert curate("a.txt", "--out", "x", "curation.broken_shar=1") == 1
    assert "did you mean 'broken_share'" in capsys.readouterr().err
    assert curate("a.txt", "--out", "x", "curation.broken-share=1") == 1
    assert "curation.broken-share" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        curate("a.txt", "--out", "x", "--recipy", "korean")
    assert "unrecognized arguments: --recipy" in capsys.readouterr().err


def test_its_own_advice_for_broken_records_works_and_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder, out = tmp_path / "내 글", tmp_path / "out"
    folder.mkdir()
    good = "\n".join(json.dumps({"text": document.text}, ensure_ascii=False) for document in generate(0.02, seed=5))
    (folder / "a.jsonl").write_text(f'{good}\n{{"text": "끊긴\n[1]\n{{"title": "본문이 없다"}}\n{{"text": 3}}\n', encoding="utf-8")
    (folder / "b.csv").write_text('text,n\n"닫히지 않음,1\n셋,1,2\n', encoding="utf-8")
    (folder / "nothing.txt").touch()
    for name in "123456":
        (folder / f"{name}.docx").touch()
    command = ["--recipe", "korean", "--out", "out", "curation.workers=1"]
    assert curate("내 글", *command) == 1
    error = capsys.readouterr().err
    counted, reasons = re.search(r"(\d+) of \d+ records are broken \(([^)]*)\)", error).groups()
    assert sum(int(number) for number in re.findall(r": (\d+)", reasons)) == int(counted) and reasons.count(":") >= 5
    assert (out / "raw-quarantine.jsonl").is_file()
    advised = shlex.split(re.search(r"as they are: (.*?) \(all of them", error)[1])
    assert advised[:3] == ["workshop", "curate", "내 글"]
    assert cli.main(advised[1:]) == 0
    printed = capsys.readouterr().out
    assert "not read, as their format is not known here: 내 글/1.docx" in printed and "and 1 more" in printed
    assert f"{counted} broken records set aside, 1 empty" in printed  # the empty file is no broken record
    assert not (out / "raw-quarantine.jsonl").exists() and not (out / ".work").exists()
