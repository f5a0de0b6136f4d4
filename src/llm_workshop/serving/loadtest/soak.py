"""A soak: mixed load for a long time, after which nothing may be lost, stuck or grown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from llm_workshop.serving.engine import EngineError, Sampling
from llm_workshop.serving.loadtest.accounting import Account, settled_metrics
from llm_workshop.serving.loadtest.drive import Connect, closed_loop
from llm_workshop.serving.loadtest.records import Load
from llm_workshop.serving.loadtest.watch import Watch
from llm_workshop.serving.loadtest.workload import characters_per_token, korean_text, mixed_jobs

KINDS = ("short", "long", "cancel", "slow", "too long")
#: Memory is flat if it grows by no more than this share of its warm level plus these bytes (allocators keep a little).
GROWTH_SHARE, GROWTH_BYTES = 0.05, 16 << 20
WARM_SHARE = 0.25  # of the time: first every kind of request must have been met
#: A shorter soak does not judge the memory: allocators and kernel caches still fill.
JUDGED_SECONDS = 60.0


@dataclass(frozen=True)
class Flatness:
    """Memory of one process group over a soak, in bytes.

    ``base`` is the median of the first tenth after the warm-up, ``growth`` the fitted straight line's rise from the
    warm-up to the end, ``highest`` the largest reading after the warm-up, ``seconds`` how long the whole took.
    """

    name: str
    base: float
    growth: float
    highest: float
    seconds: float

    @property
    def allowed(self) -> float:
        return GROWTH_SHARE * self.base + GROWTH_BYTES

    @property
    def verdict(self) -> str:
        if self.seconds < JUDGED_SECONDS:
            return f"not judged in less than {JUDGED_SECONDS:g} s"
        return "flat" if self.flat else "GROWS"

    @property
    def flat(self) -> bool:
        return self.growth <= self.allowed and self.highest - self.base <= self.allowed

    @classmethod
    def of(cls, name: str, seconds: Sequence[float], values: Sequence[float]) -> Flatness:
        """From readings at ``seconds`` (ascending); the first ``WARM_SHARE`` of the time is left out."""
        start = seconds[0] + WARM_SHARE * (seconds[-1] - seconds[0])
        warm = [(at, value) for at, value in zip(seconds, values) if at >= start]
        times, levels = np.array([at for at, _ in warm]), np.array([value for _, value in warm], dtype=float)
        slope = float(np.polyfit(times - times[0], levels, 1)[0]) if len(warm) > 1 and times[-1] > times[0] else 0.0
        base = float(np.median(levels[: max(1, len(levels) // 10)]))
        return cls(name, base, slope * float(times[-1] - times[0]), float(levels.max()), seconds[-1] - seconds[0])


@dataclass(frozen=True)
class SoakReport:
    """What a soak found; ``faults`` is empty if it passed."""

    load: Load
    account: Account
    memory: tuple[Flatness, ...]
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.faults

    def lines(self) -> list[str]:
        """The report, PASS or FAIL in its first line."""
        records, seconds = self.load.records, self.load.seconds
        kinds = Counter(record.kind for record in records)
        lines = [
            f"{'PASS' if self.passed else 'FAIL'}: {len(records):,} requests of {self.load.n_clients} clients in {seconds:.0f} s, "
            f"{self.account.client_tokens:,} tokens ({self.account.client_tokens / max(seconds, 1e-9):,.0f} a second)",
            "  kinds: " + ", ".join(f"{kind} {kinds[kind]:,}" for kind in KINDS),
            "  outcomes: " + ", ".join(f"{o} {count:,}" for o, count in sorted(self.account.client_requests.items())),
            f"  tokens: the server counted {self.account.server_tokens:,}, of which {self.account.server_tokens - self.account.client_tokens:,} "
            "were never read (clients that went away)",
        ]
        for part in self.memory:
            lines.append(
                f"  memory of the {part.name}: warm {part.base / 2**20:.0f} MiB, highest {part.highest / 2**20:.0f} MiB, trend "
                f"{part.growth / 2**20:+.1f} MiB (allowed {part.allowed / 2**20:.0f}): {part.verdict}"
            )
        return lines + [f"  FAULT: {fault}" for fault in self.faults]


def soak(
    connect: Connect,
    metrics_address: str,
    *,
    seconds: float,
    n_clients: int,
    context_length: int,
    expect_busy: bool = False,
    seed: int = 0,
) -> SoakReport:
    """Mixed load for ``seconds``, then the accounts and the memory.

    ``context_length`` is the longest request that the server takes, in tokens.  ``expect_busy``: there are more
    clients than rows and waiting places, so that some must have been told to come back later.
    """
    connection = connect()
    try:
        ratio = characters_per_token(connection)
    finally:
        connection.close()
    before = settled_metrics(metrics_address)
    with Watch(metrics_address, every=max(0.2, seconds / 600)) as watch:
        load = closed_loop(connect, mixed_jobs(context_length, ratio, seed), n_clients, seconds=seconds)
    faults = []
    try:
        after = settled_metrics(metrics_address)
    except EngineError as error:
        faults.append(str(error))
        after = before
    account = Account.of(load.records, before, after)
    memory = flatness(watch)
    faults += find_faults(load, account, memory, watch, expect_busy)
    if not faults and not _answers(connect):
        faults.append("after the load the server gave no answer to a plain request")
    return SoakReport(load, account, memory, faults)


def flatness(watch: Watch) -> tuple[Flatness, ...]:
    """Of the server process and of its engines; empty where their memory could not be read."""
    looks = [look for look in watch.looks if look.memory is not None]
    if len(looks) < 2:
        return ()
    seconds = [look.seconds for look in looks]
    return (
        Flatness.of("server", seconds, [look.memory.server for look in looks]),
        Flatness.of("engines", seconds, [look.memory.engines for look in looks]),
    )


def find_faults(load: Load, account: Account, memory: Sequence[Flatness], watch: Watch, expect_busy: bool) -> list[str]:
    """Everything that makes a soak fail, in words."""
    records = load.records
    faults = []
    errors = Counter(record.error or "?" for record in records if record.outcome == "error")
    faults += [f"{count} requests failed: {text}" for text, count in errors.most_common(5)]
    for kind in KINDS:
        if not any(r.kind == kind and r.outcome not in ("busy", "error") for r in records):
            faults.append(f"no request of the kind '{kind}' came through: soak longer")
    refused = [r for r in records if (r.kind == "too long") != (r.outcome == "invalid") and r.outcome not in ("busy", "error")]
    if refused:
        faults.append(f"{len(refused)} prompts were wrongly taken or refused, the first of the kind '{refused[0].kind}'")
    if expect_busy and not any(r.outcome == "busy" for r in records):
        faults.append("no request was told that the server is busy, although more clients asked than have room")
    if watch.failures:
        faults.append(f"the metrics could not be read {watch.failures} times")
    faults += account.differences()
    faults += [f"the memory of the {part.name} grows" for part in memory if part.verdict == "GROWS"]
    return faults


def _answers(connect: Connect) -> bool:
    connection = connect()
    try:
        pieces = list(connection.generate(korean_text(20, seed=3), Sampling(max_new_tokens=4)))
        return bool(pieces) and pieces[-1].finish_reason in ("stop", "length")
    finally:
        connection.close()
