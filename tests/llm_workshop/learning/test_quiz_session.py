"""Going through a quiz: what is kept, what is asked again, what a terminal and a pipe see."""

import io
import json
import os
import subprocess
import sys

import pytest
import yaml
from rich.console import Console

from llm_workshop.learning.progress_store import ProgressStore
from llm_workshop.learning.quiz import Quiz
from llm_workshop.learning.quiz_session import QuizSession
from llm_workshop.learning.quiz_terminal import ask_all, show_checkpoints, show_list

WORDS = {"explanation": "까닭은 **이렇습니다**.", "reference": "실습 3"}
QUIZ = {
    "week": 3, "title": "시험", "questions": [
        {"id": "one", "type": "choice", "question": "고르세요", "choices": ["가", "`나`", "다"], "answer": 2, **WORDS},
        {"id": "two", "type": "number", "question": "몇?", "answer": 7, **WORDS},
        {"id": "three", "type": "output", "question": "무엇?", "code": "print('가')\nprint('나')", "answer": "가\n나", **WORDS},
    ],
    "checkpoints": [{"question": "왜일까요?", "answer": "그렇기 때문입니다."}],
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return ProgressStore(tmp_path / "progress.json")


@pytest.fixture
def quiz():
    return Quiz.model_validate(QUIZ)


def talk(session, *typed, **how):
    """What the terminal shows when these lines are typed, then Ctrl-D."""
    lines, out = list(typed), io.StringIO()

    def read_line(prompt):
        if not lines:
            raise EOFError
        return lines.pop(0)

    ask_all(session, Console(file=out, width=80), read_line, **how)
    assert not lines, f"not asked for: {lines}"
    return out.getvalue()


def test_an_interrupted_quiz_goes_on_and_ends_with_the_score(store, quiz):
    first = talk(QuizSession(quiz, store), "2", "5")
    assert "맞았습니다" in first and "정답:" in first and "남은 문제 1개" in first and store.read().scores == {}
    second = talk(QuizSession(quiz, store), "가", "나")
    assert "이어서 풉니다" in second and "고르세요" not in second
    assert "3문제 가운데 2개를 맞혔습니다 (67%)" in second and "two: 실습 3" in second
    [score] = store.read().scores["week03"]
    assert (score.right, score.of, score.again) == (2, 3, False)
    assert "모두 답했습니다" in talk(QuizSession(quiz, store))


def test_only_what_was_wrong_is_asked_again(store, quiz):
    talk(QuizSession(quiz, store), "1", "5", "가", "나")
    again = talk(QuizSession(quiz, store, wrong_again=True), "2", "8")
    assert "무엇?" not in again and "3문제 가운데 2개" in again
    talk(QuizSession(quiz, store, wrong_again=True), "7")
    assert [(s.right, s.of, s.again) for s in store.read().scores["week03"]][1:] == [(1, 2, True), (1, 1, True)]
    with pytest.raises(ValueError, match="틀린 문제가 없습니다"):
        QuizSession(quiz, store, wrong_again=True)
    assert store.read().questions["week03"]["one"].first_right is False


def test_a_question_put_off_comes_last(store, quiz):
    shown = talk(QuizSession(quiz, store), ":s", "7", "가", "나", "2")
    assert shown.index("몇?") < shown.index("무엇?") < shown.rindex("고르세요") and "3개를 맞혔습니다 (100%)" in shown


def test_what_cannot_be_an_answer_is_asked_again_and_not_counted(store, quiz):
    shown = talk(QuizSession(quiz, store), "9", "", "2", ":q")
    assert shown.count("1부터 3까지의 번호로") == 2
    assert store.read().questions["week03"]["one"].tries == 1


def test_commands_work_on_every_line_of_an_answer(store, quiz):
    shown = talk(QuizSession(quiz, store, only="three"), "가", ":x", "나")
    assert ":x: 여기서 쓸 수 있는 명령은 :q(그만두기)입니다" in shown and "맞았습니다" in shown
    talk(QuizSession(quiz, store), ":s", "7", "2")
    session = QuizSession(quiz, store, restart=True)
    shown = talk(session, "2", "7", "가", ":s", "가", ":q")
    assert "정답" not in shown and "남은 문제 1개" in shown and store.read().questions["week03"]["three"].tries == 1


def test_an_unknown_command_is_no_wrong_answer(store, quiz):
    shown = talk(QuizSession(quiz, store), ":quit", ":", ":q")
    assert shown.count("명령은 :s(나중에 풀기)와 :q(그만두기)입니다") == 2 and not store.path.exists()


def test_ctrl_c_keeps_what_was_answered(store, quiz):
    typed = iter(["2"])

    def read_line(prompt):
        if line := next(typed, None):
            return line
        raise KeyboardInterrupt

    out = io.StringIO()
    ask_all(QuizSession(quiz, store), Console(file=out, width=80), read_line)
    assert "여기까지 저장했습니다. 남은 문제 2개" in out.getvalue() and QuizSession(quiz, store).score() == (1, 3)


def test_restart_forgets_the_answers_and_keeps_the_history(store, quiz):
    talk(QuizSession(quiz, store), "2", "7", "가", "나")
    session = QuizSession(quiz, store, restart=True)
    assert len(session.queue) == 3 and session.score() == (0, 3)
    assert len(store.read().scores["week03"]) == 1 and store.read().questions["week03"]["one"].first_right


def test_one_question_at_a_time(store, quiz):
    assert "남은 문제 2개" in talk(QuizSession(quiz, store), "2", once=True)
    talk(QuizSession(quiz, store, only="three"), "가", "나")
    assert [q.id for q in QuizSession(quiz, store).queue] == ["two"]
    talk(QuizSession(quiz, store, only="two"), "7")
    assert [(s.right, s.of) for s in store.read().scores["week03"]] == [(3, 3)]
    with pytest.raises(ValueError, match="no question 'four'"):
        QuizSession(quiz, store, only="four")


def test_a_question_that_was_changed_is_asked_anew(store, quiz):
    talk(QuizSession(quiz, store), "2", "7")
    changed = Quiz.model_validate({**QUIZ, "questions": [{**QUIZ["questions"][0], "answer": 3}, *QUIZ["questions"][1:]]})
    assert [q.id for q in QuizSession(changed, store).queue] == ["one", "three"]


@pytest.mark.parametrize("damage", ["{", "[]", '{"answers": {"one": 3}}', '{"answers": null}'])
def test_a_damaged_answer_file_begins_the_quiz_anew(store, quiz, damage, capsys):
    talk(QuizSession(quiz, store), "2")
    session = QuizSession(quiz, store)
    session.path.write_text(damage)
    assert len(QuizSession(quiz, store).queue) == 3 and "begins anew" in capsys.readouterr().err


def test_answers_stay_in_their_own_file(store, quiz):
    talk(QuizSession(quiz, store), "1", "4321")
    assert json.loads(store.path.with_name("quiz-week03.json").read_text())["answers"]["two"]["answer"] == 4321
    assert "4321" not in store.path.read_text()


def test_the_list_shows_the_state_of_each(store, quiz):
    talk(QuizSession(quiz, store), "2", "5")
    out = io.StringIO()
    show_list(QuizSession(quiz, store), Console(file=out, width=80))
    assert "1  ○  one" in out.getvalue() and "2  ×  two" in out.getvalue() and "3  ·  three" in out.getvalue()


def test_the_model_answer_comes_after_one_has_thought(quiz):
    out = io.StringIO()

    def read_line(prompt):
        assert "왜일까요" in out.getvalue() and "그렇기" not in out.getvalue()
        return ""

    show_checkpoints(quiz, Console(file=out, width=80), read_line)
    assert "그렇기 때문입니다" in out.getvalue()


# --- the command ----------------------------------------------------------------------------------------------------

@pytest.fixture
def checkout(tmp_path):
    for folder in ("labs", "workshop/quizzes"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "workshop/quizzes/week03.yaml").write_text(yaml.safe_dump(QUIZ, allow_unicode=True))
    return tmp_path


def workshop(folder, *arguments, typed=""):
    environment = {k: v for k, v in os.environ.items() if k not in ("WORKSHOP_PROGRESS", "WORKSHOP_NAME")}
    return subprocess.run([sys.executable, "-m", "llm_workshop.cli", *arguments], cwd=folder, env=environment, input=typed,
                          capture_output=True, text=True, timeout=60)


def test_the_command_takes_answers_from_a_pipe(checkout):
    done = workshop(checkout, "quiz", "--week", "3", "--name", "이바다", typed="2\n7\n가\n나\n")
    assert done.returncode == 0 and "3개를 맞혔습니다 (100%)" in done.stdout and not done.stderr
    shown = workshop(checkout, "progress")
    assert shown.returncode == 0 and "이바다님의 진도" in shown.stdout and "3/3" in shown.stdout
    page = (checkout / ".workshop/progress.html").read_text()
    assert "이바다님의 진도" in page and "http" not in page.replace('xmlns="http', "")


def test_one_answer_on_the_command_line(checkout):
    done = workshop(checkout, "quiz", "--week", "3", "--question", "two", "--answer", "7")
    assert done.returncode == 0 and "맞았습니다" in done.stdout and "답>" not in done.stdout


@pytest.mark.parametrize(("arguments", "words"), [
    (("--week", "4"), "there is no quiz week04: there are week03"),
    (("--week", "3", "--question", "none"), "has no question 'none'"),
    (("--week", "3", "--answer", "7"), "--answer needs --question"),
    (("--week", "3", "--question", "two", "--answer", "칠"), "수 하나를"),
    (("--week", "3", "--page", "--port", "80000"), "--port 80000 is no port: choose one from 1 to 65535"),
    (("--week", "3", "--wrong"), "틀린 문제가 없습니다"),
])
def test_mistakes_are_one_line(checkout, arguments, words):
    done = workshop(checkout, "quiz", *arguments)
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1


def test_without_a_week_it_says_what_there_is(checkout):
    assert "quizzes: week03" in workshop(checkout, "quiz").stdout
