"""Local files of every form become documents; bad ones are named with the place and the cure."""

import gzip
import json
import lzma

import pytest

from llm_workshop.corpora.catalogue import CATALOGUE, find_corpus
from llm_workshop.corpora.loaders import data_folders, find_files, is_held_out, is_path, load_documents


def texts(path):
    return [document.text for document in load_documents(str(path))]


def test_plain_text_is_cut_at_blank_lines(tmp_path):
    paragraph = "가나다라 " * 500
    (tmp_path / "a.txt").write_text(f"{paragraph}\n\n{paragraph}\n\n{paragraph}", encoding="utf-8")
    documents = texts(tmp_path / "a.txt")
    assert len(documents) == 2 and "".join(documents).count("가나다라") == 1500


@pytest.mark.parametrize("opener", [open, gzip.open, lzma.open])
@pytest.mark.parametrize("form", ["jsonl", "tsv", "csv", "txt", "json"])
def test_every_form_packed_or_not(tmp_path, opener, form):
    body = {
        "jsonl": json.dumps({"text": "안녕"}) + "\n" + json.dumps({"text": "하세요"}),
        "json": json.dumps([{"text": "안녕"}, {"text": "하세요"}]),
        "tsv": 'id\tdocument\n1\t안녕 "따옴표\n2\t하세요',
        "csv": "id,text\n1,안녕\n2,하세요",
        "txt": "안녕\n하세요",
    }[form]
    suffix = {open: "", gzip.open: ".gz", lzma.open: ".xz"}[opener]
    path = tmp_path / f"data.{form}{suffix}"
    with opener(path, "wb") as stream:
        stream.write(body.encode())
    joined = " ".join(texts(path))
    assert "안녕" in joined and "하세요" in joined


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"text": ["하나", "둘"]}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet") == ["하나", "둘"]


def test_a_folder_is_read_in_sorted_order(tmp_path):
    (tmp_path / "b.txt").write_text("둘")
    (tmp_path / "a.txt").write_text("하나")
    (tmp_path / "c.bin").write_bytes(b"\x00")
    assert texts(f"{tmp_path}/") == ["하나", "둘"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "is empty"),
        ("binary.txt", b"abc\x00\x01", "binary"),
        ("cp949.txt", "첫 줄\n".encode() + "둘째".encode("cp949"), "line 2, byte 1 is not UTF-8.*iconv"),
        ("bad.jsonl", b'{"text": "a"}\n{oops', "line 2 is not JSON"),
        ("list.jsonl", b"[1, 2]", "not a JSON object"),
        ("field.jsonl", b'{"body": "a"}', "no field text or document.*it has body"),
        ("cut.txt.gz", gzip.compress("가나다".encode() * 5000)[:-20], "is damaged"),
        ("fake.txt.gz", b"not gzip", "is damaged"),
        ("bad.json", b"{", "is not JSON"),
        ("bad.parquet", b"PAR?", "not a readable parquet"),
    ],
)
def test_bad_files_are_named_with_the_cure(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        texts(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_path_and_unknown_name():
    with pytest.raises(FileNotFoundError, match="check the path given as DATA"):
        list(load_documents("no/such/file.txt"))
    with pytest.raises(ValueError, match="did you mean 'nsmc'"):
        list(load_documents("nsmcc"))


def test_without_files_or_hub_the_error_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="set DATA_DIR"):
        list(load_documents("constitution"))


def test_hub_rows_become_documents(tmp_path, monkeypatch):
    """The hub path of a catalogue entry, with the hub itself replaced by rows of ours."""
    import datasets

    calls = []

    def load(repository, config, split, revision):
        calls.append((repository, config, split, revision))
        return [{"id": str(i), "document": f"재미있는 영화 {i}", "label": i % 2} for i in range(200)]

    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset", load)
    documents = list(load_documents("nsmc"))
    assert calls == [("e9t/nsmc", None, "train", "refs/convert/parquet")]
    assert len(documents) == 200 and documents[3].truth == {"label": 1}
    assert {d.split for d in documents} == {"train", "valid"}


def test_hub_failure_is_one_clear_error(tmp_path, monkeypatch):
    import datasets

    def refuse(*args, **kwargs):
        raise ConnectionError("no network\nat all")

    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(FileNotFoundError, match="connect to the network once, or set DATA_DIR"):
        list(load_documents("nsmc"))


def test_held_out_share_is_about_two_percent_and_never_changes():
    held_out = [i for i in range(20_000) if is_held_out(f"nsmc/{i}")]
    assert 300 < len(held_out) < 500
    assert held_out[:5] == [i for i in range(20_000) if is_held_out(f"nsmc/{i}")][:5]


def test_catalogue_is_complete():
    for name, corpus in CATALOGUE.items():
        assert corpus.name == name == find_corpus(name).name
        assert corpus.licence and corpus.homepage and corpus.train_files and corpus.text_fields
    assert is_path("a.txt") and is_path("x/y") and is_path("a.jsonl.gz") and not is_path("nsmc")
    assert data_folders()


@pytest.mark.parametrize("name", [n for n in CATALOGUE if n != "kowiki"])
def test_real_files_load(shared_data, monkeypatch, name):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    assert find_files(CATALOGUE[name].train_files)
    stream = load_documents(name)
    first = next(stream)
    assert first.text.strip() and first.id.startswith(f"{name}/")
    assert any("가" <= c <= "힣" for c in first.text)
