"""Time limits of an answer, without a timer or a queue for each token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

TICK_SECONDS = 0.05


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait for a connection, the first token, the next one, and the whole answer; None waits for ever.

    ``connect`` is also the limit of every question that is not an answer (metadata, readiness, statistics).
    """

    connect: float = 5.0
    first_token: float | None = 120.0
    between_tokens: float | None = 60.0
    total: float | None = 900.0

    def __post_init__(self):
        for name, value in vars(self).items():
            sane = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
            if not (sane or (value is None and name != "connect")):
                raise ValueError(f"timeout {name}={value!r}: use a number of seconds above 0, or None for no limit")


class Watch:
    """One answer under watch; ``expired`` tells which limit was passed.

    ``pause`` when a response is here, ``resume`` when the next one is waited for: a slow reader is no slow server.
    """

    def __init__(self, timeouts: Timeouts, cancel: Callable[[], None]):
        self._timeouts, self._cancel = timeouts, cancel
        now = time.monotonic()
        self._end = _later(now, timeouts.total)
        self._deadline = _later(now, timeouts.first_token)
        self._started = False
        self.expired: str | None = None

    def pause(self) -> None:
        self._deadline, self._started = float("inf"), True

    def resume(self) -> None:
        self._deadline = _later(time.monotonic(), self._timeouts.between_tokens)

    def check(self, now: float) -> None:
        """Cancel the answer if a limit is passed."""
        if self.expired or now < min(self._deadline, self._end):
            return
        if now >= self._end:
            self.expired = f"the answer was not complete after {self._timeouts.total:g} s"
        elif self._started:
            self.expired = f"no further token came for {self._timeouts.between_tokens:g} s"
        else:
            self.expired = f"no first token came in {self._timeouts.first_token:g} s"
        self._cancel()


class Watchdog:
    """One thread that watches all answers of a client; it sleeps while there are none."""

    def __init__(self):
        self._watches: set[Watch] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, watch: Watch) -> None:
        with self._changed:
            self._watches.add(watch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="triton-client-watchdog", daemon=True)
                self._thread.start()
            if len(self._watches) == 1:
                self._changed.notify()

    def remove(self, watch: Watch) -> None:
        with self._changed:
            self._watches.discard(watch)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._watches and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                self._changed.wait(TICK_SECONDS)
                watches = list(self._watches)
            now = time.monotonic()
            for watch in watches:
                watch.check(now)


def _later(now: float, seconds: float | None) -> float:
    return float("inf") if seconds is None else now + seconds
