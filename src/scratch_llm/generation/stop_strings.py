"""Stop strings in a stream of text: no part of one ever gets out."""

from __future__ import annotations

from collections.abc import Sequence


class StopStringFilter:
    """Text goes in by pieces and comes out up to the first stop string.

    ``found`` is the one that came first.  A tail that may yet become a stop string is held back until the next piece decides.
    """

    def __init__(self, stop: Sequence[str]):
        self.stop = tuple(stop)
        self.held = ""
        self.found: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether one was found."""
        return self.found is not None

    def push(self, piece: str) -> str:
        """Text that is certain to stand before every stop string; ``stopped`` tells whether one was found."""
        if self.stopped:
            return ""
        text = self.held + piece
        found = [(place, stop) for stop in self.stop if (place := text.find(stop)) >= 0]
        if found:
            place, self.found = min(found)
            self.held = ""
            return text[:place]
        keep = max((_overlap(text, stop) for stop in self.stop), default=0)
        self.held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, at the end of the text: it did not become a stop string."""
        rest, self.held = self.held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop``, but is not all of it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
