"""What one client may ask for and how long it may take: the limits, and the buckets that count requests."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields


def _limit(default: float, description: str):
    return field(default=default, metadata={"help": description})


@dataclass(frozen=True)
class Limits:
    """Each limit has a number above 0; raises ValueError naming the one that has not."""

    max_body_bytes: int = _limit(1 << 20, "largest request body; a larger one is answered 413")
    max_prompt_characters: int = _limit(200_000, "characters of all messages, or of the prompt, together")
    max_messages: int = _limit(256, "messages of a conversation")
    max_tokens: int = _limit(8192, "most tokens that a request may ask for")
    default_max_tokens: int = _limit(512, "tokens of a chat answer where the request names no number")
    max_stop: int = _limit(16, "stop texts of a request")
    requests_per_minute: int = _limit(600, "of one key from one address; as many may come at once")
    max_concurrent: int = _limit(64, "answers in progress; one more is answered 503")
    max_connections: int = _limit(256, "open connections; one more closes the one that has been idle longest")
    header_seconds: float = _limit(10, "time for the head of a request to arrive")
    body_seconds: float = _limit(10, "time for the body of a request to arrive")
    answer_seconds: float = _limit(600, "time for a whole answer")
    stall_seconds: float = _limit(30, "how long a client may leave its answer unread")
    buffered: int = _limit(16, "pieces of an answer that wait for the client; then the engine waits")

    def __post_init__(self):
        for item in fields(self):
            value = getattr(self, item.name)
            kinds = (int,) if item.type == "int" else (int, float)
            if not isinstance(value, kinds) or isinstance(value, bool) or not 0 < value < float("inf"):
                kind = "a whole number" if item.type == "int" else "a number"
                raise ValueError(f"{item.name}={value!r}: use {kind} above 0 ({item.metadata['help']})")


class TokenBuckets:
    """A token bucket per client: ``per_minute`` requests at once, refilled evenly over a minute.

    Remembers the ``max_clients`` seen last, so that many addresses do not fill the memory.
    """

    def __init__(self, per_minute: float, max_clients: int = 4096, clock: Callable[[], float] = time.monotonic):
        self.capacity, self.rate = float(per_minute), per_minute / 60
        self.max_clients, self._clock = max_clients, clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def take(self, client: Hashable) -> float:
        """Take a token: 0, or the seconds until there is one (then none was taken)."""
        now = self._clock()
        tokens, then = self._buckets.pop(client, (self.capacity, now))
        tokens = min(self.capacity, tokens + (now - then) * self.rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self.rate
        self._buckets[client] = (tokens - (wait == 0), now)
        if len(self._buckets) > self.max_clients:
            self._buckets.popitem(last=False)
        return wait
