"""Quizzes as a page in the browser, on this machine alone.  The answers are the terminal's: one may go on with the other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

# Gradio resolves the annotations of event handlers, so its name must be known to this module.
import gradio as gr

from llm_workshop.learning import quiz_words as words
from llm_workshop.learning.progress_store import ProgressStore
from llm_workshop.learning.question import Answer, Question
from llm_workshop.learning.quiz import Quiz
from llm_workshop.learning.quiz_session import QuizSession
from llm_workshop.serving import look
from llm_workshop.serving.serve import try_to_listen

HOST = "127.0.0.1"
LAST_PORT = 65_535


class QuizPage:
    """What the page's events do; each reads the files anew, so several tabs and the terminal agree."""

    def __init__(self, quizzes: Sequence[Quiz], store: ProgressStore):
        if not quizzes:
            raise ValueError("there is no quiz to show: workshop/quizzes/ has none")
        self.quizzes = {quiz.name: quiz for quiz in quizzes}
        self.store = store

    def session(self, name: str) -> QuizSession:
        return QuizSession(self.quizzes[name], self.store)

    def first_open(self, name: str) -> int:
        """Place of the first question that is not answered; 0 if all are."""
        session = self.session(name)
        left = session.unanswered()
        return session.quiz.questions.index(left[0]) if left else 0

    def next_wrong(self, name: str, place: int) -> int:
        """Place of the next question that was answered wrongly, going round; the same place if there is none."""
        questions, session = self.quizzes[name].questions, self.session(name)
        for step in range(1, len(questions) + 1):
            there = (place + step) % len(questions)
            if session.state(questions[there]) is False:
                return there
        return place

    def show(self, name: str, place: int) -> list[Any]:
        """Updates for the outputs of ``build``: a question as it is asked."""
        session = self.session(name)
        question = session.quiz.questions[place]
        labels = words.choice_labels(question)
        shown = {
            "choice": gr.update(choices=labels, value=None, visible=question.type == "choice"),
            "multiple": gr.update(choices=labels, value=[], visible=question.type == "multiple"),
            "order": gr.update(choices=labels, value=[], visible=question.type == "order"),
            "line": gr.update(value="", visible=question.type in ("number", "short")),
            "lines": gr.update(value="", visible=question.type == "output", lines=max(2, getattr(question, "n_lines", 2))),
        }
        return [place, self._places(session, place), words.score(session), words.question(question, place, session), *shown.values(),
                words.how(question), "", words.checkpoints(session.quiz)]  # fmt: skip

    def answer(self, name: str, place: int, choice, multiple, order, line: str, lines: str) -> list[Any]:
        """Grade what was put in: updates for the places, the score and the verdict."""
        session = self.session(name)
        question = session.quiz.questions[place]
        try:
            answer = read_input(question, choice, multiple, order, line, lines)
            right = session.answer(answer, question)
        except (ValueError, OSError) as problem:
            return [gr.skip(), gr.skip(), words.problem(problem)]
        return [self._places(session, place), words.score(session), words.verdict(question, right)]

    def _places(self, session: QuizSession, place: int):
        marks = {True: " ○", False: " ×", None: ""}
        choices = [(f"{i + 1}{marks[session.state(q)]}", i) for i, q in enumerate(session.quiz.questions)]
        return gr.update(choices=choices, value=place)


def read_input(question: Question, choice, multiple, order, line: str, lines: str) -> Answer:
    """The answer in the inputs; choices come as their numbers.  ValueError in Korean for none, or one that cannot be."""
    typed = {
        "choice": "" if choice is None else str(choice),
        "multiple": " ".join(map(str, multiple or ())),
        "order": " ".join(map(str, order or ())),
        "number": line or "",
        "short": line or "",
        "output": lines or "",
    }[question.type]
    return question.read(typed)


