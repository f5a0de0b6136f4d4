"""Keeps one part of the stack running: starts it, watches it, and starts it again when it breaks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from llm_workshop.serving.triton.server import tail

#: Restarts are counted over this time (seconds).
WINDOW = 600.0
#: How often a part is looked at (seconds); its death is noticed in this time.
POLL_SECONDS = 0.25


class Part(Protocol):
    """Something that runs in processes of its own."""

    name: str
    address: str
    log: Path
    pid: int | None

    def start(self) -> None:
        """Return when it is ready; ValueError or OSError for what a person can mend, else RuntimeError."""

    def problem(self) -> str | None:
        """What is wrong with it since it was ready, in words, or None."""

    def is_ready(self) -> bool: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class GaveUpError(RuntimeError):
    """A part broke too often; the message has the end of its log."""


def times(n: int) -> str:
    return f"{n} time{'' if n == 1 else 's'}"


class Keeper(threading.Thread):
    """The thread of one part. ``needs`` must be ready before its first start.

    ``restarts`` is how often in WINDOW the part is started again. ``changed`` is called with the part after each
    start; ``failed`` once, when the part cannot be kept running: ``failure`` then says why.
    """

    def __init__(
        self,
        part: Part,
        needs: Sequence[Keeper],
        restarts: int,
        say: Callable[[str], None],
        changed: Callable[[Part], None],
        failed: Callable[[], None],
    ):
        super().__init__(name=f"keeper-{part.name}", daemon=True)
        self.part, self.needs, self.restarts = part, needs, restarts
        self.ready, self.stopping = threading.Event(), threading.Event()
        self.failure: Exception | None = None
        self.times: list[float] = []  # of the restarts, by time.monotonic()
        self._say, self._changed, self._failed = say, changed, failed

    def run(self) -> None:
        try:
            for keeper in self.needs:
                while not keeper.ready.wait(POLL_SECONDS):
                    if self.stopping.is_set():
                        return
            self._start()
            while not self.stopping.wait(POLL_SECONDS):
                if problem := self.part.problem():
                    self._restart(problem)
        except Exception as error:
            if not self.stopping.is_set():  # a start that is stopped fails too
                self.failure = error
                self._failed()

    def stop(self) -> None:
        """End the part and the thread."""
        self.stopping.set()
        self.part.stop()
        if self.is_alive() and self is not threading.current_thread():
            self.join(5)
        self.part.stop()  # the thread may have started it in between

    def _start(self) -> None:
        began = time.monotonic()
        try:
            self.part.start()
        except RuntimeError as error:
            raise RuntimeError(f"{self.part.name}: {error}") from None
        self._changed(self.part)
        self._say(f"{self.part.name}: ready at {self.part.address} ({time.monotonic() - began:.1f} s)")
        self.ready.set()

    def _restart(self, problem: str) -> None:
        noticed = time.monotonic()
        while not self.stopping.is_set():
            now = time.monotonic()
            self.times = [t for t in self.times if now - t < WINDOW]
            if len(self.times) >= self.restarts:
                self.part.kill()
                raise GaveUpError(
                    f"{self.part.name}: {problem}; it was started again {times(len(self.times))} in ten minutes "
                    f"(serving.restarts={self.restarts}) and is given up; the end of {self.part.log}:\n{tail(self.part.log)}"
                )
            self.times.append(now)
            self._say(f"{self.part.name}: {problem}: starting it again ({len(self.times)} of {self.restarts} in ten minutes)")
            self.part.kill()
            try:
                self.part.start()
            except (RuntimeError, OSError) as error:  # OSError: the dead one's port may be free only a moment later
                problem = str(error).partition("; the end of ")[0]
                self.stopping.wait(1)
                continue
            self._changed(self.part)
            self._say(f"{self.part.name}: ready again after {time.monotonic() - noticed:.1f} s")
            return
