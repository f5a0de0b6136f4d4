"""Tasks of classification: the sample's truth, files, what is left out, what is refused."""

import gzip
import json
import re

import pytest

from llm_workshop.corpora.sample.generator import generate
from llm_workshop.finetuning import tasks
from llm_workshop.finetuning.tasks import body_of, load_task


def test_the_sample_keeps_its_truth_and_no_mark_gives_it_away():
    task = load_task("reviews", max_examples=60)
    truth = {body_of(d.text): d.truth["sentiment"] for split in ("train", "valid") for d in generate(0.2, split=split, kinds="review")}
    names = {"negative": "부정", "mixed": "복합", "positive": "긍정"}
    assert len(task.train) == 60 and len(task.valid) == len(task.test) == 16
    for split in ("train", "valid", "test"):
        examples = task.split(split)
        assert [task.class_names[label] for label in examples.labels] == [names[truth[text]] for text in examples.texts]


def test_no_body_of_a_review_tells_its_mark():
    for document in generate(0.3, kinds="review"):
        body = body_of(document.text)
        assert body and not re.search(r"\d/10|[★☆]|\d+점|^\[|^제목: ", body), document.text


def test_categories_are_a_task_too():
    task = load_task("reviews-category", max_examples=80)
    assert task.class_names == ("책", "영화", "물건", "강의", "숙소", "식당") and set(task.train.labels) == set(range(6))


def test_the_same_seed_gives_the_same_task():
    assert load_task("reviews", max_examples=16, seed=1) == load_task("reviews", max_examples=16, seed=1)
    assert load_task("reviews", max_examples=16, seed=1) != load_task("reviews", max_examples=16, seed=2)


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


ROWS = [{"text": f"글 {n}", "label": "가" if n % 3 else "나"} for n in range(60)]


def test_a_file_of_ones_own(tmp_path):
    task = load_task(write(tmp_path / "mine.jsonl", ROWS))
    assert task.class_names == ("가", "나") and len(task.test) == 6 and len(task.valid) == 10 and len(task.train) == 44
    texts = [set(task.split(split).texts) for split in ("train", "valid", "test")]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    truth = {row["text"]: row["label"] for row in ROWS}
    assert all(task.class_names[label] == truth[text] for text, label in zip(task.train.texts, task.train.labels))
    csv = tmp_path / "mine.csv"
    csv.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS), encoding="utf-8")
    assert sorted(load_task(str(csv)).train.texts + load_task(str(csv)).valid.texts + load_task(str(csv)).test.texts) == sorted(truth)


def test_the_number_zero_is_a_class(tmp_path):
    assert load_task(write(tmp_path / "mine.jsonl", [{**row, "label": int(row["label"] == "가")} for row in ROWS])).class_names == ("0", "1")


def test_a_cap_is_on_the_training_texts_and_the_others_get_a_quarter(tmp_path):
    task = load_task(write(tmp_path / "mine.jsonl", ROWS), max_examples=16)
    assert (len(task.train), len(task.valid), len(task.test)) == (16, 4, 4)


def test_empty_repeated_and_contradictory_texts_are_left_out_and_counted(tmp_path):
    more = [{"text": "  ", "label": "가"}, {"text": "글 1", "label": "가"}, {"text": "싸움", "label": "가"}, {"text": "싸움", "label": "나"}]
    task = load_task(write(tmp_path / "mine.jsonl", ROWS + more * 3))
    assert "싸움" not in task.train.texts and task.dropped["empty"] == 3
    assert task.dropped["repeated"] + task.dropped.get("contradictory", 0) + sum(len(task.split(s)) for s in ("train", "valid", "test")) == 69
    for split in ("train", "valid"):
        assert len(set(task.split(split).texts)) == len(task.split(split))


def test_the_sets_files_are_read_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / "nsmc").mkdir()
    (tmp_path / "english").mkdir()
    head = "id\tdocument\tlabel\n"
    lines = [f'{n}\t영화 {n} "재미\t{n % 2}\n' for n in range(40)]
    with gzip.open(tmp_path / "nsmc" / "train.tsv.gz", "wt", encoding="utf-8") as stream:
        stream.write(head + "".join(lines) + "99\t\t1\n")
    (tmp_path / "nsmc" / "test_a.tsv").write_text(head + "100\t영화 3 \"재미\t1\n101\t새 영화\t0\n", encoding="utf-8")
    task = load_task("nsmc")
    assert task.class_names == ("부정", "긍정") and dict(zip(task.test.texts, task.test.labels)) == {'영화 3 "재미': 1, "새 영화": 0}
    assert '영화 3 "재미' not in task.train.texts + task.valid.texts, "what is tested is not learnt"
    assert task.dropped == {"repeated": 1, "empty": 1} and len(task.train) + len(task.valid) == 39
    (tmp_path / "english" / "SMSSpamCollection.tsv").write_text("".join(f"{'spam' if n % 4 == 0 else 'ham'}\ttext {n}\n" for n in range(40)), encoding="utf-8")
    sms = load_task("sms")
    assert sms.class_names == ("보통", "스팸") and sum(len(sms.split(s)) for s in ("train", "valid", "test")) == 40
    assert all((int(text.split()[1]) % 4 == 0) == bool(label) for text, label in zip(sms.train.texts, sms.train.labels))


@pytest.mark.parametrize(("rows", "message"), [
    ([{"text": "글"}], "row 1 has no label"), ([{"label": "가"}], "no label or no text"),
    ([*ROWS[:20], {"text": "이름 없음", "label": " "}], "row 21: the field label is empty"),
    ([{"text": f"글 {n}", "label": ""} for n in range(20)], "row 1: the field label is empty: name the text's class"),
    ([{"text": "글", "label": None}], "row 1: the field label is empty"),
    ([{"text": f"글 {n}", "label": "가"} for n in range(20)], "one class only, '가'"),
    ([{"text": "글", "label": "가"}, {"text": "말", "label": "나"}], "no texts in its test part"),
    ([*ROWS, {"text": "혼자", "label": "다"}][-12:], "no training text of class"),
])  # fmt: skip
def test_files_that_are_no_task(tmp_path, rows, message):
    # Of twelve rows one class has a single one: where it is not learnt, it cannot be told.
    path = write(tmp_path / "mine.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        for seed in range(40):
            load_task(path, seed=seed)


def test_a_class_that_the_set_does_not_know_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    (tmp_path / "nsmc").mkdir()
    (tmp_path / "nsmc" / "train.tsv").write_text("id\tdocument\tlabel\n1\t영화\t2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="row 1: class '2' is not one of 0, 1"):
        load_task("nsmc")


def test_unknown_names_and_missing_files(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"unknown task 'nsmcc' \(did you mean 'nsmc'\?\)"):
        load_task("nsmcc")
    with pytest.raises(FileNotFoundError, match="set DATA_DIR"):
        load_task("nsmc")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_task("there/is/none.jsonl")
    with pytest.raises(ValueError, match="max_examples 3"):
        load_task("reviews", max_examples=3)


@pytest.mark.parametrize("name", tasks.SETS)
def test_the_real_sets(name, shared_data, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    task = load_task(name, max_examples=400)
    assert len(task.train) > 300 and len(task.class_names) in (2, 7, 17)
