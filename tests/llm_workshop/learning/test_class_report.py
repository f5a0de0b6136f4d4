"""The class report: whose files are one participant's, what is hard, and files that cannot be used."""

import csv
import json
import time

import pytest

from llm_workshop.learning.class_report import Item, items_of, read_class, report_on_class, write_csv
from llm_workshop.learning.course import Unit, read_course
from llm_workshop.learning.progress import record_answer, record_check, record_step
from llm_workshop.learning.progress_store import ProgressStore
from llm_workshop.learning.progress_view import counts, show_progress, what_next, write_progress_page

COURSE = [
    Unit("week01", "환경", ("week01-hello",), (), ()),
    Unit("week03", "토크나이저", ("week03-tokenizer", "week03-compare"), ("merge", "encode"), ("q1", "q2"), ("몇 <바이트>입니까?", "왜?")),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("WORKSHOP_NAME", raising=False)
    (tmp_path / "class").mkdir()
    return tmp_path / "class"


def hand_in(path, name, steps=(), checks=None, answers=()):
    store = ProgressStore(path)
    store.update(lambda progress: progress, name=name)
    for step in steps:
        record_step(step, store)
    if checks:
        record_check("week03", checks, store)
    for question, right in answers:
        record_answer("week03", question, right, store)
    return store


def test_each_participant_is_one_row_however_many_files(folder):
    store = hand_in(folder / "a.json", "김하늘", ["week01-hello"])
    (folder / "b.json").write_text(store.path.read_text())
    record_step("week03-tokenizer", ProgressStore(folder / "b.json"))
    hand_in(folder / "sub" / "c.json", "이바다")
    people, problems = read_class(folder)
    assert [p.participant.name for p in people] == ["김하늘", "이바다"] and not problems
    assert set(people[0].steps) == {"week01-hello", "week03-tokenizer"}


def test_two_of_one_name_are_told_apart_or_joined_on_request(folder):
    hand_in(folder / "a.json", "김하늘", ["week01-hello"])
    hand_in(folder / "b.json", "김하늘", ["week03-tokenizer"])
    people, _ = read_class(folder)
    names = [p.participant.name for p in people]
    assert len(set(names)) == 2 and all(name == f"김하늘 ({p.participant.id[:4]})" for name, p in zip(names, people))
    [joined], _ = read_class(folder, join_names=True)
    assert joined.participant.name == "김하늘" and len(joined.steps) == 2


def test_what_is_hard_comes_first_and_few_tries_weigh_less(folder):
    for i in range(4):
        hand_in(folder / f"{i}.json", f"사람{i}", checks={"merge": (4, 4), "encode": (4 if i == 0 else 1, 4)},
                answers=[("q1", i < 3), *([("q2", False), ("q2", True)] if i == 0 else [])])
    people, _ = read_class(folder)
    found = {item.name: item for item in items_of(people)}
    assert found["encode"] == Item("week03", "연습 문제", "encode", 4, 1, None, 1)
    assert found["q1"] == Item("week03", "퀴즈", "q1", 4, 3, 0.75, 1)
    assert found["q2"] == Item("week03", "퀴즈", "q2", 1, 1, 0.0, 2)
    assert [item.name for item in items_of(people)][:2] == ["q2", "encode"]  # 2/3 and 2/3 by Laplace's rule; more tries are harder
    assert found["q2"].hardness == pytest.approx(2 / 3) and found["merge"].hardness == pytest.approx(1 / 6)


def test_files_that_cannot_be_used_are_named_and_the_rest_is_reported(folder, capsys):
    hand_in(folder / "good.json", "김하늘", ["week01-hello"], {"merge": (4, 4)}, [("q1", True)])
    (folder / "half.json").write_text('{"schema": 1,')
    (folder / "newer.json").write_text('{"schema": 99}')
    (folder / "quiz-week03.json").write_text('{"answers": {}}')  # a participant's own answers are not read
    older = json.loads((folder / "good.json").read_text())
    older["participant"] = {"id": "0" * 32, "name": "=1+1"}
    for section in ("schema", "scores", "questions"):
        del older[section]
    (folder / "older.json").write_text(json.dumps(older))
    assert report_on_class(folder, course=COURSE) == 1
    shown = capsys.readouterr()
    assert "half.json" in shown.err and "newer.json" in shown.err and "update this checkout" in shown.err
    assert "quiz-week03" not in shown.err and len(shown.err.splitlines()) == 2
    rows = list(csv.DictReader((folder / "class-report/participants.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [(row["이름"], row["실습"], row["연습 문제"], row["퀴즈"]) for row in rows] == [("'=1+1", "1", "1", "0"), ("김하늘", "1", "1", "1")]
    page = (folder / "class-report/class.html").read_text()
    assert "김하늘" in page and "=1+1" in page and "src=" not in page and "몇 &lt;바이트&gt;입니까?" in page
    for name in ("half.json", "newer.json"):
        (folder / name).unlink()
    assert report_on_class(folder, course=COURSE) == 0, "its own tables are not read as participants"


def test_an_exercise_does_not_get_the_words_of_a_question_of_its_name(folder):
    hand_in(folder / "a.json", "가", checks={"q1": (1, 2)}, answers=[("q2", True)])
    report_on_class(folder, course=COURSE)
    page = (folder / "class-report/class.html").read_text()
    assert "왜?" in page and "몇 &lt;바이트" not in page
    rows = list(csv.DictReader((folder / "class-report/items.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["주차"] for row in rows] == ["3주차", "3주차"]


def test_times_are_those_of_the_clock_on_the_wall(folder, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        found = hand_in(folder / "a.json", "가").read().model_copy(update={"updated": "2026-03-01T20:05:00+00:00"})
        (folder / "a.json").write_text(found.model_dump_json(by_alias=True))
        report_on_class(folder, course=COURSE)
        page = (folder / "class-report/class.html").read_text()
        own = write_progress_page(found, COURSE, folder / "p.html").read_text()
        assert "2026-03-02 05:05" in page and "2026-03-02 05:05" in own and "UTC" not in page + own
        assert "2026-03-02" in (folder / "class-report/participants.csv").read_text()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_names_are_text_on_the_page(folder):
    hand_in(folder / "a.json", "<img src=x>", ["week01-hello"], answers=[("<b>", True)])
    report_on_class(folder, course=COURSE)
    page = (folder / "class-report/class.html").read_text()
    assert "<img" not in page and "<b>" not in page and "&lt;img src=x&gt;" in page


def test_no_file_at_all_is_an_error(folder, tmp_path):
    with pytest.raises(ValueError, match="no usable progress file"):
        read_class(folder)
    with pytest.raises(ValueError, match="is no folder"):
        read_class(tmp_path / "nowhere")


def test_a_table_without_rows_is_still_a_file(tmp_path):
    write_csv(tmp_path / "items.csv", [])
    assert (tmp_path / "items.csv").read_text() == "\ufeff"


# --- one participant ----------------------------------------------------------------------------------------------------

def test_a_unit_counts_what_it_has(folder):
    found = hand_in(folder / "a.json", "가", ["week03-compare-small", "week09-gone"], {"merge": (4, 4), "encode": (1, 4), "old": (1, 1)},
                    [("q1", False), ("q2", False), ("q2", True), ("gone", True)]).read()
    assert counts(found, COURSE[1]) == {"실습": (1, 2), "연습 문제": (1, 2), "퀴즈": (1, 2)}
    assert counts(found, COURSE[0]) == {"실습": (0, 1)}


def test_the_next_thing_is_of_the_week_that_was_begun(folder):
    store = hand_in(folder / "a.json", "가")
    assert what_next(store.read(), COURSE) == "make week1-hello"
    record_step("week03-tokenizer", store)
    assert what_next(store.read(), COURSE) == "make week3-compare"
    record_step("week03-compare", store)
    record_check("week03", {"merge": (4, 4)}, store)
    assert what_next(store.read(), COURSE) == "make week3-check EX=encode"
    record_check("week03", {"encode": (4, 4)}, store)
    assert what_next(store.read(), COURSE) == "make week3-quiz"
    for question in ("q1", "q2"):
        record_answer("week03", question, True, store)
    assert what_next(store.read(), COURSE) == "make week1-hello"
    record_step("week01-hello", store)
    assert what_next(store.read(), COURSE) is None
    page = write_progress_page(store.read(), COURSE, folder / "out" / "p.html").read_text()
    assert "모두 마쳤습니다" in page and page.count('<li class="done"') == 7 and '<li class="open"' not in page


def test_the_terminal_shows_a_line_for_each_week(folder, capsys):
    show_progress(hand_in(folder / "a.json", "가", ["week03-tokenizer"], answers=[("q1", False)]).read(), COURSE)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("3주차"))
    assert line.split() == ["3주차", "토크나이저", "1/2", "0/2", "0/2", "0/1"]


# --- the course ---------------------------------------------------------------------------------------------------------

def test_the_course_is_read_from_the_checkout(tmp_path):
    lab = tmp_path / "labs" / "week03_tokenizers"
    lab.mkdir(parents=True)
    for name in ("tokenizer", "compare", "apart", "exercises", "solutions"):
        (lab / f"{name}.py").touch()
    (lab / "README.md").write_text("# 3주차. 한국어 토크나이저\n```\nmake week3-tokenizer\nmake week3-compare\n```\n")
    (lab / "test_exercises.py").write_text(
        "raise SystemExit('read, not run')\n"
        "@exercise('merge', hint='…')\ndef test_a(submission): ...\n"
        "@exercise('encode', hint='…')\ndef test_b(submission): ...\n"
        "@exercise('merge', hint='…')\ndef test_c(submission): ...\n"
    )
    assert read_course(tmp_path) == [Unit("week03", "한국어 토크나이저", ("week03-tokenizer", "week03-compare", "week03-apart"), ("merge", "encode"), ())]


def test_a_question_begins_without_its_marks_and_ends_at_a_word(tmp_path):
    quizzes = tmp_path / "workshop" / "quizzes"
    quizzes.mkdir(parents=True)
    question = {"type": "short", "answer": ["답"], "explanation": "까닭", "reference": "실습"}
    (quizzes / "week03.yaml").write_text(json.dumps({"week": 3, "title": "시험", "questions": [
        {"id": "a", "question": "`BPE`의 **두 번째** 병합은?\n\n- 가나 3번", **question}, {"id": "b", "question": "가나 " * 40, **question},
    ]}))
    [unit] = read_course(tmp_path)
    assert unit.questions == ("a", "b") and unit.wordings[0] == "BPE의 두 번째 병합은?"
    assert unit.wordings[1].endswith("가나 …") and len(unit.wordings[1]) <= 66


def test_this_checkout_has_its_weeks(repository):
    course = {unit.name: unit for unit in read_course(repository)}
    assert course["week03"].label == "3주차" and "week03-tokenizer" in course["week03"].steps and len(course["week03"].questions) >= 20
