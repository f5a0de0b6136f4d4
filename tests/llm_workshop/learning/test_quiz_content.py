"""The quizzes themselves: every answer that can be computed is computed and compared."""

import contextlib
import io
import re
from collections import Counter

import pytest

from llm_workshop.learning.quiz import known_quizzes, load_quiz, read_quiz
from llm_workshop.learning.quiz_words import choice_labels, prose

TYPES = {"choice", "multiple", "number", "short", "order", "output"}


@pytest.fixture(scope="module")
def folder(request):
    return request.config.rootpath / "workshop" / "quizzes"


def names(root):
    return known_quizzes(root / "workshop" / "quizzes")


def pytest_generate_tests(metafunc):
    root = metafunc.config.rootpath
    if "quiz" in metafunc.fixturenames:
        metafunc.parametrize("quiz", names(root), indirect=True)
    if "proved" in metafunc.fixturenames:
        quizzes = [load_quiz(name, root / "workshop" / "quizzes") for name in names(root)]
        cases = [(q.name, question) for q in quizzes for question in q.questions if question.check or question.type == "output"]
        metafunc.parametrize("proved", [case[1] for case in cases], ids=[f"{name}-{question.id}" for name, question in cases])


@pytest.fixture
def quiz(request, folder):
    return load_quiz(request.param, folder)


def test_an_answer_that_can_be_computed_is_what_its_program_prints(proved):
    program = proved.code if proved.type == "output" else proved.check
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(program, proved.id, "exec"), {"__name__": "__main__"})
    assert proved.is_right(proved.read(out.getvalue())), f"it prints {out.getvalue()!r}, the quiz says {proved.answer!r}"


def test_a_week_asks_enough_and_in_every_way(quiz):
    kinds = Counter(question.type for question in quiz.questions)
    assert sum(kinds.values()) >= 20 and set(kinds) == TYPES
    assert len(quiz.checkpoints) >= 3
    for question in quiz.questions:
        assert question.type != "number" or question.check, f"{question.id}: a number is proved by a program"
        assert len(question.explanation) >= 60, f"{question.id}: say why, and why not the others"
        for text in (question.question, question.explanation):
            assert re.search("[가-힣]", text) and "�" not in question.question


def test_the_right_choice_is_not_always_in_the_same_place(quiz):
    places = Counter(question.answer for question in quiz.questions if question.type == "choice")
    assert max(places.values()) <= 0.75 * places.total() and len(places) >= 3, places


def test_every_text_can_be_shown_on_the_page(quiz):
    for question in quiz.questions:
        labels = choice_labels(question)
        assert len({label for label, _ in labels}) == len(labels)
        shown = prose(question.question) + prose(question.explanation)
        assert "**" not in shown and not re.search(r"<script|\$\\", shown), question.id


def words(text):
    return " ".join(re.sub(r"[$`\\]", "", text).split())


def test_the_checkpoint_questions_of_the_guide_have_model_answers(quiz, request):
    """The guide and the quiz ask the same questions in the same words: whoever changes one changes both.

    Formulas are TeX in the guide and code in the quiz, which a terminal shows.
    """
    if not (guides := list(request.config.rootpath.glob(f"labs/{quiz.name}_*/README.md"))):
        pytest.skip(f"{quiz.name} has no guide yet")
    section = guides[0].read_text(encoding="utf-8").split("## 체크포인트 질문", 1)[1].split("\n## ", 1)[0]
    asked = [words(part.split("\n\n")[0]) for part in re.split(r"^\d+\. ", section, flags=re.MULTILINE)[1:]]
    assert [words(checkpoint.question) for checkpoint in quiz.checkpoints] == asked


def test_a_quiz_has_the_title_of_its_guide(quiz, request):
    for guide in request.config.rootpath.glob(f"labs/{quiz.name}_*/README.md"):
        assert guide.read_text(encoding="utf-8").splitlines()[0] == f"# {quiz.heading}"


def test_no_quiz_is_left_out(folder):
    assert {read_quiz(path).name for path in folder.glob("*.yaml")} == set(known_quizzes(folder)) != set()
