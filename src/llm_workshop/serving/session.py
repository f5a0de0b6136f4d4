"""What the chat page does, apart from how it looks; nothing here needs Gradio."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llm_workshop.serving import words
from llm_workshop.serving.conversation import REPLACEMENT, clean
from llm_workshop.serving.engine import (
    BusyError,
    ChatEngine,
    Delta,
    EngineError,
    ModelInfo,
    PromptTooLongError,
    Sampling,
)
from llm_workshop.serving.turns import Turn, answer_turn, messages_for_model, user_turn
from llm_workshop.serving.words import CHAT, COMPLETE
from llm_workshop.serving.worker import Generation, Worker

if TYPE_CHECKING:
    from llm_workshop.settings import Settings

#: Longest message accepted from a browser (characters); a shorter one that does not fit is told its tokens.
MAX_CHARACTERS = 200_000
#: A page redraws at most this often (seconds); quicker pieces are joined.
REDRAW_SECONDS = 0.05
#: How long the page waits for the last words of an answer that was stopped.
STOP_SECONDS = 0.5


class Draft(NamedTuple):
    """A changed message that could not be sent: its place, and the text that must not be lost."""

    index: int
    text: str


class View(NamedTuple):
    """What the page shows: the turns, the status line, the input box (None leaves it alone), an open editor."""

    history: list[Turn]
    status: str
    box: str | None = None
    draft: Draft | None = None


class Backend(NamedTuple):
    """An engine, what is known about it, and the threads that run it."""

    engine: ChatEngine
    info: ModelInfo
    worker: Worker


class ChatSession:
    """Engines by name, and the answers that are being written, by browser tab."""

    def __init__(self, engines: ChatEngine | Sequence[ChatEngine], settings: Settings):
        self.settings = settings
        self.backends: dict[str, Backend] = {}
        for engine in engines if isinstance(engines, Sequence) else [engines]:
            self._add(engine)
        if not self.backends:
            raise ValueError("the page needs at least one engine")
        self._running: dict[str, Generation] = {}
        self._discarded: set[Generation] = set()

    @property
    def models(self) -> list[str]:
        return list(self.backends)

    def info(self, model: str | None = None) -> ModelInfo:
        """Facts about a model; about the first one if the name is not known."""
        return self._backend(model).info

    def refresh(self, model: str | None = None) -> ModelInfo:
        """Facts about a model, asked anew: a server may have been started again with other weights.

        Where it cannot be reached now, what was known; its name in the list stays.
        """
        backend = self._backend(model)
        try:
            info = backend.engine.info()
        except (OSError, ValueError):
            return backend.info
        if info != backend.info:
            self.backends[self._name(backend)] = backend._replace(info=info)
        return info

    def answer(
        self, typed: str, history: Sequence[Turn], mode: str, sampling: Sampling, tab: str, model: str | None = None
    ) -> Iterator[View]:
        """Stream views for a typed message.

        ``history`` is what the page shows; in completion mode each text stands alone.  A message that cannot
        be answered ends in a notice and goes back into the box, so that nobody has to type it twice; if the
        engine breaks off, the words that had come stay.
        """
        before = list(history)
        yield from self._ask(typed, before, View(before, "", typed), mode, sampling, tab, model)

    def answer_again(
        self, index: int, text: str | None, history: Sequence[Turn], mode: str, sampling: Sampling, tab: str,
        model: str | None = None,
    ) -> Iterator[View]:  # fmt: skip
        """Ask turn ``index`` anew, with ``text`` in its place unless that is None; what came after it goes.

        If that fails before a word has come, the conversation is as it was, with the changed text in an editor.
        """
        before = list(history)
        if not isinstance(index, int) or not 0 <= index < len(before) or before[index]["role"] != "user":
            yield View(before, words.notice("다시 만들 답이 없습니다."))
            return
        draft = None if text is None else Draft(index, text)
        typed = before[index]["content"] if text is None else text
        yield from self._ask(typed, before[:index], View(before, "", None, draft), mode, sampling, tab, model)

    def stop(self, tab: str) -> None:
        """Stop the answer that is being written for this browser tab, if there is one; keep its words."""
        if generation := self._running.get(tab):
            generation.cancel()

    def discard(self, tab: str, patience: float = 1.0) -> None:
        """Stop the answer of this tab and forget its words; waits shortly until its stream has ended.

        A browser may get the last view of the stream after whatever the caller shows next, so that view
        is an empty page.
        """
        generation = self._running.get(tab)
        if generation is None:
            return
        self._discarded.add(generation)
        generation.cancel()
        end = time.monotonic() + patience
        while self._running.get(tab) is generation and time.monotonic() < end:
            time.sleep(0.01)

    def close(self) -> None:
        for backend in self.backends.values():
            backend.worker.close()

    def _add(self, engine: ChatEngine) -> None:
        info = engine.info()
        name, number = info.name, 2
        while name in self.backends:
            name, number = f"{info.name} ({number})", number + 1
        n_threads = max(1, getattr(engine, "max_concurrent", 1))
        self.backends[name] = Backend(engine, info, Worker(n_threads=n_threads))

    def _backend(self, model: str | None) -> Backend:
        return self.backends.get(model or "") or next(iter(self.backends.values()))

    def _name(self, backend: Backend) -> str:
        return next(name for name, known in self.backends.items() if known.engine is backend.engine)

    def _ask(
        self, typed: str, before: list[Turn], undone: View, mode: str, sampling: Sampling, tab: str, model: str | None
    ) -> Iterator[View]:
        """Stream the answer to ``typed`` after the turns ``before``; ``undone`` is the page if nothing came of it."""
        text = clean(typed)
        backend = self._backend(model)
        if reason := self._refusal(text, mode, tab, backend.info):
            yield undone._replace(status=words.notice(reason))
            return
        shown = [*before, user_turn(text)]
        yield View(shown, words.waiting(0), None if undone.box is None else "")
        name = self._name(backend)
        answer = answer_turn(text if mode == COMPLETE else "", name, mode, sampling, len(text) if mode == COMPLETE else 0)
        generation = None
        try:
            generation = backend.worker.submit(self._start(backend.engine, text, shown, mode, sampling))
            self._running[tab] = generation
            yield from self._follow(generation, shown, answer, sampling)
        except Exception as error:
            gone = generation in self._discarded
            yield View([], "") if gone else _after_error(error, undone, shown, answer)
        finally:
            if generation is not None:
                generation.cancel()
                self._discarded.discard(generation)
                if self._running.get(tab) is generation:
                    del self._running[tab]

    def _refusal(self, text: str, mode: str, tab: str, info: ModelInfo) -> str | None:
        """Why a message cannot be sent, or None."""
        running = self._running.get(tab)
        if running is not None and not running.cancelled:
            return "답변을 쓰는 중입니다. 끝난 뒤에 보내거나 먼저 멈춰 주세요."
        if not text:
            return "내용을 입력한 뒤에 보내 주세요." if mode == CHAT else "이어 쓸 첫머리를 입력해 주세요."
        if len(text) > MAX_CHARACTERS:
            return words.far_too_long(len(text), info.context_length)
        return None

    def _start(
        self, engine: ChatEngine, text: str, shown: list[Turn], mode: str, sampling: Sampling
    ) -> Callable[[], Iterator[Delta]]:
        if mode == COMPLETE:
            return lambda: engine.complete(text, sampling)
        messages = messages_for_model(shown, self.settings.chat.system_prompt)
        return lambda: engine.stream(messages, sampling)

    def _follow(self, generation: Generation, shown: list[Turn], answer: Turn, sampling: Sampling) -> Iterator[View]:
        """Redraw as pieces come in, and keep the words in ``answer``; the last status has the measured figures."""
        last, dropped, redraw, leave = Delta(), 0, time.monotonic() + REDRAW_SECONDS, None
        while not generation.done and generation not in self._discarded:
            delta = generation.next_delta(timeout=REDRAW_SECONDS if generation.started else 0.3)
            if generation.cancelled:
                # An engine stops at its next token; one that is still reading the prompt is not waited for.
                leave = leave or time.monotonic() + STOP_SECONDS
                if delta is None and time.monotonic() >= leave:
                    break
            if delta is None:
                if not generation.started and not generation.done:
                    yield View(shown, words.waiting(generation.ahead))
                continue
            answer["content"] += delta.text.replace(REPLACEMENT, "")
            dropped, last = dropped or delta.dropped_messages, delta
            if (begin := time.monotonic()) >= redraw:
                yield View([*shown, dict(answer)], words.writing(generation.timing))
                # Drawing a long answer takes its time: most of it is left for what else there is to do.
                redraw = time.monotonic() + max(REDRAW_SECONDS, 3 * (time.monotonic() - begin))
        if generation in self._discarded:
            yield View([], "")
            return
        stopped = last.finish_reason is None or last.finish_reason == "cancelled"
        status = words.figures(generation.timing, last.finish_reason, stopped, sampling, dropped)
        answer["content"] = answer["content"].strip() or words.EMPTY_ANSWER
        yield View([*shown, answer], status)


def _after_error(error: Exception, undone: View, shown: list[Turn], answer: Turn) -> View:
    """What is shown when no answer came to its end: its words if there are any, or the page as it was."""
    if isinstance(error, BusyError):
        reason = words.BUSY
    elif isinstance(error, EngineError):
        reason = words.ENGINE_BROKE
        _tell(error)
    elif isinstance(error, PromptTooLongError):
        reason = words.too_long(error.n_tokens, error.limit)
    elif isinstance(error, ValueError):
        reason = words.refused(error)
        _tell(error)
    else:
        traceback.print_exception(error)
        reason = words.BROKEN
    written = answer["content"][answer["given"] :].strip()
    if not written:
        return undone._replace(status=words.notice(reason))
    return View([*shown, {**answer, "content": answer["content"].strip()}], words.notice(f"{reason} {words.CUT_SHORT}"))


def _tell(error: Exception) -> None:
    """The cause, which is for whoever runs the page, goes to its terminal."""
    print(f"chat page: {error}", file=sys.stderr, flush=True)
