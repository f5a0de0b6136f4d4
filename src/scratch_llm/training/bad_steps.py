"""Steps that must not reach the weights: a loss that is not a number, or that jumps far above those before it.

What to do is the run's setting ``on_bad_step``:

    stop        raise an error that says so; the last checkpoint stands
    skip        leave the batch out and take the next one instead
    roll_back   back to the last checkpoint, and leave out all batches since then (Chowdhery et al., "PaLM", 2022,
                section 5.1): replayed with the same batches, the run would meet the same spike again

A step reads batch ``step + batch_offset``; leaving out batches is adding to that one number, so which batches a run reads
stays a function of what its checkpoint holds, and a run that is killed and resumed leaves out the same ones.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path

from scratch_llm.training.config import TrainingConfig

_NORMAL = 1.4826  # standard deviation of a normal distribution over its median absolute deviation
_SMALLEST_SHARE = 0.01  # of the median: losses that hardly differ would make every ripple a spike


class BadSteps:
    """Judges each step's loss, remembers what it saw, and says which batch comes next."""

    def __init__(self, config: TrainingConfig):
        self.config = config
        self.batch_offset = 0
        """Batches left out so far."""
        self.losses: list[float] = []
        """The latest good ones, at most ``spike_window``."""
        self.found: list[dict] = []
        """Bad steps since the last regular checkpoint, as they stand in the metrics."""
        self.unreported: list[dict] = []
        """Those of them that no record has told yet."""

    def problem(self, loss: float, grad_norm: float) -> str | None:
        """What is wrong with a step, in words; None where nothing is."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return f"the loss is {loss} and the gradient norm {grad_norm}"
        score = self.score(loss)
        if score is not None and score > self.config.spike_threshold:
            return (f"the loss {loss:.4f} is {score:.1f} deviations above the median {statistics.median(self.losses):.4f} "
                    f"of the last {len(self.losses)} steps")
        return None

    def score(self, loss: float) -> float | None:
        """Robust z-score: distance from the median of the window in median absolute deviations, scaled to sigmas.

        One outlier moves a mean and a standard deviation, and so hides the next one; it hardly moves these.  None where
        spikes are not looked for, or too few steps are known.
        """
        if self.config.spike_threshold is None or len(self.losses) < max(2, self.config.spike_window // 2):
            return None
        median = statistics.median(self.losses)
        deviation = _NORMAL * statistics.median(abs(known - median) for known in self.losses)
        return (loss - median) / max(deviation, _SMALLEST_SHARE * abs(median), 1e-12)

    def good(self, loss: float) -> None:
        self.losses = [*self.losses, loss][-self.config.spike_window:]

    def note(self, step: int, problem: str, left_out: int) -> tuple[int, int]:
        """Leave out ``left_out`` batches, the last of them that of the bad ``step``; the first and the last of them."""
        last = step - 1 + self.batch_offset
        batches = (last - left_out + 1, last)
        self.batch_offset += left_out
        entry = {"step": step, "problem": problem, "batches_left_out": list(batches)}
        self.found.append(entry)
        self.unreported.append(entry)
        return batches

    def report(self) -> dict:
        """The field ``bad_steps`` for the next record; {} where there is nothing to tell."""
        told, self.unreported = self.unreported, []
        return {"bad_steps": told} if told else {}

    def checkpoint_stands(self) -> None:
        """A regular checkpoint was written: what lies before it will not be met again."""
        self.found = []

    def rolled_back(self, saved: dict) -> None:
        """Take over the window of the checkpoint; what was found since then is told again, as its records are gone."""
        self.losses = saved["losses"]
        self.unreported = list(self.found)

    def state(self) -> dict:
        return {"batch_offset": self.batch_offset, "losses": self.losses, "found": self.found}

    def load(self, saved: dict) -> None:
        self.batch_offset, self.losses, self.found = saved["batch_offset"], saved["losses"], saved["found"]

    def check_bearable(self, problem: str, step: int, learning_rate: float, checkpoints: Path) -> None:
        """ValueError where the run has to stop: it is told to, or too much has gone wrong in a row."""
        if self.config.on_bad_step == "stop":
            raise ValueError(
                f"{problem} at step {step} (learning rate {learning_rate:.2g}): "
                f"lower learning_rate, raise warmup_steps or use precision=float32, and start over, or set on_bad_step=skip "
                f"or roll_back where single batches are to blame; the last good weights are in {checkpoints}")
        if len(self.found) >= self.config.max_bad_steps:
            raise ValueError(
                f"{problem} at step {step} (learning rate {learning_rate:.2g}), after {len(self.found)} bad steps since the "
                f"last checkpoint in {checkpoints}: this is not single batches; lower learning_rate, raise warmup_steps or use "
                f"precision=float32, and start over")
