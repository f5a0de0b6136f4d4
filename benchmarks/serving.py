"""The served model: what Triton costs, what batching gives, and how long one waits.

    python benchmarks/serving.py [--quick] [--soak SECONDS]

A llama of 15M parameters (``shapes.py``, random weights) behind a real Triton server on this machine, asked by clients
over gRPC; greedy answers of 16 to 48 tokens to prompts of about 48.  The scratch engine and, on a second server, the
``transformers`` engine stand ready together and are asked in turns.  A machine's own speed may change by half within
seconds, so that only what is measured side by side can be compared: one client and the engine in this process answer
the same questions, one by one in turns, the rest goes in rounds, and a ratio is the median of the pairs' or of the
rounds'.  The clients run on the same cores as the server: the note says how much of them they took.  Speeds are of the
time in which all clients are at work.  ``--soak`` adds mixed load with clients that go away, read slowly or find the
server full; it passes or fails as a whole.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from generation import benchmark_model
from run import table
from shapes import SIZES, label

from llm_workshop.corpora.sample import generate
from llm_workshop.serving.engine import ModelInfo, Sampling
from llm_workshop.serving.loadtest import (
    Account,
    Job,
    Record,
    Summary,
    closed_loop,
    settled_metrics,
    soak,
    summarise,
)
from llm_workshop.serving.loadtest.drive import Shared
from llm_workshop.serving.loadtest.served import Served, served_model
from llm_workshop.serving.loadtest.workload import text_of_tokens
from llm_workshop.serving.own_thread import in_own_thread
from llm_workshop.serving.scratch_engine import ScratchEngine
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.serving.triton.installation import find_installation
from llm_workshop.serving.triton.model_folder import resolved
from llm_workshop.serving.triton.repository import default_threads
from scratch_llm.models import load_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

SIZE, N_CLIENTS, PROMPT_TOKENS = "15M", 8, 48
#: Times may be so much longer, speeds must be so much higher.
STREAMING_COST, BATCHING_GAIN, AGAINST_PEER, WAITING, COLD_START = 1.15, 3.0, 2.0, 3.0, 20.0


@dataclass(frozen=True)
class Round:
    """One client, then as many as there are, then the same at the other engine."""

    one: Summary
    eight: Summary
    peer_eight: Summary


@dataclass(frozen=True)
class Found:
    """``pairs``: what became of the same question in this process and over Triton, one client each."""

    pairs: list[tuple[Record, Record]]
    rounds: list[Round]
    seconds_to_ready: float


def run(quick: bool = False, soak_seconds: float = 0) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}; a ratio above 1: ours is better."""
    try:
        find_installation()
    except ValueError as problem:
        print(f"SKIPPED serving: {problem}", flush=True)
        return [{"name": "serving", "ours": None, "peer": None, "unit": "", "ratio": None, "target": None, "note": str(problem)}]
    with tempfile.TemporaryDirectory() as folder:
        settings = resolved(EngineSettings(model=in_own_thread(write_model, Path(folder)), threads=default_threads(), max_rows=N_CLIENTS, max_waiting=16))
        found = rows(measure(settings, rounds=1 if quick else 5, n_jobs=8 if quick else 24, n_pairs=8 if quick else 120))
        return found + ([soak_row(settings, soak_seconds)] if soak_seconds else [])


def write_model(folder: Path) -> Path:
    """The benchmark's model with a tokenizer learnt from the sample corpus, whose every token the model has."""
    model = benchmark_model("llama", SIZE, torch.bfloat16)
    texts = [document.text for document in generate(1.0)]
    tokenizer = ByteLevelBPE.train(texts, SIZES[SIZE]["vocab_size"], SPECIAL_TOKENS)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def measure(settings: EngineSettings, rounds: int, n_jobs: int, n_pairs: int) -> Found:
    """Both engines and this process in turns."""
    engine = in_own_thread(in_process, settings)
    ratio = characters_a_token(engine.tokenizer)
    with served_model(settings) as ours, served_model(replace(settings, engine="transformers")) as peer:
        for server in (ours, peer):
            asked(server, jobs(N_CLIENTS, ratio, seed=9000), N_CLIENTS)
        pairs = in_turns(engine, ours, jobs(n_pairs, ratio, seed=5000))
        found = []
        for number in range(rounds):
            few, many = (jobs(n, ratio, number * 1000) for n in (n_jobs, 3 * n_jobs))
            round_ = Round(asked(ours, few, 1), asked(ours, many, N_CLIENTS), asked(peer, few, N_CLIENTS))
            for name, summary in vars(round_).items():
                print(f"{name}: {describe(summary)}", flush=True)
            found.append(round_)
    return Found(pairs, found, ours.seconds_to_ready)


def in_turns(engine: ScratchEngine, server: Served, work: list[Job]) -> list[tuple[Record, Record]]:
    """Each question in this process and over Triton, the one first as often as the other."""
    pairs = []
    client = server.connect()
    try:
        sides = (Shared(InProcess(engine)), Shared(client))
        list(client.generate(work[0].prompt, work[0].sampling))
        for number, job in enumerate(work):
            order = (0, 1) if number % 2 else (1, 0)
            records = {side: closed_loop(sides[side], [job], 1).records[0] for side in order}
            if faults := sorted({record.error for record in records.values() if record.error}):
                raise RuntimeError("; ".join(faults))
            pairs.append((records[0], records[1]))
    finally:
        client.close()
    return pairs


