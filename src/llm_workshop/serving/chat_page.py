"""The chat page: Korean, streaming, with sampling controls and measured speed after each answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

# Gradio resolves the annotations of event handlers, so its name must be known to this module.
import gradio as gr

from llm_workshop.serving import look, words
from llm_workshop.serving.engine import ChatEngine
from llm_workshop.serving.session import ChatSession, plain_history, sampling_from_controls
from llm_workshop.serving.words import CHAT, COMPLETE

if TYPE_CHECKING:
    from llm_workshop.settings import Settings


def build_page(engine: ChatEngine, settings: Settings) -> gr.Blocks:
    """The page as Gradio Blocks; ``page.session`` is its ChatSession (close it with the page)."""
    session = ChatSession(engine, settings)
    info, chats = session.info, session.info.supports_chat
    start = CHAT if chats else COMPLETE
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(words.header(info), elem_id="masthead", padding=False)
        with gr.Row(elem_id="room", equal_height=False):
            with gr.Column(elem_id="talk", scale=1, min_width=300):
                with gr.Row(elem_id="bar"):
                    mode = gr.Radio([CHAT, COMPLETE], value=start, show_label=False, container=False, elem_id="mode")
                    clear = gr.Button("새로 시작", elem_id="clear", size="sm")
                chatbot = gr.Chatbot(
                    show_label=False, elem_id="chat", layout="bubble", render_markdown=False, sanitize_html=True,
                    feedback_options=None, buttons=["copy"], placeholder=words.placeholder(start, chats),
                    examples=words.examples(start), height="100%", group_consecutive_messages=False,
                )  # fmt: skip
                box = gr.Textbox(
                    placeholder=words.BOX[start], show_label=False, label="메시지", container=False, lines=1, max_lines=6,
                    elem_id="box", submit_btn=words.SEND, stop_btn=False,
                )  # fmt: skip
                status = gr.HTML("", elem_id="status", padding=False)
            with gr.Column(elem_id="panel", scale=0, min_width=280):
                controls = _controls(settings, info.context_length)
                gr.HTML(words.model_card(info), elem_id="model", padding=False)
        _connect(page, session, Parts(chatbot, box, status, mode, clear, controls))
    page.session = session
    return page


class Parts(NamedTuple):
    """The components that events connect."""

    chatbot: gr.Chatbot
    box: gr.Textbox
    status: gr.HTML
    mode: gr.Radio
    clear: gr.Button
    controls: list[gr.components.Component]


def _controls(settings: Settings, context_length: int) -> list[gr.components.Component]:
    """The sampling controls, in the order of ``sampling_from_controls``."""
    now = settings.generate
    longest = max(now.max_new_tokens, context_length)
    # Settings may lie outside the customary ranges; then the range grows to hold them.
    with gr.Accordion("생성 설정", open=True, elem_id="sampling"):
        return [
            gr.Slider(0, max(2, now.temperature), now.temperature, step=0.05, label="온도 (temperature)", info="낮을수록 안정적, 높을수록 다양"),
            gr.Slider(0, max(200, now.top_k or 0), now.top_k or 0, step=1, label="top-k", info="확률 높은 k개만 · 0은 끔"),
            gr.Slider(min(0.05, now.top_p or 1), 1, now.top_p or 1, step=0.01, label="top-p", info="확률의 합 p까지만 · 1은 끔"),
            gr.Slider(0, max(0.5, now.min_p or 0), now.min_p or 0, step=0.01, label="min-p", info="최고 확률의 이 비율 미만은 제외 · 0은 끔"),
            gr.Slider(min(1, now.repetition_penalty), max(2, now.repetition_penalty), now.repetition_penalty, step=0.05,
                      label="반복 벌점 (repetition)", info="쓴 토큰을 덜 고르기 · 1은 끔"),
            gr.Slider(1, longest, now.max_new_tokens, step=1, label="최대 새 토큰 (max new)", info="답의 길이 한도"),
            gr.Textbox("", label="시드 (seed)", info="같은 시드면 같은 답", placeholder="비워 두면 매번 다르게", elem_id="seed", max_lines=1),
        ]  # fmt: skip


def _connect(page: gr.Blocks, session: ChatSession, parts: Parts) -> None:
    """Wire events to the session."""
    chatbot, box, status, mode, clear, controls = parts
    answering = {"submit_btn": False, "stop_btn": words.STOP}
    ready = {"submit_btn": words.SEND, "stop_btn": False}

    def respond(request: gr.Request, text, history, current_mode, *values):
        try:
            sampling = sampling_from_controls(*values)
        except (ValueError, TypeError) as error:
            yield gr.skip(), gr.update(value=text), words.notice(f"생성 설정을 확인해 주세요. ({error})")
            return
        view, buttons = None, answering
        for view in session.answer(text, history, current_mode, sampling, request.session_hash or ""):
            box_change = gr.skip() if view.box is None else gr.update(value=view.box, **buttons)
            buttons = {}
            yield [{**m, "content": words.literal(m["content"])} for m in view.history], box_change, view.status
        yield gr.skip(), gr.update(**ready), view.status

    def retry(request: gr.Request, history, current_mode, *values):
        last = max((i for i, m in enumerate(history) if m["role"] == "user"), default=None)
        if last is None:
            yield gr.skip(), gr.skip(), words.notice("다시 만들 답이 없습니다.")
            return
        text = plain_history(history[last : last + 1])[0]["content"]
        yield from respond(request, text, history[:last], current_mode, *values)

    def pick(request: gr.Request, event: gr.SelectData, history, current_mode, *values):
        yield from respond(request, event.value["text"], history, current_mode, *values)

    def halt(request: gr.Request):
        session.stop(request.session_hash or "")

    def start_anew(request: gr.Request, current_mode):
        session.discard(request.session_hash or "")
        welcome = words.placeholder(current_mode, session.info.supports_chat)
        chat = gr.update(value=[], placeholder=welcome, examples=words.examples(current_mode))
        return chat, gr.update(placeholder=words.BOX[current_mode], **ready), ""

    outputs = [chatbot, box, status]
    streaming = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
    quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    box.submit(respond, [box, chatbot, mode, *controls], outputs, **streaming)
    chatbot.retry(retry, [chatbot, mode, *controls], outputs, **streaming)
    chatbot.example_select(pick, [chatbot, mode, *controls], outputs, **streaming)
    box.stop(halt, None, None, **quick)
    clear.click(start_anew, mode, outputs, **quick)
    mode.change(start_anew, mode, outputs, **quick)
    page.unload(halt)
    page.load(None, None, None, js=look.ON_LOAD)


def serve(settings: Settings) -> None:
    """Open the page for the run's base model; see ``llm_workshop.serving.serve``."""
    from llm_workshop.serving.serve import serve as open_page

    open_page(settings)