def build(quizzes: Sequence[Quiz], store: ProgressStore) -> gr.Blocks:
    """The page as Gradio Blocks."""
    logic = QuizPage(quizzes, store)
    names = list(logic.quizzes)
    with gr.Blocks(title=words.TITLE, analytics_enabled=False) as page:
        gr.HTML(words.HEADER, padding=False)
        which = gr.Dropdown([(quiz.heading, quiz.name) for quiz in quizzes], value=names[0], label="퀴즈", elem_id="which", filterable=False)
        place = gr.State(0)
        with gr.Tabs(elem_id="parts"):
            with gr.Tab("문제"):
                score = gr.HTML("", padding=False)
                places = gr.Radio([], label="문제 번호", show_label=False, container=False, elem_id="places")
                body = gr.HTML("", elem_id="question", padding=False)
                inputs = [
                    gr.Radio([], label="하나 고르기", visible=False, show_label=False, container=False, elem_id="choice", elem_classes="choices"),
                    gr.CheckboxGroup([], label="모두 고르기", visible=False, show_label=False, container=False, elem_id="multiple", elem_classes="choices"),
                    gr.Dropdown([], multiselect=True, label="차례대로 고르기", visible=False, elem_id="order"),
                    gr.Textbox(label="답", visible=False, show_label=False, container=False, elem_id="line", placeholder="답"),
                    gr.Textbox(label="찍히는 글", visible=False, show_label=False, container=False, elem_id="lines", placeholder="찍히는 글을 그대로"),
                ]
                how = gr.HTML("", padding=False)
                with gr.Row(elem_id="buttons"):
                    back = gr.Button("이전", elem_id="back")
                    submit = gr.Button("답하기", variant="primary", elem_id="submit")
                    forward = gr.Button("다음", elem_id="forward")
                    wrong = gr.Button("틀린 문제로", elem_id="wrong")
                verdict = gr.HTML("", elem_id="verdict", padding=False)
            with gr.Tab("체크포인트 질문"):
                points = gr.HTML("", elem_id="points", padding=False)
        shown = [place, places, score, body, *inputs, how, verdict, points]

        def go(step: int):
            return lambda name, there: logic.show(name, (there + step) % len(logic.quizzes[name].questions))

        quiet = {"show_progress": "hidden", "queue": False}
        for event in (page.load, which.change):
            event(lambda name: logic.show(name, logic.first_open(name)), which, shown, **quiet)
        places.input(logic.show, [which, places], shown, **quiet)
        back.click(go(-1), [which, place], shown, **quiet)
        forward.click(go(1), [which, place], shown, **quiet)
        wrong.click(lambda name, there: logic.show(name, logic.next_wrong(name, there)), [which, place], shown, **quiet)
        for event in (submit.click, inputs[3].submit):
            event(logic.answer, [which, place, *inputs], [places, score, verdict], **quiet)
    return page


def launch(page: gr.Blocks, port: int) -> str:
    """Serve the page in the background; its address.  OSError in one line if the port is taken, ValueError if it is none."""
    if not 1 <= port <= LAST_PORT:
        raise ValueError(f"--port {port} is no port: choose one from 1 to {LAST_PORT}, e.g. --port 7861")
    # A container listens on all of its own addresses; Docker publishes the port on 127.0.0.1 of the machine around it.
    host = "0.0.0.0" if os.environ.get("WORKSHOP_CONTAINER") else HOST
    try:
        try_to_listen(host, port)
    except OSError as error:
        raise OSError(f"port {port} cannot be used ({error.strerror}): choose another with --port {port + 1 if port < LAST_PORT else port - 1}") from None
    # A proxy meant for the outside must not be asked for pages of this machine.
    for name in ("NO_PROXY", "no_proxy"):
        known = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join(dict.fromkeys([*known, "localhost", HOST]))
    page.launch(server_name=host, server_port=port, share=False, prevent_thread_lock=True, quiet=True, ssr_mode=False,
                footer_links=[], max_file_size="1kb", theme=look.theme(), css=words.CSS, head=words.HEAD)
    return f"http://{HOST}:{port}"


def serve_quizzes(quizzes: Sequence[Quiz], store: ProgressStore, port: int) -> None:
    """Open the page and stay until Ctrl-C or SIGTERM."""
    page = build(quizzes, store)
    print(f"quiz page: {launch(page, port)}  (Ctrl-C closes it)", flush=True)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    while not done.wait(timeout=1.0):
        pass
    page.close(verbose=False)
    print("\nquiz page closed", flush=True)
