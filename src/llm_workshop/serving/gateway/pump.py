"""An engine's blocking iterator in a thread of its own, read by the event loop at the client's pace."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

from llm_workshop.serving.engine import Delta
from llm_workshop.serving.gateway.errors import ApiError


class Pump:
    """At most ``buffered`` pieces wait for the reader; then the engine is not asked for more.

    ``start`` is called in the thread, and the iterator lives and is closed there: generators must not be closed from
    another thread, and torch's settings belong to one.  So ``cancel`` takes effect when the engine gives its next
    piece.  ``on_end`` is called in the event loop when the thread is through, which may be after that.
    """

    def __init__(
        self,
        start: Callable[[], Iterator[Delta]],
        *,
        buffered: int = 16,
        stall_seconds: float = 30.0,
        on_end: Callable[[], None] = lambda: None,
    ):
        self._start, self._on_end, self._stall_seconds = start, on_end, stall_seconds
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Delta | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(buffered)
        self._cancelled = threading.Event()
        # A daemon: a hung engine must not keep the process alive.
        threading.Thread(target=self._run, name="gateway-answer", daemon=True).start()

    async def next(self) -> Delta | None:
        """The next piece, or None at the end; raises what the engine raised."""
        item = await self._queue.get()
        if isinstance(item, BaseException):
            raise item
        if item is not None:
            self._room.release()
        return item

    def cancel(self) -> None:
        """End the answer; does not wait."""
        self._cancelled.set()
        self._room.release()

    def fail(self, error: Exception) -> None:
        """End the answer; the reader gets ``error`` after what there is already.  For the event loop's thread."""
        self.cancel()
        self._queue.put_nowait(error)

    def _run(self) -> None:
        try:
            deltas = self._start()
            try:
                self._forward(deltas)
            finally:
                if close := getattr(deltas, "close", None):
                    close()
            self._tell(self._queue.put_nowait, None)
        except BaseException as error:  # for the reader, who tells the client
            self._tell(self._queue.put_nowait, error)
        finally:
            self._tell(self._on_end)

    def _forward(self, deltas: Iterator[Delta]) -> None:
        if self._cancelled.is_set():
            return
        for delta in deltas:
            if not self._room.acquire(timeout=self._stall_seconds):
                raise ApiError(f"the answer was not read for {self._stall_seconds:g} s", 408, code="stalled")
            if self._cancelled.is_set():
                return
            self._tell(self._queue.put_nowait, delta)

    def _tell(self, function: Callable, *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed: the server is gone, and with it the reader
            self._cancelled.set()
