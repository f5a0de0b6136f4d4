"""A quiz on the terminal: questions, answers, explanations.  Answers may also come through a pipe, a line each."""

from __future__ import annotations

import contextlib
import re
import sys
import textwrap
from collections.abc import Callable

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from llm_workshop.learning.question import Answer, Question
from llm_workshop.learning.quiz import Quiz
from llm_workshop.learning.quiz_session import QuizSession

STOP, SKIP = ":q", ":s"
_COMMAND = re.compile(r":\w*")
WIDTH = 100


class Stopped(Exception):
    """The participant stops here; what was answered is kept."""


class Skipped(Exception):
    """The participant puts this question off."""


def new_console() -> Console:
    console = Console(highlight=False)
    return Console(highlight=False, width=min(console.width, WIDTH))


def ask_all(session: QuizSession, console: Console, read_line: Callable[[str], str] | None = None, once: bool = False) -> None:
    """Ask the questions of the queue until it is empty, or one of them; then tell the score.

    ``read_line(prompt)``: None reads the keyboard.  ``:s`` puts a question off, ``:q`` or the end of the input stops.
    """
    read_line = read_line or _keyboard(console)
    quiz = session.quiz
    answered = len(quiz.questions) - len(session.unanswered())
    console.print(Text(f"\n{quiz.heading} 퀴즈", style="bold"))
    if not session.queue:
        tell_score(session, console)
        console.print("모두 답했습니다. 처음부터 다시: --restart (make에서는 ARGS=--restart)")
        return
    if answered and not session.again and not session.alone:
        console.print(f"{answered}문제에 이미 답했습니다. 이어서 풉니다. (처음부터 다시: --restart, make에서는 ARGS=--restart)")
    console.print(f"{SKIP} 나중에 풀기   {STYLE_STOP}   답은 그때그때 저장됩니다.", style="dim")
    try:
        while session.queue:
            ask_one(session, console, read_line)
            if once:
                break
    except Stopped:
        console.print(f"\n여기까지 저장했습니다. 남은 문제 {len(session.queue)}개. 같은 명령으로 이어서 풀 수 있습니다.")
        return
    if not session.queue and not session.alone:
        tell_score(session, console)
    elif not session.alone:
        console.print(f"\n남은 문제 {len(session.queue)}개.")


STYLE_STOP = f"{STOP} 그만두기"


def ask_one(session: QuizSession, console: Console, read_line: Callable[[str], str]) -> None:
    """Ask the first question of the queue; a skipped one goes to its end."""
    question = session.queue[0]
    number = session.quiz.questions.index(question) + 1
    show_question(question, f"{number}/{len(session.quiz.questions)}", console)
    while True:
        try:
            answer = question.read(_read(question, console, read_line, may_skip=not session.alone))
            break
        except Skipped:
            session.skip()
            return
        except ValueError as problem:
            console.print(str(problem), style="yellow")
    show_verdict(question, answer, session.answer(answer), console)


def show_question(question: Question, number: str, console: Console) -> None:
    console.print()
    console.rule(Text(f"{number}  {question.id}"), align="left", style="dim")
    console.print(Markdown(question.question))
    if code := getattr(question, "code", None):
        console.print()
        # In the terminal's own colour: highlighting that reads well on a dark ground does not on a light one.
        console.print(Text(textwrap.indent(code, "    "), style="bold"))
    if choices := getattr(question, "choices", None):
        console.print()
        for place, choice in enumerate(choices, 1):
            console.print(Markdown(f"**{place}**) {choice}"))
    console.print()
    lines = f" ({question.n_lines}줄)" if question.type == "output" else ""
    console.print(f"{question.how}{lines}", style="dim")


