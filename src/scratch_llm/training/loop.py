"""The training loop: batches in, a trained model, metrics and checkpoints out.

``train`` is the whole story on one screen; each step of it is a function below it or a module beside it.
Everything that a step does depends only on what the last checkpoint holds and the step's number (its batch,
its learning rate, its dropout), so a run that is killed and resumed computes the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from scratch_llm.data import Windows
from scratch_llm.training.config import TrainingConfig, TrainingResult
from scratch_llm.training.evaluation import call_in_eval_mode
from scratch_llm.training.gradients import gradients
from scratch_llm.training.identity import check_fits, start_over
from scratch_llm.training.interrupt import InterruptBetweenSteps
from scratch_llm.training.metrics import MetricsFile
from scratch_llm.training.progress import eval_line, step_line
from scratch_llm.training.ranks import ALONE, Ranks
from scratch_llm.training.run import Run
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
    on_step: Callable[[dict], None] | None = None,
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
        on_step: called with each record of ``metrics.jsonl``; after a resumption or a step back some numbers come again.
        ranks: the processes that train together (``training.distributed.join_ranks``); each calls ``train`` with the same
            arguments, ``folder`` is on a disk that they share, and the first one prints, writes and calls ``on_eval``.

    Raises:
        ValueError: model, windows and config do not fit together; the checkpoint is of a run with other
            settings, or unreadable; the loss is no longer finite (but see ``config.on_bad_step``).
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
    run = Run(model, train_windows, config, folder, log, ranks)
    whole, model = model, run.model
    metrics = MetricsFile(folder / "metrics.jsonl", steps_done=run.step, write=ranks.is_first)
    model.train()
    with InterruptBetweenSteps() as interrupt, ranks.watching(run.checkpoints):
        while run.step < config.steps:
            run.speed.start()
            learning_rate = learning_rate_at(run.step, config)
            torch.manual_seed(config.seed * 1_000_003 + run.step + ranks.seed_offset)  # dropout's
            batch = train_windows.batch(run.step + run.watch.batch_offset)
            loss, grad_norm = gradients(run.compute_loss, model, batch, config, ranks)
            if problem := run.watch.problem(loss, grad_norm):
                run.recover(problem, learning_rate, metrics)
                continue
            run.watch.good(loss)
            for group in run.optimizer.param_groups:
                group["lr"] = learning_rate
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
            run.after_step()
            record = {"step": run.step, "loss": loss, "learning_rate": learning_rate, "grad_norm": grad_norm,
                      **run.speed.stop(), "seconds": round(run.seconds, 3), **run.watch.report()}
            last = run.step == config.steps
            if run.step % config.log_every == 0 or last or run.step == 1:
                log(step_line(record, config.steps, run.speed.eta(run.step)))
            if run.step % config.eval_every == 0 or last:
                record |= run.evaluate(valid_windows, token_bytes)
                log(eval_line(record))
                if on_eval is not None:
                    with ranks.whole_model(model, whole) as readable:
                        if ranks.is_first:
                            call_in_eval_mode(on_eval, readable, run.step)
            metrics.append(record)
            if on_step is not None and ranks.is_first:
                on_step(record)
            interrupted = ranks.any(interrupt.asked)
            if run.step % config.save_every == 0 or last or interrupted:
                metrics.sync()
                run.save(facts={"loss": loss})
            if interrupted:
                log(f"interrupted: step {run.step} is saved in {run.checkpoints}; start again to go on from there")
                raise KeyboardInterrupt
        ranks.give_back(model, whole)
        average = None if run.average is None else ranks.whole(run.average.weights)
    metrics.close()
    return result_of(metrics, run, average)


def _silent(line: str) -> None:
    """What the ranks but the first print."""


def result_of(metrics: MetricsFile, run: Run, average: dict[str, Tensor] | None) -> TrainingResult:
    records, steps = metrics.records, run.config.steps
    losses = [record["loss"] for record in records[-max(1, steps // 10):]]
    evaluated = [record for record in records if "valid_loss" in record][-1]
    tokens_per_second, mfu = run.speed.typical(records)
    return TrainingResult(steps=steps, loss=sum(losses) / len(losses), valid_loss=evaluated["valid_loss"],
                          bits_per_byte=evaluated.get("bits_per_byte"), tokens_per_second=tokens_per_second, mfu=mfu,
                          seconds=run.seconds, metrics_path=metrics.path, ema_valid_loss=evaluated.get("ema_valid_loss"),
                          ema_bits_per_byte=evaluated.get("ema_bits_per_byte"), average=average,
                          bad_steps=sum(len(record.get("bad_steps", ())) for record in records))
