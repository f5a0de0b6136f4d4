"""Files in every state: what can be read becomes documents, the rest is set aside with its place, nothing stops it."""

from __future__ import annotations

import gzip
import json
import lzma
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_workshop.corpora.document import Document
from llm_workshop.curation import lines, records
from llm_workshop.curation.encodings import decode_line, detect_encoding
from llm_workshop.curation.lines import Broken, LineReader
from llm_workshop.curation.sources import Source, whole_characters

KOREAN = "오늘은 날씨가 맑아서 한강까지 걸었다. 다리 위에서 본 노을이 참 예뻤다."


def read(path):
    items = list(Source(str(path)))
    return [item for item in items if isinstance(item, Document)], [item for item in items if isinstance(item, Broken)]


def texts_of(path):
    return [document.text for document in read(path)[0]]


def json_lines(*texts):
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)


def test_json_lines_with_every_kind_of_damage(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(
        json_lines("첫째 글").encode()
        + '{"text": "끊긴 줄\n'.encode()
        + b'{"other": "field"}\n'
        + b"[1, 2]\n"
        + b'{"text": 12}\n'
        + b'{"text": "a\xff\xfe\xfdb"}\n'
        + b"\n"
        + b'{"text": "nul\x00"}\n'
        + b'{"text": "half \\ud83d pair", "id": 7, "split": "valid"}\n'
        + ('{"text": "' + KOREAN + '"}\n').encode("cp949")
        + ("[" * 100_000 + "\n").encode()
        + json_lines("마지막 글").encode()
    )
    documents, broken = read(path)
    assert [document.text for document in documents] == ["첫째 글", "half \ufffd pair", KOREAN, "마지막 글"]
    assert [document.id for document in documents] == ["mixed/mixed.jsonl:1", "mixed/7", "mixed/mixed.jsonl:10", "mixed/mixed.jsonl:12"]
    assert documents[1].split == "valid"
    assert [(item.line, item.reason) for item in broken] == [
        (2, "not JSON"), (3, "no text field"), (4, "no JSON object"), (5, "text is no string"), (6, "undecodable"), (8, "binary"), (11, "not JSON"),
    ]  # fmt: skip
    assert broken[1].detail == "needs text or document or content or body or sentence; has other; say curation.text_fields=NAME"
    assert all(item.file == str(path) and len(item.start) <= lines.SHOWN for item in broken)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".txt"])
def test_every_encoding_of_every_format(tmp_path, encoding, suffix):
    second = "두 번째, 글이다"
    content = {
        ".jsonl": json_lines(KOREAN, second),
        ".json": json.dumps([{"text": KOREAN}, {"text": second}], ensure_ascii=False, indent=2),
        ".csv": f'text,n\n{KOREAN},1\n"{second}",2\n',
        ".tsv": f"text\tn\n{KOREAN}\t1\n{second}\t2\n",
        ".txt": f"{KOREAN}\n\n{second}\n",
    }[suffix]
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content.encode(encoding))
    documents, broken = read(path)
    assert broken == []
    expected = [f"{KOREAN}\n\n{second}"] if suffix == ".txt" else [KOREAN, second]
    assert [document.text for document in documents] == expected


def test_encodings_are_told_apart():
    assert detect_encoding("첫 줄\n둘째 줄\n".encode("utf-16-le")) == "utf-16-le"
    assert detect_encoding("첫 줄\n둘째 줄\n".encode("utf-16-be")) == "utf-16-be"
    assert detect_encoding(b"\x7fELF\x00\x01\x02\x00\x80\x91\x00") == "bytes"
    assert decode_line(KOREAN.encode("cp949")) == KOREAN
    # CP949 has syllables beyond KS X 1001: few of them are no reason to refuse a line.
    assert decode_line("똠방각하가 펲시콜라를 마신다고 했다".encode("cp949")) == "똠방각하가 펲시콜라를 마신다고 했다"
    for damaged in (KOREAN.encode()[:-2], KOREAN.encode()[1:], "café".encode("latin-1"), "来週、駅で".encode("shift-jis")):
        with pytest.raises(ValueError, match="neither UTF-8"):
            decode_line(damaged)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=200))
