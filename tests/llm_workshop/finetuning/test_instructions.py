"""Instruction data by name: the sample, files of both forms, what is refused."""

from __future__ import annotations

import gzip
import json

import pytest

from llm_workshop.finetuning.instructions import example_of, load_instructions


def question(example) -> str:
    return "\n".join(message["content"] for message in example.prompt if message["role"] == "user")


def write(path, rows) -> str:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


def rows(n: int, task: str = "덧셈") -> list[dict]:
    return [{"instruction": f"{i} 더하기 1은?", "input": "", "output": str(i + 1), "task": task, "id": f"{task}-{i}"} for i in range(n)]


def test_the_sample_has_conversations_and_three_tasks_whose_answers_are_known():
    data = load_instructions(["sample"], megabytes=0.1, seed=3)
    assert data.tasks == ["감성", "관계", "대화", "독해"]
    answers = {task: {e.answer for e in data.train if e.task == task} for task in data.tasks}
    assert answers["감성"] == {"긍정", "부정", "복합"} and answers["관계"] <= {"함의", "중립", "모순"}
    assert all(e.messages[-1]["role"] == "assistant" and e.answer for e in data.train)
    # A reading's answer stands in its text; a review's mark does not stand in its question.
    readings = [e for e in data.train if e.task == "독해"]
    assert sum(e.answer in question(e) for e in readings) > 0.8 * len(readings)
    assert not any("별점" in question(e) or "/10" in question(e) for e in data.train if e.task == "감성")
    assert not {question(e) for e in data.train} & {question(e) for e in data.valid}
    again = load_instructions(["sample"], megabytes=0.1, seed=3)
    assert again == data != load_instructions(["sample"], megabytes=0.1, seed=4)


def test_a_file_holds_out_a_tenth_and_no_question_is_in_both(tmp_path):
    path = write(tmp_path / "mine.jsonl", [*rows(50), *rows(50)[19:23]])
    data = load_instructions([path])
    assert len(data.valid) == 6 and data.repeated == 2
    assert not {question(e) for e in data.train} & {question(e) for e in data.valid}
    assert len(data.train) + data.repeated + len(data.valid) == 54
    assert [str(file) for file in data.files] == [path]


def test_caps_and_tasks(tmp_path):
    path = write(tmp_path / "mine.jsonl", [*rows(100), *[row | {"instruction": row["instruction"] + "?"} for row in rows(100, "또 덧셈")]])
    data = load_instructions([path], max_examples=20, per_task=3)
    assert len(data.train) == 20 and [e.task for e in data.valid] == ["덧셈"] * 3 + ["또 덧셈"] * 3
    only = load_instructions([path], tasks=["또 덧셈"])
    assert {e.task for e in (*only.train, *only.valid)} == {"또 덧셈"}
    with pytest.raises(ValueError, match=r"no task '뺄셈' in the data.*it has 덧셈, 또 덧셈"):
        load_instructions([path], tasks=["뺄셈"])


def test_conversations_from_a_file(tmp_path):
    talk = [{"role": "user", "content": "안녕?"}, {"role": "assistant", "content": "네!"}]
    example = example_of({"messages": talk, "task": "인사"})
    assert example.messages == tuple(talk) and example.answer == "네!" and example.task == "인사"
    assert example_of({"instruction": "가", "output": "나"}, "이름").task == "이름"
    for bad in ({"messages": "안녕"}, {"messages": [{"role": "user"}]}, {"text": "가"}):
        with pytest.raises(ValueError, match=r"messages must be|needs the fields"):
            example_of(bad)


def test_the_sets_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"instruct\.data=sft_ko: no files at .*derived_sft_ko.*instruct.data=sample"):
        load_instructions(["sft_ko"])
    (tmp_path / "derived_sft_ko").mkdir()
    (tmp_path / "english").mkdir()
    for name, part in (("train", rows(8)), ("valid", rows(3, "검증"))):
        with gzip.open(tmp_path / "derived_sft_ko" / f"{name}.jsonl.gz", "wt", encoding="utf-8") as stream:
            stream.write("\n".join(json.dumps(row, ensure_ascii=False) for row in part))
    data = load_instructions(["sft_ko"])
    assert (len(data.train), data.repeated, len(data.valid)) == (5, 3, 3)
    (tmp_path / "english/instruction-data.json").write_text(json.dumps([{k: r[k] for k in ("instruction", "input", "output")} for r in rows(20)]))
    book = load_instructions(["book"])
    assert len(book.train) == 18 and book.tasks == ["book"]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["smaple"], ValueError, "unknown instructions 'smaple' .did you mean 'sample'"),
        (["nowhere.jsonl"], FileNotFoundError, "no file nowhere.jsonl"),
    ],
)
def test_unknown_names(names, error, message):
    with pytest.raises(error, match=message):
        load_instructions(names)


def test_a_broken_row_is_named(tmp_path):
    path = write(tmp_path / "mine.jsonl", [*rows(3), {"instruction": "답이 없음"}])
    with pytest.raises(ValueError, match=r"mine.jsonl, row 4: an instruction needs the fields instruction and output"):
        load_instructions([path])
    with pytest.raises(ValueError, match="0 examples to learn from and 1 to ask"):
        load_instructions([write(tmp_path / "one.jsonl", rows(1))])


def test_the_real_set(shared_data, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    if not (shared_data / "derived_sft_ko").is_dir():
        pytest.skip("the Korean instructions are not in the shared data")
    data = load_instructions(["sft_ko"])
    assert len(data.train) > 39_000 and len(data.valid) > 1_300
    assert {"sentiment", "copa", "boolq", "title"} <= set(data.tasks)
