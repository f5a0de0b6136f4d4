"""Ctrl-C that waits for the step at work, so that what is saved is the state after a whole step."""

from __future__ import annotations

import signal
import threading


class InterruptBetweenSteps:
    """While active, the first Ctrl-C only sets ``asked``; a second one interrupts at once.

    Signal handlers belong to the main thread; in another one nothing changes.
    """

    def __init__(self):
        self.asked = False
        self._previous = None

    def __enter__(self) -> InterruptBetweenSteps:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, signal_number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
