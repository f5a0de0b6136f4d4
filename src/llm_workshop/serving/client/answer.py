"""One answer: its pieces, figures, retries before it has begun, and its end at any moment."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from llm_workshop.serving.client.errors import UnreachableError, WireError, explain
from llm_workshop.serving.client.pieces import Pieces, Response
from llm_workshop.serving.client.watchdog import Timeouts, Watch, Watchdog
from llm_workshop.serving.engine import BusyError, Delta, EngineError, FinishReason
from llm_workshop.serving.worker import Timing


@dataclass(frozen=True)
class Retry:
    """How often to try a request that was not begun (busy server, no connection), and how long to wait between.

    The waits double from ``first_seconds`` up to ``max_seconds``, each drawn between half and the whole of it, so that
    clients that were refused together do not come back together.
    """

    attempts: int = 4
    first_seconds: float = 0.2
    max_seconds: float = 2.0

    def __post_init__(self):
        if self.attempts < 1 or not 0 <= self.first_seconds <= self.max_seconds:
            raise ValueError(f"{self}: use attempts of at least 1 and 0 <= first_seconds <= max_seconds")

    def wait(self, attempt: int) -> float:
        """Seconds to wait after the failed attempt number ``attempt`` (from 0)."""
        return min(self.max_seconds, self.first_seconds * 2**attempt) * random.uniform(0.5, 1.0)


class Stream(Protocol):
    """What a transport gives for a request."""

    def __iter__(self) -> Iterator[Response]: ...

    def cancel(self) -> None: ...


class Answer(Iterator[Delta]):
    """Iterate for the pieces.  Nothing is sent before the first ``next``.

    ``close`` ends the answer on the server too; ``cancel``, which any thread may call, makes the iteration end with a
    last piece whose reason is "cancelled".  ``timing``, ``n_tokens``, ``n_prompt_tokens``, ``cumulative_logprob``,
    ``finish_reason``, ``retries`` and ``seed`` tell what is known so far.
    """

    def __init__(
        self, open_stream: Callable[[], tuple[Stream, str]], *, model: str, max_new_tokens: int, seed: int | None,
        timeouts: Timeouts, retry: Retry, watchdog: Watchdog, on_loss: Callable[[], None],
    ):  # fmt: skip
        self._open, self._model, self._max_new_tokens = open_stream, model, max_new_tokens
        self._timeouts, self._retry, self._watchdog, self._on_loss = timeouts, retry, watchdog, on_loss
        self._cancelled, self._stream, self._started = threading.Event(), None, False
        self.timing, self.seed, self.retries = Timing(), seed, 0
        self.n_prompt_tokens: int | None = None
        self.cumulative_logprob: float | None = None
        self.finish_reason: FinishReason | None = None
        self._pieces = self._run()

    @property
    def n_tokens(self) -> int:
        return self.timing.n_tokens

    def __next__(self) -> Delta:
        return next(self._pieces)

    def cancel(self) -> None:
        self._cancelled.set()
        if (stream := self._stream) is not None:
            stream.cancel()

    def close(self) -> None:
        try:
            self._pieces.close()
        except ValueError:  # another thread waits in ``next``: it is told
            self.cancel()

    def _run(self) -> Iterator[Delta]:
        began = time.monotonic()
        while True:
            try:
                for delta in self._attempt():
                    self.timing.record(delta, time.monotonic() - began)
                    self._note(delta)
                    yield delta
                return
            except (BusyError, UnreachableError) as error:
                if isinstance(error, UnreachableError):
                    self._on_loss()
                if self._started or self.retries + 1 >= self._retry.attempts:
                    raise
            if self._cancelled.wait(self._retry.wait(self.retries)):
                self.finish_reason = "cancelled"
                yield Delta(finish_reason="cancelled")
                return
            self.retries += 1

    def _attempt(self) -> Iterator[Delta]:
        """One try: the pieces, or the error that engine.py has for what went wrong."""
        if self._cancelled.is_set():
            yield Delta(finish_reason="cancelled")
            return
        stream, where = self._open()
        pieces, watch = Pieces(self._max_new_tokens), Watch(self._timeouts, stream.cancel)
        try:  # at once: Ctrl-C may come at any line, and an answer that nobody waits for must end
            self._stream = stream
            self._watchdog.add(watch)
            if self._cancelled.is_set():  # between the question above and the stream
                stream.cancel()
            for response in stream:
                watch.pause()
                self._started = True
                # After the reason only the end of the stream follows.
                if pieces.finish_reason is None and (delta := pieces.push(response)):
                    yield delta
                watch.resume()
            if last := pieces.end():
                yield Delta(finish_reason="cancelled") if self._cancelled.is_set() else last
        except WireError as error:
            if pieces.finish_reason is not None:
                return  # the answer is complete: how the connection ends matters to nobody
            if watch.expired:
                raise EngineError(
                    f"{watch.expired} from {where}: the server hangs or has too much to do; see its log, or allow more time"
                ) from None
            if not self._cancelled.is_set():
                raise explain(error, where, self._model, self._started) from None
            yield Delta(finish_reason="cancelled")
        finally:
            self._watchdog.remove(watch)
            self._stream = None
            stream.cancel()

    def _note(self, delta: Delta) -> None:
        if delta.n_prompt_tokens is not None:
            self.n_prompt_tokens = delta.n_prompt_tokens
        if delta.cumulative_logprob is not None:
            self.cumulative_logprob = delta.cumulative_logprob
        self.finish_reason = delta.finish_reason or self.finish_reason
