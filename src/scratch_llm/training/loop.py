"""The training loop: batches in, a trained model, metrics and checkpoints out.

``train`` is the whole story on one screen; each step of it is a function below it or a module beside it.
Everything that a step does depends only on the weights, the optimiser's state and the step's number (its
batch, its learning rate, its dropout), so a run that is killed and resumed computes the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scratch_llm.analysis.devices import nominal_peak
from scratch_llm.data import Windows
from scratch_llm.training.allocator import keep_freed_memory
from scratch_llm.training.checkpoint import load_checkpoint, save_checkpoint
from scratch_llm.training.config import TrainingConfig, TrainingResult
from scratch_llm.training.evaluation import call_in_eval_mode, evaluate
from scratch_llm.training.frozen import learnt_state, load_learnt_state
from scratch_llm.training.gradients import gradients, loss_function
from scratch_llm.training.identity import check_fits, check_same_run, identity_of, start_over
from scratch_llm.training.interrupt import InterruptBetweenSteps
from scratch_llm.training.matmul_peak import matmul_peak
from scratch_llm.training.metrics import MetricsFile
from scratch_llm.training.optimizers import build_optimizer
from scratch_llm.training.precision import choose_compile, choose_dtype
from scratch_llm.training.progress import Speedometer, eval_line, step_line
from scratch_llm.training.ranks import ALONE, Ranks
from scratch_llm.training.schedule import learning_rate_at


def train(
    model: nn.Module,
    train_windows: Windows,
    valid_windows: Windows,
    config: TrainingConfig,
    folder: str | Path,
    *,
    token_bytes: np.ndarray | None = None,
    resume: bool = True,
    log: Callable[[str], None] = print,
    on_eval: Callable[[nn.Module, int], None] | None = None,
    ranks: Ranks = ALONE,
) -> TrainingResult:
    """Train ``model`` in place, where it lies (CPU or GPU), and report.

    Args:
        model: called as ``model(inputs, targets=targets)``, returns the mean cross-entropy in nats.
        train_windows, valid_windows: batches; the first must have ``config.batch_size``.
        folder: takes ``metrics.jsonl`` and ``checkpoints/``.
        token_bytes: UTF-8 bytes of each token id, int (vocab_size,), for bits per byte.
        resume: go on from the newest checkpoint in ``folder``; False deletes what is there.
        log: takes each printed line.
        on_eval: called with the model (in eval mode) and the step after each evaluation.
        ranks: the processes that train together (``training.distributed.join_ranks``); each calls ``train`` with the same
            arguments, ``folder`` is on a disk that they share, and the first one prints, writes and calls ``on_eval``.

    Raises:
        ValueError: model, windows and config do not fit together; the checkpoint is of a run with other
            settings, or unreadable; the loss is no longer finite.
        OSError: a checkpoint cannot be written (the disk is full), or another rank is lost; older ones are intact.
        KeyboardInterrupt: Ctrl-C, after the step at work is finished and saved; a second one is not waited for.
    """
    check_fits(model, train_windows, valid_windows, config, token_bytes)
    ranks.check(config)
    folder = Path(folder)
    if not ranks.is_first:
        log = _silent
    elif not resume:
        start_over(folder)
    ranks.wait()
    run = _Run(model, train_windows, config, folder, log, ranks)
    whole, model = model, run.model
    metrics = MetricsFile(folder / "metrics.jsonl", steps_done=run.step, write=ranks.is_first)
    model.train()
    with InterruptBetweenSteps() as interrupt, ranks.watching(run.checkpoints):
        while run.step < config.steps:
            run.speed.start()
            learning_rate = learning_rate_at(run.step, config)
            torch.manual_seed(config.seed * 1_000_003 + run.step + ranks.seed_offset)  # dropout's
            loss, grad_norm = gradients(run.compute_loss, model, train_windows.batch(run.step), config, ranks)
            check_finite(loss, grad_norm, run.step + 1, learning_rate, run.checkpoints)
            for group in run.optimizer.param_groups:
                group["lr"] = learning_rate
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
            run.after_step()
            run.step += 1
            record = {"step": run.step, "loss": loss, "learning_rate": learning_rate, "grad_norm": grad_norm,
                      **run.speed.stop(), "seconds": round(run.seconds, 3)}
            last = run.step == config.steps
            if run.step % config.log_every == 0 or last or run.step == 1:
                log(step_line(record, config.steps, run.speed.eta(run.step)))
            if run.step % config.eval_every == 0 or last:
                record |= evaluate(model, valid_windows, config.eval_batches, run.dtype, token_bytes, ranks)
                log(eval_line(record))
                if on_eval is not None:
                    with ranks.whole_model(model, whole) as readable:
                        if ranks.is_first:
                            call_in_eval_mode(on_eval, readable, run.step)
            metrics.append(record)
            interrupted = ranks.any(interrupt.asked)
            if run.step % config.save_every == 0 or last or interrupted:
                metrics.sync()
                run.save(facts={"loss": loss})
            if interrupted:
                log(f"interrupted: step {run.step} is saved in {run.checkpoints}; start again to go on from there")
                raise KeyboardInterrupt
        ranks.give_back(model, whole)
    metrics.close()
    return result_of(metrics, run.speed, config, run.seconds)


class _Run:
    """What lasts from step to step, and how it is saved and found again."""

    def __init__(self, model: nn.Module, windows: Windows, config: TrainingConfig, folder: Path, log: Callable[[str], None],
                 ranks: Ranks):
        keep_freed_memory()
        self.ranks, self.config, self.checkpoints = ranks, config, folder / "checkpoints"
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
            check_same_run(saved["identity"], self.identity, self.checkpoints)
            load_learnt_state(model, saved["model"])
            self.step, self._seconds_before = saved["step"], saved["seconds"]
            log(f"resuming after step {self.step}")
        if ranks.any(self.step * ranks.size != ranks.sum(self.step)[0]):
            raise ValueError(f"the processes find different checkpoints in {self.checkpoints}: it must be a folder they share")
        self.model = ranks.learner(model)
        self.compute_loss = loss_function(ranks.training_module(self.model), device, self.dtype, compiled)
        self.optimizer = build_optimizer(self.model, config)
        if saved:
            ranks.load_optimizer(self.optimizer, saved["optimizer"])

    def after_step(self) -> None:
        """What a model does between steps, such as balancing its experts."""
        self.ranks.add_counts(self.model)
        if hasattr(self.model, "after_step"):
            self.model.after_step()

    @property
    def seconds(self) -> float:
        """Wall time so far, over all resumptions."""
        return self._seconds_before + time.perf_counter() - self._started

    def save(self, facts: dict) -> None:
        """A checkpoint of this moment.  Random states need no saving: each step seeds its own."""
        state = {"step": self.step, "seconds": self.seconds, "identity": self.identity,
                 "model": learnt_state(self.model), "optimizer": self.optimizer.state_dict()}
        state = self.ranks.whole(state)
        if self.ranks.is_first:
            save_checkpoint(self.checkpoints, self.step, state, self.config.keep, facts)


def _silent(line: str) -> None:
    """What the ranks but the first print."""


def check_finite(loss: float, grad_norm: float, step: int, learning_rate: float, checkpoints: Path) -> None:
    """ValueError before a broken gradient reaches the weights."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise ValueError(
            f"the loss is {loss} and the gradient norm {grad_norm} at step {step} (learning rate {learning_rate:.2g}): "
            f"lower learning_rate, raise warmup_steps or use precision=float32, and start over; "
            f"the last good weights are in {checkpoints}")


def result_of(metrics: MetricsFile, speed: Speedometer, config: TrainingConfig, seconds: float) -> TrainingResult:
    losses = [record["loss"] for record in metrics.records[-max(1, config.steps // 10):]]
    evaluated = [record for record in metrics.records if "valid_loss" in record][-1]
    tokens_per_second, mfu = speed.typical(metrics.records)
    return TrainingResult(steps=config.steps, loss=sum(losses) / len(losses), valid_loss=evaluated["valid_loss"],
                          bits_per_byte=evaluated.get("bits_per_byte"), tokens_per_second=tokens_per_second, mfu=mfu,
                          seconds=seconds, metrics_path=metrics.path)
