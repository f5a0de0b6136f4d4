"""Training speed against transformers, litgpt, llms-from-scratch and NeMo AutoModel: the same batch, shape and optimiser.

    python benchmarks/training.py [--models llama gpt2] [--sizes 15M 100M] [--quick]

Shapes: ``shapes.py``; batch 16 x 256 tokens (4 x 256 at 100M).  A step is forward, loss, backward, clipping to norm 1, fused
AdamW, and the loss read out.  Every contender has a process of its own.  First each runs alone in each of its modes
(float32 or bfloat16, eager or compiled); then the best mode of each runs again, all in turns, round by round, and the
medians are compared.  Peers also try weights in bfloat16 ("bf16-true"), which is faster and less exact; ours always
keeps float32 weights.  A mode that fails, or does not answer within ``--patience`` seconds (a recurrence written as a
loop over time compiles for hours), is given up, with a line that says so, "–" in the table of modes and a note.

MFU = FLOP/s that the model needs (products only, attention over the whole square) / matmul peak measured in the
same process between the rounds.

litgpt and llms-from-scratch pin other versions than the core environment, so they go beside it, once:

    .venv/bin/python -m pip install --no-deps --target .envs/bench -r environments/bench.txt

AutoModel runs by the Python of ``.envs/nemo`` (``make env-nemo``).  A peer that is not installed is left out, and said
to be.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import signal
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from contenders import OURS, Contender, contenders
from run import table
from shapes import SHAPES, SIZES, check_families
from worker import BATCHES, CONTEXT, PATIENCE, Worker, mode_name

from llm_workshop.errors import install_one_line_errors

MFU_TARGET = 0.5
PRECISIONS = ("float32", "bf16", "bf16-true")


def speed_target(family: str) -> float:
    """What our speed over the peer's should be."""
    return {"llama": 1.2, "gpt2": 1.2, "qwen3_moe": 1.5, "deepseek_v3": 1.5}.get(family, 1.1)


Failures = dict[Contender, dict[tuple[str, bool], str]]  # why a mode of a contender was given up


def run(quick: bool = False, families: list[str] | None = None, sizes: tuple[str, ...] = ("15M",),
        precisions: tuple[str, ...] = PRECISIONS, compilations: tuple[bool, ...] = (False, True),
        patience: float = PATIENCE) -> list[dict]:
    """Rows {name, ours, peer, unit, ratio, target, note}, best mode of each in tokens per second."""
    check_families(families or ())
    if not patience > 0:
        raise ValueError(f"patience {patience:g}: use seconds above 0 (default {PATIENCE:g})")
    found = []
    for size in sizes:
        for family in families or list(SHAPES):
            there, missing = contenders([family], [size], apart=True)
            for one in missing:
                print(f"SKIPPED {one}: not installed ({one.cure})", flush=True)
            speeds, failures = screen(there, ("bf16",) if quick else precisions, (False,) if quick else compilations,
                                      steps=1 if quick else 4, patience=patience)
            best = {one: best_mode(modes) for one, modes in speeds.items() if modes}
            final = interleaved(best, failures, rounds=1 if quick else 5, steps=1 if quick else 4, patience=patience)
            print(f"\n{mode_table(speeds, failures)}\n", flush=True)
            found += rows(final, missing, failures)
    return found


def screen(there: list[Contender], precisions: tuple[str, ...], compilations: tuple[bool, ...], steps: int,
           patience: float = PATIENCE) -> tuple[dict[Contender, dict[tuple[str, bool], float]], Failures]:
    """Tokens per second of every contender in every mode, each alone; and the modes that do not run."""
    speeds: dict[Contender, dict[tuple[str, bool], float]] = {one: {} for one in there}
    failures: Failures = {one: {} for one in there}
    for one in there:
        n_tokens = BATCHES[one.size] * CONTEXT
        for precision, compiled in itertools.product(precisions, compilations):
            if precision == "bf16-true" and one.who == OURS:
                continue
            with contextlib.closing(Worker(one, precision, compiled, patience)) as worker, \
                    giving_up(failures, one, (precision, compiled)):
                worker.ask("steps", 2)
                # The fastest step: a mode must not lose its place because something else ran just then.
                seconds = min(worker.ask("steps", steps)["seconds"])
                speeds[one][precision, compiled] = n_tokens / seconds
                print(f"{one!s:32} {worker.mode:20} {n_tokens / seconds:7,.0f} tok/s", flush=True)
    return speeds, failures


@contextlib.contextmanager
def giving_up(failures: Failures, one: Contender, mode: tuple[str, bool]):
    """A worker that fails is said to, and the comparison goes on without it."""
    try:
        yield
    except RuntimeError as error:
        print(f"SKIPPED {one}, {mode_name(*mode)}: {error}", flush=True)
        failures[one][mode] = str(error)


