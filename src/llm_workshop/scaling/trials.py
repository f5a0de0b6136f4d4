"""Many small training runs with a table of their results: a killed experiment goes on with the run that is missing.

    artifacts/<run>/.work/trials-<inputs>/table.jsonl       one finished run a line
    artifacts/<run>/.work/trials-<inputs>/<key>/            a run at work: its metrics and checkpoints

A run is known by what decides its result (``Trial``), so two experiments that ask for the same one share it, and another
width or another budget adds to the table without doing anything twice.  Other tokens or another tokenizer have a table of
their own.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_workshop.artifacts import Artifacts, is_forced
from llm_workshop.progress import print_korean
from llm_workshop.settings import settings_digest
from llm_workshop.tokenization.trial import small_model
from scratch_llm.data import TokenFile, Windows
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import TrainingConfig, train
from scratch_llm.training.progress import clock

INPUTS = ("tokenizer", "tokens")
_HEAD_WIDTH, _EVAL_BATCH = 32, 16


@dataclass(frozen=True)
class Trial:
    """One run: everything that decides its result, but the text."""

    width: int
    n_layers: int
    context_length: int
    tokens: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.1
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises."""
    beta2: float = 0.95
    seed: int = 0
    precision: str = "auto"
    packing: str = "documents"
    eval_batches: int = 32

    def __post_init__(self):
        if self.width < _HEAD_WIDTH or self.width % _HEAD_WIDTH:
            raise ValueError(f"width {self.width} is no multiple of {_HEAD_WIDTH}, a head's width: use e.g. "
                             f"{max(1, round(self.width / _HEAD_WIDTH)) * _HEAD_WIDTH}")

    @property
    def steps(self) -> int:
        return max(1, round(self.tokens / (self.batch_size * self.context_length)))

    @property
    def key(self) -> str:
        return settings_digest(dataclasses.asdict(self))[:12]

    def config(self) -> TrainingConfig:
        return TrainingConfig(
            steps=self.steps, batch_size=self.batch_size, learning_rate=self.learning_rate, weight_decay=self.weight_decay,
            warmup_steps=round(self.warmup * self.steps), betas=(0.9, self.beta2), precision=self.precision, compile="off",
            eval_every=self.steps, eval_batches=self.eval_batches, save_every=-(-self.steps // 3), log_every=-(-self.steps // 2),
            keep=1, seed=self.seed,
        )  # fmt: skip


class Trials:
    """The table of one corpus and tokenizer; a context manager, since only one program at a time may add to it."""

    def __init__(self, artifacts: Artifacts, log: Callable[[str], None] = print_korean):
        self.artifacts, self.log = artifacts, log
        self.tokenizer = ByteLevelBPE.load(artifacts.require("tokenizer"))
        tokens = artifacts.require("tokens")
        self._files = {split: TokenFile(tokens / split) for split in ("train", "valid")}
        self._token_bytes = self.tokenizer.token_bytes()
        self.folder = artifacts.work("trials", None, INPUTS)
        self.table = self.folder / "table.jsonl"
        self._lock: int | None = None

    def __enter__(self) -> Trials:
        """ValueError where another program has the table."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ValueError(f"another experiment is adding to {self.table}: wait until it has ended, or stop it") from None
        if is_forced():
            for path in self.folder.iterdir():
                if path.name != "lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._done = read_table(self.table)
        return self

    def __exit__(self, *_) -> None:
        os.close(self._lock)

    def run_all(self, trials: Sequence[Trial]) -> list[dict[str, Any]]:
        """The results of all, those that are missing trained now, in order; says how long the others will take."""
        results, spent, done = [], 0.0, 0.0
        for number, trial in enumerate(trials, 1):
            missing = [effort(later) for later in trials[number - 1 :] if later.key not in self._done]
            if trial.key not in self._done:
                eta = f", 끝까지 남은 시간 {clock(spent * sum(missing) / done)}" if done else ""
                print(f"[{number}/{len(trials)}] {describe(trial)}{eta}", flush=True)
                started = time.perf_counter()
                results.append(self.run(trial))
                spent, done = spent + time.perf_counter() - started, done + effort(trial)
            else:
                results.append(self.run(trial))
        return results

    def run(self, trial: Trial) -> dict[str, Any]:
        """The line of one run; trained now where the table does not have it.

        A run whose loss is no longer finite is a result, too: ``valid_loss`` is None.
        """
        if trial.key not in self._done:
            result = self._train(trial)
            line = {"key": trial.key, **dataclasses.asdict(trial), **result}
            with open(self.table, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            self._done[trial.key] = line
            shutil.rmtree(self.folder / trial.key, ignore_errors=True)
        return self._done[trial.key]

    def _train(self, trial: Trial) -> dict[str, Any]:
        windows = Windows(self._files["train"], trial.context_length, trial.batch_size, seed=trial.seed, packing=trial.packing)
        # The same held-out windows for all, whatever their batch and seed.
        held_out = Windows(self._files["valid"], trial.context_length, _EVAL_BATCH, packing=trial.packing)
        model = small_model(self.tokenizer.vocab_size, trial.context_length, trial.n_layers, trial.width, trial.seed)
        facts = {"parameters": model.n_parameters(), "flops_per_token": model.flops_per_token(trial.context_length), "steps": trial.steps}
        try:
            result = train(model, windows, held_out, trial.config(), self.folder / trial.key, token_bytes=self._token_bytes, log=self._log)
        except ValueError as error:
            if not str(error).startswith("the loss is"):
                raise
            return facts | {"valid_loss": None, "bits_per_byte": None, "problem": str(error)}
        return facts | {
            "valid_loss": result.valid_loss, "bits_per_byte": result.bits_per_byte, "loss": result.loss,
            "tokens_per_second": result.tokens_per_second, "seconds": result.seconds,
        }  # fmt: skip

    def _log(self, line: str) -> None:
        if line.startswith(("step", "resuming", "interrupted")):
            self.log(f"  {line}" if line.startswith("step") else line)


def effort(trial: Trial) -> float:
    """What a run costs, up to a factor, as ``run_all`` needs it to foretell the time."""
    return trial.tokens * (trial.width * 4000 + 12 * trial.n_layers * trial.width**2)


def loss_of(line: dict[str, Any]) -> float:
    """Held-out loss of a line of the table; infinite for a run that diverged."""
    return math.inf if line["valid_loss"] is None else line["valid_loss"]


def describe(trial: Trial) -> str:
    return (f"너비 {trial.width}, 토큰 {trial.tokens:,}개, 배치 {trial.batch_size}, 학습률 {trial.learning_rate:.2e}"
            + (f", 시드 {trial.seed}" if trial.seed else ""))


def read_table(path: Path) -> dict[str, dict[str, Any]]:
    """The finished runs by key; a line that a kill cut in half is left out, and its end is put right.

    Raises:
        ValueError: a line in the middle that is no result.
    """
    if not path.is_file():
        return {}
    found = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            found[line["key"]] = line
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                raise ValueError(f"{path}, line {number} is no result of a run: delete that line, and its run is done again") from None
            kept = "".join(lines[:-1]).encode()
            with open(path, "r+b") as stream:  # the next line must not be glued to half of this one
                stream.truncate(len(kept))
            return found
    if not lines[-1].endswith("\n"):
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("\n")
    return found
