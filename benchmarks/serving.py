"""The served model: what Triton costs, what batching gives, and how long one waits.

    python benchmarks/serving.py [--quick] [--soak SECONDS]

A llama of 15M parameters (``shapes.py``, random weights) behind a real Triton server on this machine, asked by clients
over gRPC; greedy answers of 16 to 48 tokens to prompts of about 48.  The scratch engine and, on a second server, the
``transformers`` engine stand ready together and are asked in turns; the figure is the best of the rounds.  The clients
run on the same cores as the server: the note says how much of them they took.  Speeds are of the time in which all
clients are at work.  ``--soak`` adds mixed load with clients
that go away, read slowly or find the server full; it passes or fails as a whole.
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

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from generation import benchmark_model
from run import table
from shapes import SIZES, label

from llm_workshop.corpora.sample import generate
from llm_workshop.serving.engine import ModelInfo, Sampling
from llm_workshop.serving.loadtest import Account, Job, Summary, closed_loop, settled_metrics, soak, summarise
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
class Found:
    """Best of the rounds: one client in this process, one and eight clients at each engine."""

    in_process: Summary
    one: Summary
    eight: Summary
    peer_eight: Summary
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
        found = rows(measure(settings, rounds=1 if quick else 3, n_jobs=8 if quick else 24))
        return found + ([soak_row(settings, soak_seconds)] if soak_seconds else [])


def write_model(folder: Path) -> Path:
    """The benchmark's model with a tokenizer learnt from the sample corpus, whose every token the model has."""
    model = benchmark_model("llama", SIZE, torch.bfloat16)
    texts = [document.text for document in generate(1.0)]
    tokenizer = ByteLevelBPE.train(texts, SIZES[SIZE]["vocab_size"], SPECIAL_TOKENS)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def measure(settings: EngineSettings, rounds: int, n_jobs: int) -> Found:
    """Both engines and this process in turns."""
    engine = in_own_thread(in_process, settings)
    ratio = characters_a_token(engine.tokenizer)
    best: dict[str, Summary] = {}

    def keep(name: str, summary: Summary) -> None:
        print(f"{name}: {describe(summary)}", flush=True)
        if name not in best or summary.steady_tokens_per_second > best[name].steady_tokens_per_second:
            best[name] = summary

    with served_model(settings) as ours, served_model(replace(settings, engine="transformers")) as peer:
        for server in (ours, peer):
            asked(server, jobs(N_CLIENTS, ratio, seed=9000), N_CLIENTS)
        for round_ in range(rounds):
            few, many = (jobs(n, ratio, round_ * 1000) for n in (n_jobs, 3 * n_jobs))
            keep("in process", summarise(closed_loop(Shared(InProcess(engine)), few, 1)))
            keep("one client", asked(ours, few, 1))
            keep("eight clients", asked(ours, many, N_CLIENTS))
            keep("eight clients, transformers", asked(peer, few, N_CLIENTS))
    return Found(best["in process"], best["one client"], best["eight clients"], best["eight clients, transformers"], ours.seconds_to_ready)


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
    one, eight, peer = found.one, found.eight, found.peer_eight
    here, there = (1000 / s.steady_tokens_per_second for s in (found.in_process, one))
    calm, busy = (1000 * s.first_token.p95 for s in (one, eight))
    own = f"clients took {eight.own_cores:.2f} of {cores()} cores"
    return [
        _row(f"{name}, one client, a token", there, here, "ms", here / there, round(1 / STREAMING_COST, 2),
             f"peer: the engine in this process, as many threads; at most {STREAMING_COST} times as long; clients took {one.own_cores:.2f} cores"),
        _row(f"{name}, {N_CLIENTS} clients against one", eight.steady_tokens_per_second, one.steady_tokens_per_second, "tok/s",
             eight.steady_tokens_per_second / one.steady_tokens_per_second, BATCHING_GAIN, f"fairness {eight.fairness:.3f}; {own}"),
        _row(f"{name}, {N_CLIENTS} clients, scratch against transformers", eight.steady_tokens_per_second, peer.steady_tokens_per_second, "tok/s",
             eight.steady_tokens_per_second / peer.steady_tokens_per_second, AGAINST_PEER, "both behind Triton"),
        _row(f"{name}, TTFT p95, {N_CLIENTS} clients against one", busy, calm, "ms", calm / busy, round(1 / WAITING, 2),
             f"at most {WAITING:g} times as long; median {1000 * eight.first_token.p50:.0f} against {1000 * one.first_token.p50:.0f}"),
        _row("cold start to ready", found.seconds_to_ready, COLD_START, "s", COLD_START / found.seconds_to_ready, 1.0,
             "peer: the most allowed"),
    ]  # fmt: skip


def soak_row(settings: EngineSettings, seconds: float) -> dict:
    """Mixed load with fewer places than clients."""
    with served_model(replace(settings, max_rows=4, max_waiting=2)) as server:
        report = soak(server.connect, server.metrics_address, seconds=seconds, n_clients=9, context_length=server.context_length, expect_busy=True)
    print("\n".join(report.lines()), flush=True)
    return _row(f"soak, {seconds:g} s", float(len(report.faults)), 0.0, "faults", float(report.passed), 1.0, report.lines()[0])


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


def _row(name: str, ours: float, peer: float, unit: str, ratio: float, target: float, note: str) -> dict:
    return {"name": name, "ours": ours, "peer": peer, "unit": unit, "ratio": round(ratio, 2), "target": target, "note": note}


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
