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

KINDS = {"short": "짧은 것", "long": "긴 것", "cancel": "도중에 떠남", "slow": "느리게 읽음", "too long": "너무 긴 글"}
#: Memory is flat if it grows by no more than this share of its warm level plus these bytes (allocators keep a little).
GROWTH_SHARE, GROWTH_BYTES = 0.05, 16 << 20
WARM_SHARE = 0.25  # of the time: first every kind of request must have been met
#: A shorter soak does not judge the memory: allocators and kernel caches still fill.
JUDGED_SECONDS = 60.0
GROWS = "늘어남"
#: The report is read in a lab and in a terminal, in the course's language.
PARTS = {"server": "서버", "engines": "엔진"}
OUTCOMES = {"stop": "끝까지 답함", "length": "길이 제한", "cancelled": "그만둠", "busy": "붐벼서 거절", "invalid": "너무 길어 거절", "error": "오류"}


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
            return f"{JUDGED_SECONDS:g}초보다 짧아 판정하지 않음"
        return "늘지 않음" if self.flat else GROWS

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
        """The report in Korean, PASS or FAIL in its first line."""
        records, seconds = self.load.records, self.load.seconds
        kinds = Counter(record.kind for record in records)
        lines = [
            f"{'PASS' if self.passed else 'FAIL'}: 클라이언트 {self.load.n_clients}개가 {seconds:.0f}초 동안 요청 {len(records):,}개, "
            f"토큰 {self.account.client_tokens:,}개 (초당 {self.account.client_tokens / max(seconds, 1e-9):,.0f}개)",
            "  종류: " + ", ".join(f"{title} {kinds[kind]:,}" for kind, title in KINDS.items()),
            "  결과: " + ", ".join(f"{OUTCOMES[o]} {count:,}" for o, count in sorted(self.account.client_requests.items())),
            f"  토큰: 서버는 {self.account.server_tokens:,}개로 셈. 그 가운데 {self.account.server_tokens - self.account.client_tokens:,}개는 "
            "읽은 이가 없음 (도중에 떠난 클라이언트)",
        ]
        for part in self.memory:
            lines.append(
                f"  {PARTS[part.name]}의 메모리: 데워진 뒤 {part.base / 2**20:.0f} MiB, 가장 많을 때 {part.highest / 2**20:.0f} MiB, 추세 "
                f"{part.growth / 2**20:+.1f} MiB ({part.allowed / 2**20:.0f}까지 봐줌): {part.verdict}"
            )
        return lines + [f"  잘못: {fault}" for fault in self.faults]


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
        faults.append("부하가 끝난 뒤 평범한 요청에 답하지 못함")
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
    faults += [f"요청 {count}개가 실패함: {text}" for text, count in errors.most_common(5)]
    for kind, title in KINDS.items():
        if not any(r.kind == kind and r.outcome not in ("busy", "error") for r in records):
            faults.append(f"'{title}' 종류의 요청이 하나도 통하지 않음: 더 오래 돌려 보세요")
    refused = [r for r in records if (r.kind == "too long") != (r.outcome == "invalid") and r.outcome not in ("busy", "error")]
    if refused:
        faults.append(f"프롬프트 {len(refused)}개를 잘못 받거나 잘못 거절함. 첫째는 '{KINDS.get(refused[0].kind, refused[0].kind)}' 종류")
    if expect_busy and not any(r.outcome == "busy" for r in records):
        faults.append("자리보다 많은 클라이언트가 물었는데 붐빈다는 답을 받은 요청이 없음")
    if watch.failures:
        faults.append(f"지표를 {watch.failures}번 읽지 못함")
    faults += account.differences()
    faults += [f"{PARTS[part.name]}의 메모리가 늘어남" for part in memory if part.verdict == GROWS]
    return faults


def _answers(connect: Connect) -> bool:
    connection = connect()
    try:
        pieces = list(connection.generate(korean_text(20, seed=3), Sampling(max_new_tokens=4)))
        return bool(pieces) and pieces[-1].finish_reason in ("stop", "length")
    finally:
        connection.close()
