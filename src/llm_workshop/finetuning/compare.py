"""Week 6's comparison: each method at its own best learning rate, over several random starts, and what it costs.

    choose_rates    every method at several learning rates; the validation part decides
    compare         every method at its best rate, with other seeds: mean and spread on the test part, memory, seconds
    compare_sizes   LoRA and rsLoRA of several ranks
    compare_places  LoRA beside some of the matrices only
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.methods import METHODS, TARGETS, Variant, check_methods, has_place
from llm_workshop.finetuning.tasks import SETS, Examples, Task, load_task
from llm_workshop.finetuning.trials import Bench, Recipe, Trial, TrialTable
from llm_workshop.settings import Settings, settings_digest
from scratch_llm.models import load_model
from scratch_llm.tokenizers import ByteLevelBPE


class Comparison:
    """The trials of ``settings.peft`` on the run's base model; what is in the table is not done again."""

    def __init__(self, artifacts: Artifacts, log: Callable[[str], None] = print, force: bool = False):
        """
        Args:
            force: leave the results of earlier calls out.

        Raises:
            ValueError: unknown methods or places, settings that do not fit the model, or no base model.
        """
        self.settings, self.peft = artifacts.settings, artifacts.settings.peft
        check_methods(self.peft.methods)
        _check(self.peft)
        folder = artifacts.require("base-model")
        base = load_model(folder).to("cuda" if torch.cuda.is_available() else "cpu")
        recipe = Recipe(self.peft.steps, self.peft.batch_size, self.peft.max_length, self.peft.pooling, self.settings.pretrain.precision)
        self.bench = Bench(base, ByteLevelBPE.load(folder), task_of(self.settings), recipe, log)
        self.table = TrialTable(artifacts.root / ".work" / "peft-trials.jsonl", settings_digest(self.bench.identity()), force)
        self.rates: dict[str, float] = {}

    # -- what is run ---------------------------------------------------------------------------------------------------

    def choose_rates(self) -> dict[str, list[dict[str, Any]]]:
        """Each method's trials {learning_rate, valid_accuracy, ...} by rising rate; notes the best in ``rates``.

        The best is that of the lowest validation loss: of a few hundred texts accuracy is too coarse to choose by.
        """
        sweeps = {}
        for method in self.peft.methods:
            rates = sorted(round_rate(METHODS[method].learning_rate * factor) for factor in set(self.peft.rate_factors))
            rows = [{"learning_rate": rate, **self.result(self.variant(method), rate, seed=0)} for rate in rates]
            # A run that came apart has no loss to compare.
            self.rates[method] = min(rows, key=lambda row: row["valid_loss"] if math.isfinite(row["valid_loss"]) else math.inf)["learning_rate"]
            sweeps[method] = rows
        return sweeps

    def compare(self) -> list[dict[str, Any]]:
        """A row for each method: its summary over the seeds, and its cost."""
        rows = []
        for method in self.peft.methods:
            variant = self.variant(method)
            rows.append({"method": method, "title": METHODS[method].title, **self.summary(variant, self.rate(method), self.peft.seeds),
                         "cost": self.cost(variant)})  # fmt: skip
        return rows

    def compare_sizes(self) -> list[dict[str, Any]]:
        """A row for each rank of LoRA and of rsLoRA, at the learning rate that is best for LoRA's usual rank."""
        ranks = [rank for rank in self.peft.ranks if rank <= self._highest_rank()]
        return [
            {"method": method, "rank": rank, **self.summary(self.variant(method, rank=rank), self.rate("lora"), self.peft.ablation_seeds)}
            for method in ("lora", "rslora")
            for rank in ranks
        ]

    def compare_places(self) -> list[dict[str, Any]]:
        """A row for LoRA at each of ``peft.targets`` that the model has (one block has no upper half), at the learning rate
        that is best for all places together."""
        return [
            {"targets": targets, **self.summary(self.variant("lora", targets=targets), self.rate("lora"), self.peft.ablation_seeds)}
            for targets in self.peft.targets
            if has_place(self.bench.base, targets)
        ]

    # -- with what -----------------------------------------------------------------------------------------------------

    def variant(self, method: str, **changes: Any) -> Variant:
        peft = self.peft
        usual = Variant(method, rank=min(peft.rank, self._highest_rank()), prefix_tokens=peft.prefix_tokens, coefficients=peft.coefficients)
        return dataclasses.replace(usual, **changes)

    def result(self, variant: Variant, learning_rate: float, seed: int) -> dict[str, Any]:
        """One trial's figures, from the table where they are there."""
        trial = Trial(variant, learning_rate, self.settings.seed + seed)
        return self.table.get(trial.key, lambda: self.bench.run(trial))

    def cost(self, variant: Variant) -> dict[str, Any]:
        return self.table.get(f"{variant.key} cost", lambda: self.bench.cost(variant))

    def summary(self, variant: Variant, learning_rate: float, seeds: int) -> dict[str, Any]:
        """Means over the seeds, and the spread (standard deviation of the sample; None of one seed) of what is counted on the test part."""
        results = [self.result(variant, learning_rate, seed) for seed in range(seeds)]
        figures = {"learning_rate": learning_rate, "trainable": results[0]["trainable"], "seeds": seeds}
        for name in ("accuracy", "macro_f1", "valid_accuracy"):
            figures[name] = statistics.mean(result[name] for result in results)
            figures[f"{name}_spread"] = statistics.stdev(result[name] for result in results) if seeds > 1 else None
        return figures

    def rate(self, method: str) -> float:
        """The best of ``choose_rates``, or the usual one before it was called."""
        return self.rates.get(method, METHODS[method].learning_rate)

    def _highest_rank(self) -> int:
        """Of the smallest matrix of the blocks."""
        config = self.bench.base.config
        narrow = getattr(config, "n_kv_heads", config.n_heads) * config.head_dim
        return min(config.d_model, narrow)


def task_of(settings: Settings) -> Task:
    """The comparison's task, with no more texts than ``settings.peft`` allows."""
    peft = settings.peft
    name = peft.task or next((name for name in settings.data if name in SETS), "reviews")
    task = load_task(name, max_examples=max(peft.examples, 4 * peft.held_out), seed=settings.seed)
    parts = {"train": peft.examples, "valid": peft.held_out, "test": peft.held_out}
    first = {split: Examples(task.split(split).texts[:n], task.split(split).labels[:n]) for split, n in parts.items()}
    return dataclasses.replace(task, **first)


def round_rate(rate: float) -> float:
    """Two figures, so that the table's keys read well."""
    return float(f"{rate:.2g}")


def _check(peft: Any) -> None:
    _refuse("peft.targets", [name for name in peft.targets if name not in TARGETS], f"use {', '.join(TARGETS)}")
    _refuse("peft.rate_factors", [factor for factor in peft.rate_factors if not factor > 0], "factors are above 0")
    _refuse("peft.ranks", [rank for rank in peft.ranks if rank < 1], "ranks are whole numbers of 1 or more")
    for name in ("targets", "rate_factors", "ranks"):
        if not getattr(peft, name):
            raise ValueError(f"peft.{name} is empty: give one at least")


def _refuse(name: str, wrong: Iterable[Any], cure: str) -> None:
    for value in wrong:
        raise ValueError(f"bad value {value!r} in {name}: {cure}")