def test_utf8_is_always_read_as_it_is(text):
    assert decode_line(text.encode()) == text


def test_a_gigantic_line_is_cut_off_and_the_next_one_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE", 1000)
    for encoding in ("utf-8", "utf-16"):
        path = tmp_path / "big.jsonl"
        path.write_bytes(json_lines("앞", "가" * 5000, "뒤").encode(encoding))
        documents, broken = read(path)
        assert [document.text for document in documents] == ["앞", "뒤"]
        assert [(item.line, item.reason) for item in broken] == [(2, "too long")] and "가가" in broken[0].start


def test_the_last_line_may_lack_its_end_and_be_long(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_LINE", 20)
    (tmp_path / "a.txt").write_bytes(b"short\n" + b"x" * 100)
    documents, broken = read(tmp_path / "a.txt")
    assert [document.text for document in documents] == ["short"] and [item.reason for item in broken] == ["too long"]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_files_whole_truncated_and_not_packed_at_all(tmp_path, suffix, pack):
    texts = [f"{number}번째 글 {os.urandom(20).hex()}" for number in range(5000)]
    packed = pack(json_lines(*texts).encode())
    path = tmp_path / f"file.jsonl{suffix}"
    path.write_bytes(packed)
    assert texts_of(path) == texts
    path.write_bytes(packed[: len(packed) // 2])
    documents, broken = read(path)
    got = [document.text for document in documents]
    assert 500 < len(got) < 5000 and got == texts[: len(got)]
    assert [item.reason for item in broken] == ["damaged"] and broken[0].line == len(got) + 1
    path.write_bytes(b"this was never packed\n")
    assert [item.reason for item in read(path)[1]] == ["damaged"]
    (tmp_path / f"list.json{suffix}").write_bytes(pack(json.dumps([{"text": text} for text in texts]).encode())[: len(packed) // 2])
    documents, broken = read(tmp_path / f"list.json{suffix}")
    assert documents and [item.reason for item in broken][-1] == "damaged"


def test_csv_with_quotes_line_ends_and_a_mark_never_closed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        'id,text\n1,"쉼표, 있음"\n2,"두\n줄"\n3,"닫지 않은 따옴표\n4,넷째\n5,다섯째,너무 많음\n6,"큰 ""따옴표"" 글"\n7,일곱째\n', encoding="utf-8"
    )
    documents, broken = read(path)
    assert [(document.id, document.text) for document in documents] == [
        ("a/1", "쉼표, 있음"), ("a/2", "두\n줄"), ("a/4", "넷째"), ("a/6", '큰 "따옴표" 글'), ("a/7", "일곱째"),
    ]  # fmt: skip
    assert [(item.line, item.reason) for item in broken] == [(5, "quotation mark not closed"), (7, "columns")]


def test_csv_whose_stray_mark_meets_another_is_not_swallowed(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{number},글 {number}" for number in range(40)]
    rows[5], rows[30] = '5,"열기만', '30,"또 열기만'
    path.write_text("id,text\n" + "\n".join(rows) + "\n", encoding="utf-8")
    documents, broken = read(path)
    assert len(documents) == 38 and len(broken) == 2


def test_tsv_with_bare_quotes_and_a_wrong_number_of_columns(tmp_path):
    path = tmp_path / "ratings_test.txt"
    path.write_text('id\tdocument\tlabel\n1\t"여는 따옴표만\t0\n2\t없는 칸\n3\t끝\t1\n', encoding="utf-8")
    documents, broken = read(path)
    assert [document.text for document in documents] == ['"여는 따옴표만', "끝"]
    assert [(item.line, item.reason, item.detail) for item in broken] == [(3, "columns", "2 instead of 3")]


def test_json_lists_of_any_form_and_with_broken_objects(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    rows = [{"text": f"{number} 번 {{중괄호}} [대괄호] \\"} for number in range(300)]
    for content in (json.dumps(rows), json.dumps({"data": rows}), json.dumps(rows, indent=4), "\n".join(map(json.dumps, rows))):
        path.write_text(content)
        monkeypatch.setattr(lines, "PIECE", 97)  # objects go over the ends of pieces
        documents, broken = read(path)
        assert [document.text for document in documents] == [row["text"] for row in rows] and broken == []
    path.write_text('[{"text": "하나"},\n{"text": 잘못},\n{"text": "셋"},\n{"text": "끊', encoding="utf-8")
    documents, broken = read(path)
    assert [document.text for document in documents] == ["하나", "셋"]
    assert [(item.line, item.reason) for item in broken] == [(2, "not JSON"), (4, "not JSON")]
    path.write_text("")
    assert [item.reason for item in read(path)[1]] == ["empty file"]


def test_text_files_become_documents_of_paragraphs(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(f"{number} " + "글" * 999 for number in range(10)), encoding="utf-8")
    documents, _ = read(path)
    assert len(documents) == 3 and documents[1].id == "book/book.txt:8"
    assert "".join("".join(document.text.split()) for document in documents).count("글") == 9990


def test_parquet_read_in_batches_and_damaged(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    texts = [f"{number}번" for number in range(1000)] + [None]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "n": range(1001)}), path)
    assert texts_of(path) == [*texts[:-1], ""]
    path.write_bytes(path.read_bytes()[:-100])
    assert [item.reason for item in read(path)[1]] == ["damaged"]


def test_a_data_set_saved_by_datasets(tmp_path):
    import datasets

    texts = [f"{number}번 글" for number in range(700)]
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(tmp_path / "set"))
    source = Source(str(tmp_path / "set"))
    assert [item.text for item in source] == texts and source.position() == source.size
    arrow = next((tmp_path / "set").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-2000])
    documents, broken = read(arrow)
    assert [item.reason for item in broken] == ["damaged"] and len(documents) < 700


def test_a_binary_file_is_one_broken_record(tmp_path):
    path = tmp_path / "photo.txt"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400)
    assert [(item.line, item.reason) for item in read(path)[1]] == [(1, "binary file")]
    # One bad line in an ordinary file is another matter.
    path.write_bytes("한 줄\n".encode() * 50 + b"\x00\x01\n" + "끝\n".encode())
    assert [(item.line, item.reason) for item in read(path)[1]] == [(51, "binary")]


def test_the_fields_that_hold_the_text_may_be_named(tmp_path):
    path = tmp_path / "chat.csv"
    path.write_text("Q,A,label\n안녕?,반가워요.,0\n뭐 해?,,1\n", encoding="utf-8")
    documents = list(Source(str(path), ("Q", "A")))
    assert [document.text for document in documents] == ["안녕?\n\n반가워요.", "뭐 해?"]
    assert {item.reason for item in Source(str(path))} == {"no text field"}


def test_a_folder_is_read_in_order_without_hidden_files(tmp_path):
    for name, text in (("b.txt", "둘"), ("a/c.txt", "하나"), (".git/x.txt", "숨음"), ("photo.jpg", "그림")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    source = Source(str(tmp_path))
    assert [item.text for item in source] == ["하나", "둘"] and source.position() == source.size == len("하나둘".encode())


def test_what_is_not_there_is_told_before_anything_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nothing\.txt"):
        Source(str(tmp_path / "nothing.txt"))
    with pytest.raises(ValueError, match="no text files"):
        Source(str(tmp_path))
    with pytest.raises(ValueError, match="did you mean 'nsmc'"):
        Source("nsmcc")


def test_an_unreadable_or_empty_file_is_one_broken_record(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "b.txt").symlink_to(tmp_path / "b.txt")
    reader = list(LineReader(tmp_path / "b.txt"))
    assert [(item.reason, item.line) for item in reader] == [("unreadable", 1)]
    assert [(item.reason, item.line) for item in read(tmp_path / "a.txt")[1]] == [("empty file", 0)]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt", ".txt.gz", ".parquet"]))
def test_no_bytes_make_it_fall_over(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("any") / f"f{suffix}"
    path.write_bytes(content)
    for item in Source(str(path)):
        assert isinstance(item, (Document, Broken))
        json.dumps(item.as_values() if isinstance(item, Broken) else item.to_json()).encode()


@given(st.text(max_size=50))
def test_whole_characters_can_always_be_written(text):
    whole = whole_characters(text + "\ud83d")
    assert whole.encode() and whole_characters("\ud83d\ude00") == "😀"
    assert records.MAX_LINE > 0
