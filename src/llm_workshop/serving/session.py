"""What the chat page does, apart from how it looks; nothing here needs Gradio."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_workshop.serving import words
from llm_workshop.serving.conversation import REPLACEMENT, clean, content_text
from llm_workshop.serving.engine import BusyError, ChatEngine, Delta, PromptTooLongError, Sampling
from llm_workshop.serving.words import CHAT, COMPLETE
from llm_workshop.serving.worker import Generation, Worker

if TYPE_CHECKING:
    from llm_workshop.settings import Settings

#: Longest message accepted from a browser (characters); the context is far shorter.
MAX_CHARACTERS = 20_000
#: A page redraws at most this often (seconds); quicker pieces are joined.
REDRAW_SECONDS = 0.05


class View(NamedTuple):
    """What the page shows: the conversation, the status line, and the input box (None leaves it alone)."""

    history: list[dict[str, str]]
    status: str
    box: str | None = None


class ChatSession:
    """One engine, its worker, and the answers that are being written, by browser tab."""

    def __init__(self, engine: ChatEngine, settings: Settings):
        self.engine, self.settings = engine, settings
        self.info = engine.info()
        self.worker = Worker()
        self._running: dict[str, Generation] = {}
        self._discarded: set[Generation] = set()

    def answer(
        self, typed: str, history: list[dict[str, Any]] | None, mode: str, sampling: Sampling, tab: str
    ) -> Iterator[View]:
        """Stream views for a typed message.

        ``history`` is what the page shows; in completion mode each text stands alone.  A message that cannot
        be answered ends in a notice and goes back into the box, so that nobody has to type it twice.
        """
        before, text = plain_history(history), clean(typed)
        if reason := self._refusal(text, mode, tab):
            yield View(before, words.notice(reason), typed)
            return
        shown = [*before, {"role": "user", "content": text}]
        yield View(shown, words.waiting(0), "")
        try:
            generation = self.worker.submit(self._start(text, shown, mode, sampling))
        except BusyError:
            yield View(before, words.notice("기다리는 사람이 너무 많습니다. 잠시 뒤에 다시 보내 주세요."), typed)
            return
        self._running[tab] = generation
        try:
            yield from self._follow(generation, text, shown, mode, sampling)
        except PromptTooLongError as error:
            yield View(before, words.notice(words.too_long(error.n_tokens, error.limit)), typed)
        except Exception:
            traceback.print_exc()
            yield View(before, words.notice("답을 만들다가 오류가 났습니다. 터미널의 기록을 확인해 주세요."), typed)
        finally:
            generation.cancel()
            self._discarded.discard(generation)
            if self._running.get(tab) is generation:
                del self._running[tab]

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
        self.worker.close()

    def _refusal(self, text: str, mode: str, tab: str) -> str | None:
        """Why a message cannot be sent, or None."""
        running = self._running.get(tab)
        if running is not None and not running.cancelled:
            return "답변을 쓰는 중입니다. 끝난 뒤에 보내거나 먼저 멈춰 주세요."
        if not text:
            return "내용을 입력한 뒤에 보내 주세요." if mode == CHAT else "이어 쓸 첫머리를 입력해 주세요."
        if len(text) > MAX_CHARACTERS:
            return f"글이 너무 깁니다: {len(text):,}자입니다. {MAX_CHARACTERS:,}자보다 짧게 줄여 주세요."
        return None

    def _start(
        self, text: str, shown: list[dict[str, str]], mode: str, sampling: Sampling
    ) -> Callable[[], Iterator[Delta]]:
        if mode == COMPLETE:
            return lambda: self.engine.complete(text, sampling)
        system = self.settings.chat.system_prompt
        messages = [{"role": "system", "content": clean(system)}] if system else []
        messages += without_empty_answers(shown)
        return lambda: self.engine.stream(messages, sampling)

    def _follow(
        self, generation: Generation, text: str, shown: list[dict[str, str]], mode: str, sampling: Sampling
    ) -> Iterator[View]:
        """Redraw as pieces come in; the last status line has the measured figures."""
        written = text if mode == COMPLETE else ""
        last, dropped, drawn = Delta(), 0, time.monotonic()
        while not generation.done and generation not in self._discarded:
            delta = generation.next_delta(timeout=REDRAW_SECONDS if generation.started else 0.3)
            if delta is None:
                if not generation.started and not generation.done:
                    yield View(shown, words.waiting(generation.ahead))
                continue
            written += delta.text.replace(REPLACEMENT, "")
            dropped, last = dropped or delta.dropped_messages, delta
            if time.monotonic() - drawn >= REDRAW_SECONDS:
                drawn = time.monotonic()
                yield View([*shown, {"role": "assistant", "content": written}], words.writing(generation.timing))
        if generation in self._discarded:
            yield View([], "")
            return
        stopped = last.finish_reason is None
        status = words.figures(generation.timing, last.finish_reason, stopped, sampling.seed, dropped)
        yield View([*shown, {"role": "assistant", "content": written.strip() or words.EMPTY_ANSWER}], status)


def without_empty_answers(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Leave out turns in which the model wrote nothing: our notice about it is no turn it should see."""
    kept: list[dict[str, str]] = []
    for message in messages:
        if message["role"] == "assistant" and message["content"] in ("", words.EMPTY_ANSWER):
            kept = kept[:-1] if kept and kept[-1]["role"] == "user" else kept
        else:
            kept.append(message)
    return kept


def plain_history(history: list[dict[str, Any]] | None) -> list[dict[str, str]]:
    """What Gradio's Chatbot holds, as plain messages."""
    return [{"role": m["role"], "content": words.from_literal(content_text(m["content"]))} for m in history or []]


def sampling_from_controls(temperature, top_k, top_p, min_p, repetition_penalty, max_new_tokens, seed) -> Sampling:
    """Controls as they stand on the page -> Sampling; 0 (top-k, min-p) and 1 (top-p) mean off.

    An empty seed is drawn at random, so that every answer can be repeated with the seed it shows.
    """
    return Sampling(
        max_new_tokens=int(max_new_tokens),
        temperature=float(temperature),
        top_k=int(top_k) or None,
        top_p=float(top_p) if float(top_p) < 1 else None,
        min_p=float(min_p) or None,
        repetition_penalty=float(repetition_penalty),
        seed=int(seed) if str(seed or "").strip() else random.SystemRandom().randrange(2**31),
    )
