"""The trials of lab ``pretrain``: each a run of a few dozen steps from the same untrained weights.

Everything is kept in the run's work folder, under what it depends on and nothing else: a second call reads what is there,
also one before a training with another schedule or more steps; a killed one goes on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline.pretrain import model_config, training_config, training_windows
from llm_workshop.pretraining.plots import NAMES
from llm_workshop.report.plots import read_metrics
from scratch_llm.data import IGNORE, Windows
from scratch_llm.io import atomic_write
from scratch_llm.models import build_model
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training import RangeTest, TrainingConfig, find_learning_rate, train
from scratch_llm.training.checkpoint import load_checkpoint

OPTIMIZERS = ("adamw", "muon", "adafactor")
#: Ways through a text of which a piece is spoilt, and the settings that make them.
WAYS = {
    "unprotected": {"on_bad_step": "stop", "spike_threshold": None},
    "skip": {"on_bad_step": "skip", "spike_threshold": 4.0, "spike_window": 8},
    "roll_back": {"on_bad_step": "roll_back", "spike_threshold": 4.0, "spike_window": 8},
}
SPOILT_BATCHES = 3
_INPUTS = ("tokenizer", "tokens")
#: What of ``settings.pretrain`` says which texts are read, beside the batch's size.
_TEXTS = {"packing", "mixture", "mixture_temperature"}
_RANGE = {"smallest": 1e-5, "largest": 1.0}


class Trials:
    """Trials with the model, the texts and the batch of ``artifacts.settings``, each ``settings.trials.steps`` long."""

    def __init__(self, artifacts: Artifacts, tokenizer: ByteLevelBPE, log: Callable[[str], None] = print):
        self.settings, self.log, self._tokenizer = artifacts.settings, log, tokenizer
        self.steps = self.settings.trials.steps
        self._artifacts = artifacts
        self.train_windows, self.valid_windows = training_windows(artifacts)

    def model(self) -> torch.nn.Module:
        """Untrained, the same each time."""
        torch.manual_seed(self.settings.seed)
        model = build_model(model_config(self.settings, self._tokenizer))
        return model.to("cuda" if torch.cuda.is_available() else "cpu")

    def config(self, **changes: Any) -> TrainingConfig:
        """The lab's training cut to the trials' length; ``changes`` are fields of it.

        Its batch, arithmetic and regularisation are the lab's; the rest is the same for all, so that trials serve again.
        """
        usual = {field.name: field.default for field in dataclasses.fields(TrainingConfig)
                 if field.name in ("schedule", "decay_share", "ema_decay", "on_bad_step", "spike_threshold", "spike_window", "max_bad_steps")}
        short = {"steps": self.steps, "min_learning_rate": None, "warmup_steps": max(1, self.steps // 10), "compile": "off",
                 "eval_every": self.steps, "save_every": max(1, self.steps // 4), "log_every": self.steps, "keep": 1}
        return dataclasses.replace(training_config(self.settings), **(usual | short | changes))

    def folder(self, name: str, config: TrainingConfig) -> Path:
        """Where the trial ``name`` is kept: by the model, the texts and its own settings, whatever the long run's are."""
        used = {"model": self.settings.model, "texts": self.settings.pretrain.model_dump(mode="json", include=_TEXTS),
                "config": dataclasses.asdict(config), "seed": self.settings.seed}
        return self._artifacts.work(f"trial-{name}", used, _INPUTS)

    # -- learning rates -------------------------------------------------------------------------------

    def range_test(self, optimizer: str) -> RangeTest:
        """Loss over a growing learning rate (``scratch_llm.training.find_learning_rate``), with one optimiser."""
        config = self.config(optimizer=optimizer, learning_rate=_RANGE["largest"])
        path = self.folder(f"range-{optimizer}", config) / "range.json"
        if path.is_file():
            return RangeTest(**json.loads(path.read_text(encoding="utf-8")))
        # Adafactor takes 1 / sqrt(step) for any rate above it: beyond that all rates would be one.
        limits = _RANGE | ({"largest": self.steps**-0.5} if optimizer == "adafactor" else {})
        found = find_learning_rate(self.model(), self.train_windows, config, **limits, steps=self.steps,
                                   log=lambda line: self.log(f"{NAMES[optimizer]}: {line}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as stream:
            json.dump(dataclasses.asdict(found), stream)
        return found

    # -- runs -----------------------------------------------------------------------------------------

    def compare_optimizers(self, rates: dict[str, float]) -> list[dict[str, Any]]:
        """A short run of each optimiser at its own rate: held-out loss, losses by step, tokens a second, bytes of state."""
        rows = []
        for name, rate in rates.items():
            config = self.config(optimizer=name, learning_rate=float(f"{rate:.2g}"))
            result = self._run(f"optimizer-{name}", NAMES[name], config, self.train_windows)
            rows.append({"optimizer": name, "learning_rate": config.learning_rate, **result,
                         "state_bytes": self._state_bytes(self.folder(f"optimizer-{name}", config))})
        return rows

    def spoilt_text(self) -> list[dict[str, Any]]:
        """The same run through a text with a spoilt piece, in each of ``WAYS``."""
        windows = Spoilt(self.train_windows, self.spoilt)
        return [{"way": way, **self._run(f"spoilt-{way}", NAMES[way], self.config(**changes), windows)}
                for way, changes in WAYS.items()]

    @property
    def spoilt(self) -> range:
        """The spoilt batches: in the second half, when the losses before them tell what is usual."""
        first = self.steps * 3 // 5
        return range(first, first + SPOILT_BATCHES)

    def _run(self, name: str, title: str, config: TrainingConfig, windows: Any) -> dict[str, Any]:
        """Train, or read what an earlier call trained."""
        self.log(f"{title}:")
        result = train(self.model(), windows, self.valid_windows, config, self.folder(name, config), log=self.log)
        records = read_metrics(result.metrics_path)
        return {"valid_loss": result.valid_loss, "tokens_per_second": result.tokens_per_second,
                "losses": [(record["step"], record["loss"]) for record in records],
                "bad_steps": [entry for record in records for entry in record.get("bad_steps", ())]}

    def _state_bytes(self, folder: Path) -> int:
        """What the optimiser keeps beside the weights, from the run's checkpoint."""
        saved = load_checkpoint(folder / "checkpoints", self.log)
        values = [value for state in saved["optimizer"]["state"].values() for value in state.values()]
        return sum(value.numel() * value.element_size() for value in values if torch.is_tensor(value))


class Spoilt:
    """Windows of which the batches ``spoilt`` have other targets than they should: a file decoded wrongly."""

    def __init__(self, windows: Windows, spoilt: range):
        self._windows, self.spoilt = windows, spoilt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._windows, name)

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, targets = self._windows.batch(number)
        if number in self.spoilt:  # the vocabulary upside down: frequent tokens become the rarest
            targets = torch.where(targets == IGNORE, targets, self._windows.token_file.vocab_size - 1 - targets)
        return inputs, targets
