"""Climb the ladder of speed: each rung in a process of its own, so that its peak memory is its own.

    python -m llm_workshop.scaling.ladder_run sdpa --scale smoke
    python -m llm_workshop.scaling.ladder_run reference-packed --scale smoke     # the written-out losses of packed rows
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import Any

import torch

from llm_workshop.architectures.trial import INTERRUPTED, run_in_child
from llm_workshop.artifacts import Artifacts
from llm_workshop.errors import install_one_line_errors
from llm_workshop.memory import MemoryPeak
from llm_workshop.pipeline.pretrain import model_config
from llm_workshop.scaling.ladder import (
    LadderStep,
    Method,
    allowed_difference,
    choose_rungs,
    ladder_model,
    largest_difference,
    measure,
    method_of,
    reference_of,
)
from llm_workshop.settings import Settings, add_dials, load_settings
from scratch_llm.data import TokenFile
from scratch_llm.tokenizers import ByteLevelBPE

INPUTS = ("tokenizer", "tokens")
_MODULE = "llm_workshop.scaling.ladder_run"
_REFERENCE = {False: "naive", True: "reference-packed"}


def device_type() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def climb(artifacts: Artifacts) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row for every rung (those that are done are read), and why others are left out."""
    settings = artifacts.settings
    rungs, left_out = choose_rungs(settings.speed.rungs, device_type())
    rows, before, measured = [], None, set()
    for number, rung in enumerate(rungs, 1):
        method = method_of(rungs, rung.name)
        print(f"\n[{number}/{len(rungs)}] {rung.title}", flush=True)
        facts = run_rung(artifacts, rung.name, method, measured)
        reference = run_rung(artifacts, _REFERENCE[method.packed], reference_of(method), measured)
        difference = largest_difference(facts["losses"], reference["losses"])
        allowed = allowed_difference(method, facts["vocab_size"])
        speed = facts["tokens_per_second"]
        rows.append({"name": rung.name, "title": rung.title, **facts, "difference": difference, "allowed": allowed,
                     "equal": difference <= allowed, "gain": speed / before if before else None, "total": speed / rows[0]["tokens_per_second"]
                     if rows else 1.0})  # fmt: skip
        before = speed
        print(f"  {speed:,.0f} 토큰/초, 메모리 {facts['peak_bytes'] / 2**20:,.0f} MiB, 손실의 차이 {difference:.1e} (허용 {allowed:.1e})", flush=True)
    return rows, left_out


def run_rung(artifacts: Artifacts, name: str, method: Method, measured: set[str]) -> dict[str, Any]:
    """The figures of one rung; measured now, in a child process, where they are missing.

    ``measured``: the rungs of this climb, which FORCE=1 does not measure once more.
    """
    force = False if name in measured else None
    if not artifacts.is_current(stage_of(name), used_settings(artifacts.settings, method), INPUTS, force=force):
        run_in_child(name, artifacts.settings, _MODULE)
    measured.add(name)
    return artifacts.read_manifest(stage_of(name))["metrics"]


def stage_of(name: str) -> str:
    """Where a rung's figures lie: not among the products of the run."""
    return f".work/speed-{name}"


def used_settings(settings: Settings, method: Method) -> dict[str, Any]:
    """What decides a rung's figures; which other rungs are climbed does only through ``method``."""
    return {"speed": settings.speed.model_dump(mode="json", exclude={"rungs"}), "model": settings.model,
            "method": dataclasses.asdict(method), "seed": settings.seed}


def run(name: str, artifacts: Artifacts) -> None:
    """Measure one rung in this process and write its stage."""
    settings, speed, device = artifacts.settings, artifacts.settings.speed, device_type()
    rungs, _ = choose_rungs(speed.rungs, device)
    method = Method(packed=True) if name == _REFERENCE[True] else method_of(rungs, name)
    tokenizer = ByteLevelBPE.load(artifacts.require("tokenizer"))
    token_file = TokenFile(artifacts.require("tokens") / "train")
    # One special token more, as a chat model may need: a vocabulary that is no multiple of anything.
    config = dataclasses.replace(model_config(settings, tokenizer), vocab_size=tokenizer.vocab_size + 1)
    with artifacts.write_stage(stage_of(name), used_settings(settings, method), INPUTS) as stage:
        peak = MemoryPeak(device)
        model = ladder_model(config, method, settings.seed).to(device)
        step = LadderStep(model, method, token_file, speed.batch_size, speed.small_batch, settings.seed)
        stage.metrics.update(
            measure(step, speed.compare_steps, 1 if name == _REFERENCE[True] else speed.steps), peak_bytes=peak.bytes(),
            vocab_size=config.vocab_size, parameters=model.n_parameters(), method=dataclasses.asdict(method),
            flops_per_token=model.flops_per_token(settings.model.context_length),
        )  # fmt: skip


def main() -> None:
    install_one_line_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a rung, or reference-packed")
    add_dials(parser)
    options = parser.parse_args()
    settings = load_settings(options.scale, options.data, options.seed, options.overrides)
    try:
        run(options.name, Artifacts(settings))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)  # the process that waits for this one says so


if __name__ == "__main__":
    main()
