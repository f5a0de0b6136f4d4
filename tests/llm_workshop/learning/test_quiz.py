"""The schema of quizzes: reading answers, judging them, and errors that name the place."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm_workshop.learning.question import plain
from llm_workshop.learning.quiz import Quiz, known_quizzes, load_quiz, read_quiz

COMMON = {"question": "무엇입니까?", "explanation": "그러니까요.", "reference": "실습"}
KINDS = {
    "choice": {"choices": ["가", "나", "다"], "answer": 2},
    "multiple": {"choices": ["가", "나", "다"], "answer": [3, 1]},
    "order": {"choices": ["가", "나", "다"], "answer": [2, 3, 1]},
    "number": {"answer": 1024, "tolerance": 0.5},
    "short": {"answer": ["KV 캐시", "KV cache"]},
    "output": {"code": "print('가\\n나 ')", "answer": "가\n나"},
}


def question(kind, **more):
    return {"id": f"a-{kind}", "type": kind, **COMMON, **KINDS[kind], **more}


def quiz(*questions, **more):
    return Quiz.model_validate({"week": 3, "title": "시험", "questions": list(questions), **more})


def one(kind, **more):
    return quiz(question(kind, **more)).questions[0]


@pytest.mark.parametrize(("kind", "typed", "right"), [
    ("choice", "2", True), ("choice", " 2번", True), ("choice", "②", True), ("choice", "3", False),
    ("multiple", "1 3", True), ("multiple", "3,1", True), ("multiple", "13", True), ("multiple", "1, 1, 3", True),
    ("multiple", "1", False), ("multiple", "1 2 3", False),
    ("order", "2 3 1", True), ("order", "231", True), ("order", "2 → 3 → 1", True), ("order", "1 2 3", False),
    ("number", "1,024", True), ("number", "1024.5", True), ("number", "2048/2", True), ("number", "1.024e3", True),
    ("number", "１０２４", True), ("number", "1025", False), ("number", "-1024", False),
    ("short", "kv캐시", True), ("short", "KV-Cache", True), ("short", "“KV 캐시”", True), ("short", "캐시", False),
    ("output", "가\n나", True), ("output", "\n가  \n나\n", True), ("output", "가 나", False), ("output", "가\n\n나", False),
])
def test_answers_as_people_type_them(kind, typed, right):
    asked = one(kind)
    assert asked.is_right(asked.read(typed)) is right


@pytest.mark.parametrize(("kind", "typed"), [
    ("choice", ""), ("choice", "4"), ("choice", "0"), ("choice", "1 2"), ("choice", "가"),
    ("multiple", " "), ("multiple", "1 4"), ("order", "1 2"), ("order", "1 1 2"), ("order", "1 2 3 1"),
    ("number", "천"), ("number", ""), ("number", "1/0"), ("number", "inf"), ("number", "nan"), ("number", "1 GB"),
    ("short", "  "), ("short", "--"), ("output", " \n "),
])
def test_what_is_no_answer_is_asked_again(kind, typed):
    with pytest.raises(ValueError, match=r"[가-힣]"):
        one(kind).read(typed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_answer_that_is_shown_is_right(kind):
    asked = one(kind)
    shown = asked.right_answer()
    typed = " ".join(line.split(")")[0].strip("*") for line in shown.splitlines()) if "choices" in KINDS[kind] else shown.split(" (±")[0]
    assert asked.is_right(asked.read(typed))


def test_tolerance_is_within_and_not_beyond():
    exact = one("number", tolerance=0)
    assert exact.is_right(1024.0) and not exact.is_right(1024.0001)
    tenth = one("number", answer=0.3, tolerance=0.1)
    assert tenth.is_right(0.4) and tenth.is_right(0.2) and not tenth.is_right(0.41)


def test_spellings_are_compared_without_case_spaces_and_marks():
    assert plain("Byte-Pair  Encoding.") == plain("`byte pair encoding`") != plain("bytepair")


@pytest.mark.parametrize(("bad", "words"), [
    (question("choice", answer=4), "'a-choice': answer 4 is outside of 1..3"),
    (question("choice", answer=True), "'a-choice', field answer"),
    (question("choice", choices=["가", "가"]), "'a-choice', field choices: two choices are the same"),
    (question("choice", choices=["가"]), "'a-choice', field choices"),
    (question("choice", hint="?"), "'a-choice', field hint: Extra inputs"),
    (question("multiple", answer=[1, 1]), "'a-multiple': answer names a choice twice"),
    (question("multiple", answer=[]), "'a-multiple', field answer"),
    (question("order", answer=[1, 2]), "'a-order': answer is no order of 1..3"),
    (question("order", answer=[1, 2, 3]), "in the right order already"),
    (question("number", answer="3"), "'a-number', field answer"),
    (question("number", answer=float("nan")), "no finite number"),
    (question("number", tolerance=-1), "'a-number', field tolerance"),
    (question("short", answer=["맞는 말", "-."]), "'a-short', field answer: a spelling has nothing but marks"),
    (question("output", check="print(1)"), "'a-output', field check"),
    (question("short", explanation=" "), "'a-short', field explanation"),
    ({**question("short"), "id": "Not OK"}, "'Not OK', field id"),
    ({**question("short"), "type": "essay"}, "'a-short'"),
    ("no mapping", "question 1"),
])
def test_a_mistake_in_a_quiz_names_file_question_and_field(tmp_path, bad, words):
    path = tmp_path / "week03.yaml"
    path.write_text(yaml.safe_dump({"week": 3, "title": "시험", "questions": [bad]}, allow_unicode=True))
    with pytest.raises(ValueError) as problem:
        read_quiz(path)
    assert str(path) in str(problem.value) and words in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(("text", "words"), [
    ("week: [", "is no YAML"), ("week: 3\ntitle: t\nquestions: []", "field questions"), ("- 1", "dictionary"),
    ("title: t\nquestions: &q\n  - {id: a, type: short, question: q, answer: [b], explanation: e, reference: r}", "either a week or a chapter"),
])
def test_a_broken_file_is_named(tmp_path, text, words):
    (tmp_path / "week03.yaml").write_text(text)
    with pytest.raises(ValueError, match=words) as problem:
        load_quiz("week03", tmp_path)
    assert "week03.yaml" in str(problem.value)


def test_two_questions_of_one_id_and_a_file_of_another_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two questions have the id a-short"):
        quiz(question("short"), question("short"))
    (tmp_path / "week04.yaml").write_text(yaml.safe_dump({"week": 3, "title": "t", "questions": [question("short")]}))
    with pytest.raises(ValueError, match="it says week03"):
        load_quiz("week04", tmp_path)
    with pytest.raises(ValueError, match="no quiz week09: there are week04"):
        load_quiz("week09", tmp_path)


def test_chapters_have_quizzes_too(tmp_path):
    for name in ("ch02", "week10", "week03"):
        (tmp_path / f"{name}.yaml").touch()
    assert known_quizzes(tmp_path) == ["week03", "week10", "ch02"]
    found = Quiz.model_validate({"chapter": 2, "title": "글", "questions": [question("short")]})
    assert found.name == "ch02" and found.heading == "2장. 글"


def test_the_digest_of_a_question_changes_with_it_and_not_with_its_explanation():
    asked = one("choice")
    assert asked.digest == one("choice", explanation="달리 말하면").digest != one("choice", answer=3).digest


@given(st.text(max_size=40) | st.text("0123456789 ,./-e①", max_size=12), st.sampled_from(sorted(KINDS)))
def test_whatever_is_typed_is_an_answer_or_is_asked_again(typed, kind):
    asked = one(kind)
    try:
        answer = asked.read(typed)
    except ValueError as problem:
        assert str(problem)
        return
    # Answers are kept as JSON, where a tuple becomes a list.
    assert asked.is_right(answer) is asked.is_right(json.loads(json.dumps(answer)))
