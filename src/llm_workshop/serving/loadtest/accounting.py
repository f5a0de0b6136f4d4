"""Whether client and server tell the same story: tokens and requests, one for one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llm_workshop.serving.engine import EngineError
from llm_workshop.serving.loadtest.records import Record
from llm_workshop.serving.monitoring.metrics import Metrics, read_metrics
from llm_workshop.serving.triton.interface import (
    METRIC_REQUESTS,
    METRIC_RUNNING,
    METRIC_TOKENS,
    METRIC_WAITING,
)

QUIET_SECONDS = 1.0


@dataclass(frozen=True)
class Account:
    """Counts of the clients and of the server over the same load.

    A client that goes away does not see the tokens that were already made or on their way, so for cancelled requests
    the server may count more, up to what was asked for; and what a client gave up may have been finished already.
    Everything else must be equal.
    """

    client_tokens: int
    server_tokens: int
    unseen_tokens: int  # at most so many may the server count above the clients
    client_requests: dict[str, int]
    server_requests: dict[str, int]

    @classmethod
    def of(cls, records: Sequence[Record], before: Metrics, after: Metrics) -> Account:
        server = after.by(METRIC_REQUESTS, "outcome")
        earlier = before.by(METRIC_REQUESTS, "outcome")
        requests = {outcome: round(count - earlier.get(outcome, 0)) for outcome, count in server.items()}
        return cls(
            client_tokens=sum(record.n_tokens for record in records),
            server_tokens=round(after.total(METRIC_TOKENS) - before.total(METRIC_TOKENS)),
            unseen_tokens=sum(r.max_new_tokens - r.n_tokens for r in records if r.outcome in ("cancelled", "error")),
            client_requests=dict(Counter(record.outcome for record in records)),
            server_requests={outcome: count for outcome, count in requests.items() if count},
        )

    def differences(self) -> list[str]:
        """What does not add up, in words (Korean); empty if all does."""
        found = []
        above = self.server_tokens - self.client_tokens
        if not 0 <= above <= self.unseen_tokens:
            allowed = f"{self.unseen_tokens:,}개까지 더 많을 수 있음" if self.unseen_tokens else "같아야 함"
            found.append(
                f"토큰 수: 클라이언트가 받은 것 {self.client_tokens:,}개, 서버가 센 것 {self.server_tokens:,}개 ({allowed})"
            )
        mine, its = self.client_requests, self.server_requests
        if sum(mine.values()) != sum(its.values()):
            found.append(f"요청 수: 클라이언트가 보낸 것 {sum(mine.values()):,}개, 서버가 센 것 {sum(its.values()):,}개")
        for outcome in ("busy", "invalid"):
            if mine.get(outcome, 0) != its.get(outcome, 0):
                found.append(f"결과 {outcome}: 클라이언트에서 {mine.get(outcome, 0)}개, 서버에서 {its.get(outcome, 0)}개")
        # An answer may have ended before the news that its reader had gone.
        late = mine.get("cancelled", 0) - its.get("cancelled", 0)
        ended = sum(its.get(o, 0) - mine.get(o, 0) for o in ("stop", "length"))
        if its.get("error", 0) or late < 0 or ended != late:
            found.append(f"결과: 클라이언트에서 {_words(mine)}, 서버에서 {_words(its)}")
        return found


def settled_metrics(address: str, seconds: float = 20, *, requests: float = 0) -> Metrics:
    """The metrics once no request runs or waits and nothing has changed for ``QUIET_SECONDS``; EngineError if that takes
    longer.  Engines publish their counts now and then, not at once: on a busy machine also later than ``QUIET_SECONDS``,
    so ``requests`` of them in all are waited for (as long as there is time: some may be lost)."""
    deadline, last, since = time.monotonic() + seconds, None, time.monotonic()
    while True:
        metrics = read_metrics(address)
        idle = metrics.total(METRIC_RUNNING) + metrics.total(METRIC_WAITING) == 0
        now = (metrics.total(METRIC_TOKENS), metrics.by(METRIC_REQUESTS, "outcome"))
        short = sum(now[1].values()) < requests and time.monotonic() < deadline - QUIET_SECONDS
        if not idle or short or now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= QUIET_SECONDS:
            return metrics
        if time.monotonic() > deadline:
            raise EngineError(
                f"after {seconds:g} s the server at {address} still has {metrics.total(METRIC_RUNNING):.0f} requests running "
                f"and {metrics.total(METRIC_WAITING):.0f} waiting: somebody else uses it, or requests are stuck"
            )
        time.sleep(0.1)


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.items())) or "없음"
