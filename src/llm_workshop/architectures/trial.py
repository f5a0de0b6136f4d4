"""Train one architecture and measure it, in a process of its own so that its peak memory is its own.

    python -m llm_workshop.architectures.trial NAME --scale smoke
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import torch

from llm_workshop.architectures.decoding import decode_cost
from llm_workshop.architectures.shapes import ARCHITECTURES, check_architectures, equal_config
from llm_workshop.artifacts import Artifacts
from llm_workshop.errors import exit_code, install_one_line_errors
from llm_workshop.memory import MemoryPeak
from llm_workshop.progress import print_korean
from llm_workshop.settings import Settings, add_dials, load_settings
from scratch_llm.analysis.parameters import active_parameters
from scratch_llm.data import TokenFile, Windows
from scratch_llm.models import build_model
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import TrainingConfig, train

_INPUTS = ("tokenizer", "tokens")
INTERRUPTED = exit_code(KeyboardInterrupt())


def run_trials(artifacts: Artifacts) -> dict[str, dict[str, Any]]:
    """Train and measure every architecture of ``compare.models`` that is not done yet; results by name.

    Each is an artifact of its own, so an interrupted comparison goes on where it stopped (and within a run at its last
    checkpoint).
    """
    settings = artifacts.settings
    check_architectures(settings.compare.models)
    for number, name in enumerate(settings.compare.models, 1):
        print(f"\n[{number}/{len(settings.compare.models)}] {ARCHITECTURES[name].title}", flush=True)
        if artifacts.skip_if_current(stage_of(name), used_settings(settings), _INPUTS):
            continue
        run_in_child(name, settings)
    return {name: artifacts.read_manifest(stage_of(name))["metrics"] for name in settings.compare.models}


def run_in_child(name: str, settings: Settings, module: str = "llm_workshop.architectures.trial") -> None:
    """One trial as a child process; its output appears as it comes.  RuntimeError where it fails.

    ``module``: a program that takes the trial's name and the dials.
    """
    changed = [note.split("  (", 1)[0] for note in settings.notes if note.endswith("(set by you)")]
    command = [sys.executable, "-m", module, name, *changed, "--scale", settings.scale,
               "--data", ",".join(settings.data), "--seed", str(settings.seed)]
    # A process group of its own: Ctrl-C reaches it once, from here, and the step at work is finished and saved.
    child = subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"}, process_group=0)
    with _passing_signals_to(child):
        code = child.wait()
    if code in (INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    if code:
        raise RuntimeError(f"the trial of {name} failed (exit code {code}): its error stands above")


@contextlib.contextmanager
def _passing_signals_to(child: subprocess.Popen) -> Iterator[None]:
    """Ctrl-C, a closed terminal and ``kill`` reach the child instead of this process (only in the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pass_on(number: int, frame: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def trial(name: str, artifacts: Artifacts) -> None:
    """Train ``name``, measure decoding, and write the stage ``architecture-<name>``."""
    settings = artifacts.settings
    compare, used = settings.compare, used_settings(settings)
    tokenizer = ByteLevelBPE.load(artifacts.require("tokenizer"))
    artifacts.require("tokens")
    windows = tuple(
        Windows(TokenFile(artifacts.path("tokens") / split), compare.context_length, compare.batch_size, seed=settings.seed,
                packing=settings.pretrain.packing)
        for split in ("train", "valid"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    peak = MemoryPeak(device)
    config = equal_config(name, compare.parameters, vocab_size=tokenizer.vocab_size, context_length=compare.context_length,
                          n_layers=compare.n_layers, bos_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id)
    model = build_model(config, seed=settings.seed).to(device)
    print(f"파라미터 {model.n_parameters():,}개, {config.n_layers}층, 너비 {config.d_model}, 장치 {device}", flush=True)
    with artifacts.write_stage(stage_of(name), used, _INPUTS) as stage:
        result = train(model, *windows, training_config(settings), artifacts.work(stage_of(name), used, _INPUTS),
                       token_bytes=tokenizer.token_bytes(), log=_log)
        stage.metrics.update(
            title=ARCHITECTURES[name].title, parameters=model.n_parameters(), active_parameters=active_parameters(model),
            n_layers=config.n_layers, d_model=config.d_model, bits_per_byte=result.bits_per_byte, valid_loss=result.valid_loss,
            tokens_per_second=result.tokens_per_second, training_seconds=result.seconds, peak_bytes=peak.bytes(),
            flops_per_token=model.flops_per_token(compare.context_length), mfu=result.mfu,
            decoding=decode_cost(model.eval(), compare.decode_contexts))
        model.save_pretrained(stage.folder)
        (stage.folder / "metrics.jsonl").write_bytes(result.metrics_path.read_bytes())
    artifacts.clear_work(stage_of(name))


def _log(line: str) -> None:
    """The loop's lines in Korean, but for its word on Ctrl-C: the process that waits for this one says it."""
    if not line.startswith("interrupted:"):
        print_korean(line)


def training_config(settings: Settings) -> TrainingConfig:
    """The same steps, batches and learning rate for all architectures."""
    compare = settings.compare
    return TrainingConfig(
        steps=max(1, round(compare.tokens / (compare.batch_size * compare.context_length))), batch_size=compare.batch_size,
        learning_rate=compare.learning_rate, precision=settings.pretrain.precision, compile="off", eval_batches=settings.pretrain.eval_batches,
        log_every=settings.pretrain.log_every, seed=settings.seed)


def used_settings(settings: Settings) -> dict[str, Any]:
    """What decides a trial's result; which other models are compared does not."""
    compare = settings.compare.model_dump(mode="json", exclude={"models"})
    return {"compare": compare, "packing": settings.pretrain.packing, "precision": settings.pretrain.precision, "seed": settings.seed}


def stage_of(name: str) -> str:
    return f"architecture-{name}"


def main() -> None:
    install_one_line_errors()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(ARCHITECTURES))
    add_dials(parser)
    options = parser.parse_args()
    settings = load_settings(options.scale, options.data, options.seed, options.overrides)
    try:
        trial(options.name, Artifacts(settings))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)  # run_in_child's process says so, once


if __name__ == "__main__":
    main()
