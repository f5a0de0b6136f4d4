"""The commands ``workshop check``, ``solution``, ``quiz``, ``progress`` and ``class-report``: their options and their work."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_quiz_options(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--week", type=int, metavar="N", help="the quiz of week N; without it: which quizzes there are")
    which.add_argument("--chapter", type=int, metavar="N", help="the quiz of chapter N of the book study")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--wrong", action="store_true", help="ask only what was answered wrongly")
    how.add_argument("--restart", action="store_true", help="forget the answers and begin anew")
    how.add_argument("--once", action="store_true", help="ask one question and end")
    how.add_argument("--question", metavar="ID", help="ask this question alone")
    how.add_argument("--list", action="store_true", help="the questions and whether they were answered rightly")
    how.add_argument("--checkpoints", action="store_true", help="the guide's checkpoint questions with model answers")
    how.add_argument("--page", action="store_true", help="the quiz as a page in the browser")
    parser.add_argument("--answer", metavar="TEXT", help="with --question: the answer, nothing is asked")
    parser.add_argument("--port", type=int, default=7861, help="where the page listens on 127.0.0.1 (default: 7861)")
    parser.add_argument("--name", help="your name in the progress file (default: $WORKSHOP_NAME, else Git's user.name)")


def add_progress_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="your name from now on")
    parser.add_argument("--out", metavar="FILE", help="where the page goes (default: .workshop/progress.html)")


def add_class_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="folder with the participants' progress.json files, under any names")
    parser.add_argument("--out", metavar="DIR", help="where the page and the tables go (default: DIR/class-report)")
    parser.add_argument("--join-names", action="store_true", help="files of one name are one participant's (two computers)")


def add_lesson_options(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--week", type=int, metavar="N", help="the exercises of week N")
    which.add_argument("--chapter", type=int, metavar="N", help="the exercises of chapter N of the book study")
    parser.add_argument("--exercise", metavar="NAME", help="this exercise alone")


def check(options: argparse.Namespace) -> int:
    """Grade; 0 only if every exercise, or the one named, passes."""
    from llm_workshop.learning.check import check as grade_and_show

    return grade_and_show(_lesson(options), options.exercise)


def solution(options: argparse.Namespace) -> int:
    """Show a solution; 1 where the exercise was never tried."""
    from llm_workshop.learning.solution import solution as show_solution

    return show_solution(_lesson(options), options.exercise, options.force)


def _lesson(options: argparse.Namespace) -> str:
    return f"ch{options.chapter}" if options.week is None else f"week{options.week}"


def quiz(options: argparse.Namespace) -> int:
    """Ask the questions of a quiz; 0 whatever the answers are."""
    from llm_workshop.learning.progress_store import ProgressStore
    from llm_workshop.learning.quiz import known_quizzes, load_quiz
    from llm_workshop.learning.quiz_session import QuizSession

    if options.week is None and options.chapter is None:
        names = known_quizzes()
        if not options.page:
            print("quizzes: " + (", ".join(names) or "none"))
            print("start one with --week N or --chapter N (--page: in the browser)")
            return 0
        chosen = names
    else:
        chosen = [f"week{options.week:02}" if options.week is not None else f"ch{options.chapter:02}"]
    if options.answer is not None and options.question is None:
        raise ValueError("--answer needs --question ID: `--list` shows the names of the questions")
    store = ProgressStore()
    if options.name:
        store.update(lambda progress: progress, name=options.name)
    loaded = [load_quiz(name) for name in chosen]
    if options.page:
        from llm_workshop.learning.quiz_page import serve_quizzes

        serve_quizzes(loaded, store, options.port)
        return 0
    from llm_workshop.learning import quiz_terminal as terminal

    console = terminal.new_console()
    if options.checkpoints:
        terminal.show_checkpoints(loaded[0], console)
        return 0
    session = QuizSession(loaded[0], store, restart=options.restart, wrong_again=options.wrong, only=options.question)
    if options.list:
        terminal.show_list(session, console)
    elif options.answer is not None:
        question = session.queue[0]
        answer = question.read(options.answer)
        terminal.show_verdict(question, answer, session.answer(answer), console)
    else:
        terminal.ask_all(session, console, once=options.once)
    return 0


def progress(options: argparse.Namespace) -> int:
    """Show the participant's progress and write its page."""
    from llm_workshop.learning.course import read_course
    from llm_workshop.learning.progress_store import ProgressStore
    from llm_workshop.learning.progress_view import show_progress, write_progress_page

    store = ProgressStore()
    present = store.update(lambda p: p, name=options.name) if options.name else store.read()
    course = read_course()
    show_progress(present, course)
    page = write_progress_page(present, course, Path(options.out or store.path.with_name("progress.html")))
    print(f"page: {page}\nfile: {store.path}")
    return 0


def class_report(options: argparse.Namespace) -> int:
    """Join the participants' files into one report; 1 if a file could not be used."""
    from llm_workshop.learning.class_report import report_on_class

    return report_on_class(Path(options.folder), Path(options.out) if options.out else None, options.join_names)


#: What a command of the learning machinery adds to its parser.
LEARNING_OPTIONS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "quiz": add_quiz_options,
    "progress": add_progress_options,
    "class-report": add_class_options,
    "check": add_lesson_options,
    "solution": add_lesson_options,
}
