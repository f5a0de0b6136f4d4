"""What lasts from step to step of a training, how it is saved, found again, and taken back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from torch import nn

from scratch_llm.analysis.devices import nominal_peak
from scratch_llm.data import Windows
from scratch_llm.training.allocator import keep_freed_memory
from scratch_llm.training.bad_steps import BadSteps
from scratch_llm.training.checkpoint import load_checkpoint, save_checkpoint
from scratch_llm.training.config import TrainingConfig
from scratch_llm.training.evaluation import evaluate
from scratch_llm.training.frozen import learnt_state, load_learnt_state
from scratch_llm.training.gradients import loss_function
from scratch_llm.training.identity import check_same_run, identity_of
from scratch_llm.training.matmul_peak import matmul_peak
from scratch_llm.training.metrics import MetricsFile
from scratch_llm.training.optimizers import build_optimizer
from scratch_llm.training.precision import choose_compile, choose_dtype
from scratch_llm.training.progress import Speedometer
from scratch_llm.training.ranks import Ranks
from scratch_llm.training.weight_average import WeightAverage, with_weights


class Run:
    """Model, optimiser, average and counters of one training.  Random states are none of it: each step seeds its own."""

    def __init__(self, model: nn.Module, windows: Windows, config: TrainingConfig, folder: Path, log: Callable[[str], None],
                 ranks: Ranks):
        keep_freed_memory()
        self.ranks, self.config, self.log, self.checkpoints = ranks, config, log, folder / "checkpoints"
        device = next(model.parameters()).device
        saved = load_checkpoint(self.checkpoints, log, device)
        self.dtype, reason = choose_dtype(config.precision, device)
        log(f"precision {reason}")
        [peak], nominal = ranks.sum(matmul_peak(device.type, self.dtype)), nominal_peak(device, self.dtype)
        nominal = nominal and nominal * ranks.size
        if nominal is not None:
            log(f"peak {peak / 1e12:,.0f} TFLOP/s measured, {nominal / 1e12:,.0f} in the data sheet: MFU is of the first")
        self.speed = Speedometer(model, windows, peak, config.steps, nominal)
        compiled, reason = choose_compile(config.compile, self.speed.estimated_seconds, saved and saved["identity"]["compile"])
        log(f"compile {reason}")
        self.identity = identity_of(model, windows, config, self.dtype, compiled)
        self.step, self._seconds_before, self._started = 0, 0.0, time.perf_counter()
        if saved:
            check_same_run(saved["identity"], self.identity, self.checkpoints, saved["step"])
            load_learnt_state(model, saved["model"])
            self.step, self._seconds_before = saved["step"], saved["seconds"]
            log(f"resuming after step {self.step}")
        if ranks.any(self.step * ranks.size != ranks.sum(self.step)[0]):
            raise ValueError(f"the processes find different checkpoints in {self.checkpoints}: it must be a folder they share")
        if hasattr(model, "z_loss"):
            model.z_loss = config.z_loss
        self.model = ranks.learner(model)
        self.compute_loss = loss_function(ranks.training_module(self.model), device, self.dtype, compiled)
        self.optimizer = build_optimizer(self.model, config)
        self.average = None if config.ema_decay is None else WeightAverage(self.model, config.ema_decay)
        self.watch = BadSteps(config)
        if saved:
            self._load_beside_the_model(saved)
            self.watch.load(saved.get("bad_steps", self.watch.state()))
        elif config.on_bad_step == "roll_back":
            self.save(facts={})  # somewhere to roll back to

    def after_step(self) -> None:
        """What a model does between steps, such as balancing its experts; the average takes in the new weights."""
        self.ranks.add_counts(self.model)
        if hasattr(self.model, "after_step"):
            self.model.after_step()
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)

    def evaluate(self, windows: Windows, token_bytes) -> dict[str, float]:
        """Fields of the record: the held-out loss of the weights, and of their average where one is kept."""
        measure = (windows, self.config.eval_batches, self.dtype, token_bytes, self.ranks)
        record = evaluate(self.model, *measure)
        if self.average is not None:
            with with_weights(self.model, self.average.weights):
                record |= {f"ema_{name}": value for name, value in evaluate(self.model, *measure).items()}
        return record

    @property
    def seconds(self) -> float:
        """Wall time so far, over all resumptions."""
        return self._seconds_before + time.perf_counter() - self._started

    # -- checkpoints ----------------------------------------------------------------------------------

    def save(self, facts: dict) -> None:
        """A checkpoint of this moment.  One at a multiple of ``save_every`` is regular: runs roll back to no other, so that
        an interruption, which saves in between, changes nothing."""
        last_regular = self.step // self.config.save_every * self.config.save_every
        if self.step == last_regular:
            self.watch.checkpoint_stands()
        state = {"step": self.step, "seconds": self.seconds, "identity": self.identity, "bad_steps": self.watch.state(),
                 "model": learnt_state(self.model), "optimizer": self.optimizer.state_dict()}
        if self.average is not None:
            state["average"] = self.average.weights
        state = self.ranks.whole(state)
        if self.ranks.is_first:
            keep_from = last_regular if self.config.on_bad_step == "roll_back" else None
            save_checkpoint(self.checkpoints, self.step, state, self.config.keep, facts, keep_from=keep_from)

    def _load_beside_the_model(self, saved: dict) -> None:
        self.ranks.load_optimizer(self.optimizer, saved["optimizer"])
        if self.average is not None:
            self.average.load(self.ranks.parts(saved["average"], self.model))

    # -- bad steps ------------------------------------------------------------------------------------

    def recover(self, problem: str, learning_rate: float, metrics: MetricsFile) -> None:
        """Leave out the batch that was just computed, or all since the last checkpoint; ValueError where the run must stop."""
        step = self.step + 1
        self.watch.check_bearable(problem, step, learning_rate, self.checkpoints)
        self.optimizer.zero_grad(set_to_none=True)
        if self.config.on_bad_step == "skip":
            batch, _ = self.watch.note(step, problem, left_out=1)
            self.log(f"step {step}: {problem}; batch {batch} is left out")
            return
        saved = load_checkpoint(self.checkpoints, self.log, next(self.model.parameters()).device,
                                wanted=lambda number: number <= self.step and number % self.config.save_every == 0)
        if saved is None:
            raise ValueError(f"{problem} at step {step}, and no checkpoint is left in {self.checkpoints} to roll back to; "
                             f"delete that folder (resume=False) to start over")
        load_learnt_state(self.model, self.ranks.parts(saved["model"], self.model))
        self._load_beside_the_model(saved)
        first, last = self.watch.note(step, problem, left_out=step - saved["step"])
        self.watch.rolled_back(saved["bad_steps"])
        self.step = saved["step"]
        metrics.rewind(self.step)
        self.log(f"step {step}: {problem}; back to step {self.step}, batches {first} to {last} are left out")
