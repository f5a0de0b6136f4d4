"""What one request was, and what became of it: the raw rows from which every figure is computed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from llm_workshop.serving.engine import Sampling
from scratch_llm.io import atomic_write

#: How a request ended, in the words of the server's own counter (interface.METRIC_REQUESTS).
Outcome = Literal["stop", "length", "cancelled", "busy", "invalid", "error"]


@dataclass(frozen=True)
class Job:
    """One request to be sent.

    ``kind`` is only a label.  ``cancel_after``: the client goes away once it has so many tokens.  ``pause``: seconds
    that a slow reader rests after each piece.
    """

    prompt: str
    sampling: Sampling
    kind: str = "plain"
    cancel_after: int | None = None
    pause: float = 0.0


@dataclass
class Record:
    """What became of a job; times are seconds since the load began.

    ``due`` is when the request should have been sent (in a closed loop that is when it was), ``sent`` when it was.
    ``arrivals`` holds (time, tokens) of every piece that brought tokens.
    """

    client: int
    kind: str
    due: float
    sent: float
    ended: float = 0.0
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    outcome: Outcome = "error"
    error: str | None = None
    max_new_tokens: int = 0
    n_prompt_tokens: int | None = None
    n_characters: int = 0

    @property
    def n_tokens(self) -> int:
        return sum(count for _, count in self.arrivals)

    @property
    def answered(self) -> bool:
        """Whether the model ended the answer by itself."""
        return self.outcome in ("stop", "length")

    @property
    def queueing(self) -> float:
        """Seconds from when it was due until it was sent: above 0 only in an open loop whose workers were all in use."""
        return self.sent - self.due

    @property
    def first_token(self) -> float | None:
        """Time to first token, in seconds from when it was due; None without one."""
        return self.arrivals[0][0] - self.due if self.arrivals else None

    @property
    def seconds(self) -> float:
        return self.ended - self.due

    def inter_token(self) -> list[float]:
        """Seconds from token to token.  Tokens that came in one piece share its gap evenly."""
        gaps = []
        for (before, _), (now, count) in zip(self.arrivals, self.arrivals[1:]):
            gaps += [(now - before) / count] * count
        return gaps


@dataclass(frozen=True)
class Load:
    """A finished load: its records, how long it lasted, and what the clients themselves took of the processor."""

    records: list[Record]
    n_clients: int
    seconds: float
    cpu_seconds: float


def write_records(path: Path, records: Sequence[Record]) -> None:
    """One JSON line for each record."""
    with atomic_write(path) as stream:
        for record in records:
            row = asdict(record) | {"arrivals": [[round(at, 6), count] for at, count in record.arrivals]}
            row |= {key: round(row[key], 6) for key in ("due", "sent", "ended")}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file that ``write_records`` wrote; ValueError names a line that is none."""
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            yield Record(**row | {"arrivals": [(at, count) for at, count in row["arrivals"]]})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number} is no record of a load test ({error})") from None
