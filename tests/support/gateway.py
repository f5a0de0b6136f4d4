"""For tests of the gateway: an engine that does as it is told, and a real server on a free port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from llm_workshop.serving.engine import Delta, Message, ModelInfo, Sampling
from llm_workshop.serving.gateway.app import create_app
from llm_workshop.serving.gateway.http_server import listen, make_server
from llm_workshop.serving.gateway.limits import Limits

PIECES = ("안녕", "하세요! ", "", "👩‍🎓 반가워요", ". 🇰🇷")


class ScriptedEngine:
    """Gives ``pieces`` (each a text of one token, or an error to raise), for ever if ``endless``.

    ``gate``: each piece waits for it, if it is given.  ``pulled`` counts pieces; ``closed`` is set when a generator
    was closed before its end.
    """

    def __init__(
        self, pieces: Sequence[str | BaseException] = PIECES, *, start_error: BaseException | None = None, seconds: float = 0.0,
        endless: bool = False, supports_chat: bool = True, n_prompt_tokens: int | None = 7, finish_reason: str | None = "stop",
        context_length: int = 256, dropped: int = 0, gate: threading.Event | None = None,
    ):  # fmt: skip
        self.pieces, self.start_error, self.seconds, self.endless = pieces, start_error, seconds, endless
        self.supports_chat, self.n_prompt_tokens, self.finish_reason = supports_chat, n_prompt_tokens, finish_reason
        self.context_length, self.dropped, self.gate = context_length, dropped, gate
        self.requests: list[tuple[object, Sampling]] = []
        self.pulled, self.closed, self.threads = 0, threading.Event(), set()
        self.info_error: BaseException | None = None

    def info(self) -> ModelInfo:
        if self.info_error:
            raise self.info_error
        return ModelInfo(
            "smoke/base-model", "llama", 1000, self.context_length, 512, self.supports_chat,
            created="2026-11-20T12:00:00+00:00", commit="0123456789ab",
        )  # fmt: skip

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        return self._answer(list(messages), sampling)

    def complete(self, text: str, sampling: Sampling) -> Iterator[Delta]:
        return self._answer(text, sampling)

    def _answer(self, asked: object, sampling: Sampling) -> Iterator[Delta]:
        self.requests.append((asked, sampling))
        self.threads.add(threading.current_thread().name)
        if self.start_error:
            raise self.start_error
        ended = False
        try:
            index = 0
            while index < len(self.pieces) or self.endless:
                if self.gate is not None:
                    self.gate.wait(30)
                time.sleep(self.seconds)
                piece = self.pieces[index % len(self.pieces)]
                if isinstance(piece, BaseException):
                    ended = True
                    raise piece
                self.pulled += 1
                yield Delta(piece, 1, n_prompt_tokens=self.n_prompt_tokens, dropped_messages=0 if index else self.dropped)
                index += 1
            ended = True
            if self.finish_reason:
                yield Delta(finish_reason=self.finish_reason)
        finally:
            if not ended:
                self.closed.set()


@contextmanager
def serving(engines: object, *, limits: Limits | None = None, **options: object) -> Iterator[str]:
    """``http://127.0.0.1:PORT`` of a gateway for ``engines`` (one engine is named "tiny"); always stopped."""
    engines = engines if isinstance(engines, dict) else {"tiny": engines}
    limits = limits or Limits()
    app = create_app(engines, limits=limits, **options)
    with listen("127.0.0.1", 0) as listener:
        server = make_server(app, limits)
        thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started, 10)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive(), "the gateway did not stop"


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