def asked(server: Served, work: list[Job], n_clients: int) -> Summary:
    """A closed loop, begun over a second, whose every token is accounted for."""
    before = settled_metrics(server.metrics_address, seconds=60)
    load = closed_loop(server.connect, work, n_clients, ramp=1.0)
    account = Account.of(load.records, before, settled_metrics(server.metrics_address, seconds=60))
    if faults := account.differences() + sorted({record.error for record in load.records if record.error}):
        raise RuntimeError("; ".join(faults))
    return summarise(load)


def jobs(n: int, ratio: float, seed: int) -> list[Job]:
    """Answers of unequal length, so that clients do not keep step."""
    return [Job(text_of_tokens(PROMPT_TOKENS, seed + i, ratio), Sampling(16 + 19 * i % 33, 0.0)) for i in range(n)]


class InProcess:
    """The engine without a server, in the form of a connection."""

    def __init__(self, engine: ScratchEngine):
        self.generate: Callable[[str, Sampling], Iterator] = engine.complete


def in_process(settings: EngineSettings) -> ScratchEngine:
    torch.set_num_threads(settings.threads)
    model = load_model(settings.model, dtype=getattr(torch, settings.precision))
    info = ModelInfo("benchmark", "llama", model.n_parameters(), model.config.context_length, model.config.vocab_size, False)
    engine = ScratchEngine(model, ByteLevelBPE.load(settings.model), info)
    for _ in range(2):
        list(engine.complete("가나다", Sampling(16, 0.0)))
    return engine


def characters_a_token(tokenizer: ByteLevelBPE) -> float:
    text = text_of_tokens(PROMPT_TOKENS, 1, 2.0)
    return len(text) / len(tokenizer.encode(text))


def rows(found: Found) -> list[dict]:
    """The targets, in the benchmark's common form."""
    name = label("llama", SIZE)
    here, there = ([1000 * record.seconds / record.n_tokens for record in side] for side in zip(*found.pairs))
    one, eight, peer = ([_rate(getattr(r, side)) for r in found.rounds] for side in ("one", "eight", "peer_eight"))
    calm, busy = ([1000 * getattr(r, side).first_token.p95 for r in found.rounds] for side in ("one", "eight"))
    own, own_one = (median([getattr(r, side).own_cores for r in found.rounds]) for side in ("eight", "one"))
    fair, waits = (median([f(r.eight) for r in found.rounds]) for f in (lambda s: s.fairness, lambda s: 1000 * s.first_token.p50))
    return [
        _row(f"{name}, one client, a token", there, here, "ms", _ratios(here, there), round(1 / STREAMING_COST, 2),
             f"peer: the engine in this process, as many threads; at most {STREAMING_COST} times as long; "
             f"{len(here)} answers in turns; clients took {own_one:.2f} cores"),
        _row(f"{name}, {N_CLIENTS} clients against one", eight, one, "tok/s", _ratios(eight, one), BATCHING_GAIN,
             f"fairness {fair:.3f}; clients took {own:.2f} of {cores()} cores"),
        _row(f"{name}, {N_CLIENTS} clients, scratch against transformers", eight, peer, "tok/s", _ratios(eight, peer), AGAINST_PEER,
             "both behind Triton"),
        _row(f"{name}, TTFT p95, {N_CLIENTS} clients against one", busy, calm, "ms", _ratios(calm, busy), round(1 / WAITING, 2),
             f"at most {WAITING:g} times as long; median of {N_CLIENTS} clients {waits:.0f}"),
        _row("cold start to ready", [found.seconds_to_ready], [COLD_START], "s", [COLD_START / found.seconds_to_ready], 1.0,
             "peer: the most allowed"),
    ]  # fmt: skip


def soak_row(settings: EngineSettings, seconds: float) -> dict:
    """Mixed load with fewer places than clients."""
    with served_model(replace(settings, max_rows=4, max_waiting=2)) as server:
        report = soak(server.connect, server.metrics_address, seconds=seconds, n_clients=9, context_length=server.context_length, expect_busy=True)
    print("\n".join(report.lines()), flush=True)
    return _row(f"soak, {seconds:g} s", [float(len(report.faults))], [0.0], "faults", [float(report.passed)], 1.0, report.lines()[0])


def describe(summary: Summary) -> str:
    first, between = summary.first_token, summary.inter_token
    return (
        f"{summary.steady_tokens_per_second:.0f} tok/s, TTFT p50 {1000 * first.p50:.0f} p95 {1000 * first.p95:.0f} ms, "
        f"ITL p50 {1000 * between.p50:.1f} p95 {1000 * between.p95:.1f} ms, clients {summary.own_cores:.2f} cores"
    )


def cores() -> int:
    with contextlib.suppress(AttributeError):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _rate(summary: Summary) -> float:
    return summary.steady_tokens_per_second


def _ratios(better: list[float], worse: list[float]) -> list[float]:
    return [a / b for a, b in zip(better, worse)]


def _row(name: str, ours: list[float], peer: list[float], unit: str, ratios: list[float], target: float, note: str) -> dict:
    """Medians; the note tells the quartiles of the ratio where there are several."""
    if len(ratios) > 1:
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        note += f"; half of the ratios from {low:.2f} to {high:.2f}"
    return {"name": name, "ours": median(ours), "peer": median(peer), "unit": unit, "ratio": round(median(ratios), 2), "target": target, "note": note}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of few answers")
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS", help="mixed load for so long at the end")
    options = parser.parse_args()
    found = run(options.quick, options.soak)
    print(table(found))
    if any(row["name"].startswith("soak") and row["ratio"] < 1 for row in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