def best_mode(modes: dict[tuple[str, bool], float]) -> tuple[str, bool]:
    return max(modes, key=modes.get)


def interleaved(modes: dict[Contender, tuple[str, bool]], failures: Failures, rounds: int, steps: int = 4,
                patience: float = PATIENCE) -> dict[Contender, dict]:
    """The best modes in turns: tokens per second (median over all steps), mode; for ours also the MFU."""
    result = {}
    with contextlib.ExitStack() as stack:
        workers = {one: stack.enter_context(contextlib.closing(Worker(one, *mode, patience))) for one, mode in modes.items()}
        seconds: dict[Contender, list[float]] = {one: [] for one in workers}
        peaks = dict.fromkeys(workers, 0.0)
        for step, (one, worker) in itertools.product(range(-1, rounds), workers.items()):
            if modes[one] in failures[one]:
                continue
            with giving_up(failures, one, modes[one]):
                worker.ask("steps", 1)  # compiles; in the rounds it wakes the threads after the others' turns
                if step < 0:
                    result[one] = worker.ask("facts") | {"mode": worker.mode}
                    continue
                seconds[one] += worker.ask("steps", steps)["seconds"]
                if one.who == OURS:
                    peaks[one] = max(peaks[one], worker.ask("peak", 0.5)["peak"])
    for one in [one for one in result if modes[one] in failures[one]]:
        del result[one]
    for one, facts in result.items():
        speed = BATCHES[one.size] * CONTEXT / statistics.median(seconds[one])
        flops = facts.pop("flops_per_token")
        facts |= {"speed": speed, "peak": peaks[one], "mfu": speed * flops / peaks[one] if peaks[one] else None}
    return result


def rows(final: dict[Contender, dict], missing: list[Contender], failures: Failures) -> list[dict]:
    """The table: each peer against our model of its own family and size, our MFU, and who could not be measured."""
    def row(name: str, **values) -> dict:
        return {"name": name, "ours": None, "peer": None, "unit": "tok/s", "ratio": None, "target": None} | values

    found = []
    for one, peer in final.items():
        ours = final.get(Contender(OURS, one.family, one.size))
        if one.who == OURS or ours is None:
            continue
        note = "; ".join([f"ours {ours['mode']}, peer {peer['mode']}", *given_up(failures, one)])
        found.append(row(f"training, {one}", ours=round(ours["speed"]), peer=round(peer["speed"]),
                         ratio=round(ours["speed"] / peer["speed"], 2), target=speed_target(one.family), note=note))
    for one, ours in final.items():
        if one.who == OURS:
            note = (f"{ours['speed']:,.0f} tok/s; matmul peak {ours['peak'] / 1e9:,.0f} GFLOP/s, {ours['mode']}; "
                    f"{ours['parameters'] / 1e6:.1f} M parameters")
            found.append(row(f"MFU, {one}", ours=round(ours["mfu"], 3), peer=1.0, unit="share of peak", ratio=round(ours["mfu"], 3),
                             target=MFU_TARGET if one.family in ("llama", "gpt2") else None, note=note))
    found += [row(f"training, {one}", note="; ".join(given_up(failures, one))) for one in failures if one not in final]
    return found + [row(f"training, {one}", note=f"not installed: {one.cure}") for one in missing]


def given_up(failures: Failures, one: Contender) -> list[str]:
    return [f"{mode_name(*mode)}: {reason}" for mode, reason in failures.get(one, {}).items()]


def mode_table(speeds: dict, failures: Failures) -> str:
    """Tokens per second of every contender in every mode, alone on the machine; "–" for a mode that does not run."""
    modes = list(itertools.product(PRECISIONS, (False, True)))
    lines = ["| tok/s | " + " | ".join(mode_name(*mode) for mode in modes) + " | note |", "|---|" + "---:|" * len(modes) + "---|"]
    for one, found in speeds.items():
        cells = [f"{found[mode]:,.0f}" if mode in found else "–" if mode in failures[one] else "" for mode in modes]
        cells.append("; ".join(given_up(failures, one)).replace("|", "\\|"))
        lines.append("| " + " | ".join([str(one), *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    install_one_line_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="bfloat16 eager only, one round: checks that it runs")
    parser.add_argument("--models", nargs="+", metavar="NAME", help=f"which of {', '.join(SHAPES)} (default: all)")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["15M"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="which to try (default: all)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--compiled-only", action="store_true", help="leave out the eager modes")
    only.add_argument("--eager-only", action="store_true", help="leave out the compiled modes")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS",
                        help=f"how long a mode may take for its first steps and the compilation (default: {PATIENCE:g})")
    options = parser.parse_args()
    compilations = (True,) if options.compiled_only else (False,) if options.eager_only else (False, True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of the workers' ``close``
    print(table(run(options.quick, options.models, options.sizes, tuple(options.precisions), compilations, options.patience)))


if __name__ == "__main__":
    main()