def show_verdict(question: Question, answer: Answer, right: bool, console: Console) -> None:
    console.print()
    if right:
        console.print(Text("○ 맞았습니다.", style="bold green"))
    else:
        console.print(Text("× 다시 볼 문제입니다.", style="bold red"), Text("정답:", style="bold"))
        if question.type in ("choice", "multiple", "order"):
            console.print(Markdown(question.right_answer().replace("\n", "  \n")))
        else:
            console.print(Text(question.right_answer()))
    console.print(Markdown(question.explanation))
    console.print(Text(f"더 읽기: {question.reference}", style="dim"))


def tell_score(session: QuizSession, console: Console) -> None:
    """The score, and what to read again for each question that is still wrong."""
    right, of = session.score()
    console.print()
    console.rule(style="dim")
    console.print(Text(f"{of}문제 가운데 {right}개를 맞혔습니다 ({right / of:.0%}).", style="bold"))
    wrong = session.wrong()
    if wrong:
        console.print("다시 볼 문제:")
        for question in wrong:
            console.print(Text(f"  {question.id}: {question.reference}"))
        console.print("틀린 문제만 다시: --wrong (make에서는 ARGS=--wrong)")
    if session.quiz.checkpoints:
        console.print(f"체크포인트 질문 {len(session.quiz.checkpoints)}개와 예시 답: --checkpoints (make에서는 ARGS=--checkpoints)")


def show_list(session: QuizSession, console: Console) -> None:
    """All questions with their state."""
    for number, question in enumerate(session.quiz.questions, 1):
        mark = {True: "○", False: "×", None: "·"}[session.state(question)]
        console.print(Text(f"{number:3}  {mark}  {question.id}"))
    right, of = session.score()
    console.print(f"○ 맞음 {right}  × 틀림 {len(session.wrong())}  · 아직 {len(session.unanswered())}  (모두 {of})")


def show_checkpoints(quiz: Quiz, console: Console, read_line: Callable[[str], str] | None = None) -> None:
    """The guide's checkpoint questions; the model answer after Enter, so that one thinks first."""
    if not quiz.checkpoints:
        raise ValueError(f"quiz {quiz.name} has no checkpoint questions")
    read_line = read_line or _keyboard(console)
    console.print(Text(f"\n{quiz.heading} 체크포인트 질문", style="bold"))
    for number, checkpoint in enumerate(quiz.checkpoints, 1):
        console.print()
        console.rule(Text(f"{number}/{len(quiz.checkpoints)}"), align="left", style="dim")
        console.print(Markdown(checkpoint.question))
        try:
            if read_line("\n먼저 답을 생각해 보고 Enter를 누르면 예시 답이 나옵니다. ").strip() == STOP:
                return
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        console.print()
        console.print(Markdown(checkpoint.answer))


def _read(question: Question, console: Console, read_line: Callable[[str], str], may_skip: bool) -> str:
    """What was typed: a line, or as many as the program of an ``output`` question prints; commands work on each.

    Raises:
        Stopped: ``:q``, Ctrl-C or the end of the input.
        Skipped: ``:s``, where ``may_skip``.
    """
    wanted = question.n_lines if question.type == "output" else 1
    lines: list[str] = []
    try:
        while len(lines) < wanted:
            line = read_line("  > " if lines else "답> ")
            command = line.strip()
            if command == STOP:
                raise Stopped
            if command == SKIP and may_skip:
                raise Skipped
            if _COMMAND.fullmatch(command):
                allowed = f"{SKIP}(나중에 풀기)와 {STOP}(그만두기)" if may_skip else f"{STOP}(그만두기)"
                console.print(Text(f"{command}: 여기서 쓸 수 있는 명령은 {allowed}입니다. 이 줄을 다시 써 주세요.", style="yellow"))
                continue
            lines.append(line)
    except (EOFError, KeyboardInterrupt):
        raise Stopped from None
    return "\n".join(lines)


def _keyboard(console: Console) -> Callable[[str], str]:
    """``input``, with line editing where the system has it; what comes through a pipe is shown as it is read."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    if sys.stdin is not None and sys.stdin.isatty():
        return input

    def from_pipe(prompt: str) -> str:
        line = input(prompt)
        console.print(Text(line))
        return line

    return from_pipe
