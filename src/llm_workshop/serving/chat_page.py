"""The chat page: Korean, streaming, with sampling controls, measured speed, and thumbs under each answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

# Gradio resolves the annotations of event handlers, so its name must be known to this module.
import gradio as gr

from llm_workshop.serving import look, words
from llm_workshop.serving.chat_log import browser_value, chat_log, hello
from llm_workshop.serving.engine import ChatEngine
from llm_workshop.serving.feedback.rating import store_rating
from llm_workshop.serving.session import ChatSession
from llm_workshop.serving.turns import sampling_from_controls, turns_of
from llm_workshop.serving.words import CHAT, COMPLETE

if TYPE_CHECKING:
    from llm_workshop.serving.feedback.store import FeedbackStore
    from llm_workshop.settings import Settings


class Parts(NamedTuple):
    """The components that events connect."""

    header: gr.HTML
    log: gr.HTML
    box: gr.Textbox
    status: gr.HTML
    mode: gr.Radio
    clear: gr.Button
    model: gr.Dropdown
    card: gr.HTML
    controls: list[gr.components.Component]


def build_page(
    engines: ChatEngine | Sequence[ChatEngine], settings: Settings, feedback: FeedbackStore | None = None
) -> gr.Blocks:
    """The page as Gradio Blocks; ``page.session`` is its ChatSession (close it with the page).

    With several engines people choose among them; ``feedback`` keeps ratings (None leaves the thumbs out).
    """
    session = ChatSession(engines, settings)
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, fill_width=True) as page:
        _connect(page, session, _layout(session, settings, feedback))
    page.session = session
    return page


def _layout(session: ChatSession, settings: Settings, feedback: FeedbackStore | None) -> Parts:
    info = session.info()
    start = CHAT if info.supports_chat else COMPLETE
    header = gr.HTML(words.header(info), elem_id="masthead", padding=False)
    with gr.Row(elem_id="room", equal_height=False):
        with gr.Column(elem_id="talk", scale=1, min_width=300):
            with gr.Row(elem_id="bar"):
                mode = gr.Radio([CHAT, COMPLETE], value=start, show_label=False, container=False, elem_id="mode")
                clear = gr.Button("새로 시작", elem_id="clear", size="sm")
            value = browser_value([], hello(start, info.supports_chat))
            log = chat_log(value, _rater(session, settings, feedback), len(session.models) > 1)
            box = gr.Textbox(
                placeholder=words.BOX[start], show_label=False, label="메시지", container=False, lines=1, max_lines=6,
                elem_id="box", submit_btn=words.SEND, stop_btn=False,
            )  # fmt: skip
            status = gr.HTML("", elem_id="status", padding=False)
        with gr.Column(elem_id="panel", scale=0, min_width=280):
            several = len(session.models) > 1
            model = gr.Dropdown(
                session.models, value=session.models[0], label="모델", elem_id="models", visible=several, filterable=False
            )
            controls = _controls(settings, max(b.info.context_length for b in session.backends.values()))
            card = gr.HTML(words.model_card(info), elem_id="model", padding=False)
    return Parts(header, log, box, status, mode, clear, model, card, controls)


def _controls(settings: Settings, context_length: int) -> list[gr.components.Component]:
    """The sampling controls, in the order of ``sampling_from_controls``."""
    now = settings.generate
    longest = max(now.max_new_tokens, context_length)
    # Settings may lie outside the customary ranges; then the range grows to hold them.
    with gr.Accordion("생성 설정", open=True, elem_id="sampling"):
        first = [
            gr.Slider(0, max(2, now.temperature), now.temperature, step=0.05, label="온도 (temperature)", info="낮으면 안정되게, 높으면 다양하게"),
            gr.Slider(0, max(200, now.top_k or 0), now.top_k or 0, step=1, label="top-k", info="확률이 높은 k개만 · 0은 끔"),
            gr.Slider(min(0.05, now.top_p or 1), 1, now.top_p or 1, step=0.01, label="top-p", info="확률의 합이 p까지만 · 1은 끔"),
            gr.Slider(0, max(0.5, now.min_p or 0), now.min_p or 0, step=0.01, label="min-p", info="최고 확률 대비 하한 · 0은 끔"),
            gr.Slider(min(1, now.repetition_penalty), max(2, now.repetition_penalty), now.repetition_penalty, step=0.05,
                      label="반복 벌점 (repetition)", info="이미 나온 토큰을 덜 고르기 · 1은 끔"),
            gr.Slider(1, longest, now.max_new_tokens, step=1, label="최대 새 토큰 (max new)", info="답의 길이 한도"),
            gr.Textbox("", label="시드 (seed)", info="같은 시드면 같은 답", placeholder="비워 두면 매번 다르게", elem_id="seed", max_lines=1),
        ]  # fmt: skip
        with gr.Accordion("더 보기", open=False, elem_id="more"):
            return [
                *first,
                gr.Slider(-2, 2, 0, step=0.1, label="빈도 벌점 (frequency)", info="자주 쓴 만큼 덜 고르기 · 0은 끔"),
                gr.Slider(-2, 2, 0, step=0.1, label="출현 벌점 (presence)", info="한 번 쓴 것은 덜 고르기 · 0은 끔"),
                gr.Textbox("", label="멈춤 글 (stop)", info="이 글이 나오면 답을 끝냄 · 한 줄에 하나", placeholder="예: 질문:",
                           elem_id="stops", lines=2, max_lines=4),
            ]  # fmt: skip


def _rater(session: ChatSession, settings: Settings, feedback: FeedbackStore | None) -> Callable[[dict], dict] | None:
    """What the thumbs call, or None without a store."""
    if feedback is None:
        return None

    def rate(sent):
        model = sent["turns"][-1].get("model") if isinstance(sent, dict) and sent.get("turns") else None
        try:
            store_rating(feedback, sent, session.info(model), settings.chat.system_prompt)
        except (OSError, ValueError) as error:
            print(f"rating not stored: {error}", file=sys.stderr, flush=True)
            return {"error": words.NOT_RATED}
        return {"error": None}

    return rate


def _connect(page: gr.Blocks, session: ChatSession, parts: Parts) -> None:
    """Wire events to the session."""
    header, log, box, status, mode, clear, model, card, controls = parts
    answering = {"submit_btn": False, "stop_btn": words.STOP}
    ready = {"submit_btn": words.SEND, "stop_btn": False}

    def greeting(current_mode, name):
        return hello(current_mode, session.info(name).supports_chat)

    def stream(request, value, current_mode, name, values, begin, typed=None):
        """Draw what ``begin(turns, sampling, tab)`` yields; ``typed`` goes back into the box if nothing begins."""
        turns, welcome = turns_of(value), greeting(current_mode, name)
        try:
            sampling = sampling_from_controls(*values)
        except (ValueError, TypeError) as error:
            back = gr.skip() if typed is None else gr.update(value=typed)
            yield browser_value(turns, welcome), back, words.notice(words.check_settings(error))
            return
        view, buttons = None, answering
        for view in begin(turns, sampling, request.session_hash or ""):
            changes = buttons if view.box is None else {"value": view.box, **buttons}
            buttons = {}
            yield browser_value(view.history, welcome, True), gr.update(**changes) if changes else gr.skip(), view.status
        yield browser_value(view.history, welcome, False, view.draft), gr.update(**ready), view.status

    def respond(request: gr.Request, text, value, current_mode, name, *values):
        yield from stream(
            request, value, current_mode, name, values,
            lambda turns, sampling, tab: session.answer(text, turns, current_mode, sampling, tab, name), text,
        )  # fmt: skip

    def pick(request: gr.Request, event: gr.EventData, value, current_mode, name, *values):
        yield from respond(request, str(event.text), value, current_mode, name, *values)

    def again(request: gr.Request, event: gr.EventData, value, current_mode, name, *values):
        text = event._data.get("text")
        yield from stream(
            request, value, current_mode, name, values,
            lambda turns, sampling, tab: session.answer_again(event.index, text, turns, current_mode, sampling, tab, name),
        )  # fmt: skip

    def halt(request: gr.Request):
        session.stop(request.session_hash or "")

    def start_anew(request: gr.Request, current_mode, name):
        session.discard(request.session_hash or "")
        value = browser_value([], greeting(current_mode, name))
        return value, gr.update(placeholder=words.BOX[current_mode], **ready), ""

    def switch(value, current_mode, name):
        info, turns = session.info(name), turns_of(value)
        shown = gr.skip() if turns else browser_value([], greeting(current_mode, name))
        return words.header(info), words.model_card(info), shown

    def opened(name):
        info = session.refresh(name)
        return words.header(info), words.model_card(info)

    outputs, inputs = [log, box, status], [log, mode, model, *controls]
    streaming = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
    quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    box.submit(respond, [box, *inputs], outputs, **streaming)
    log.ask(pick, inputs, outputs, **streaming)
    log.again(again, inputs, outputs, **streaming)
    log.revise(again, inputs, outputs, **streaming)
    box.stop(halt, None, None, **quick)
    clear.click(start_anew, [mode, model], outputs, **quick)
    mode.change(start_anew, [mode, model], outputs, **quick)
    model.change(switch, [log, mode, model], [header, card, log], **quick)
    page.unload(halt)
    page.load(opened, model, [header, card], **quick)
    page.load(None, None, None, js=look.ON_LOAD)
