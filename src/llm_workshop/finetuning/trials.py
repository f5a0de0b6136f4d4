"""Trials of a comparison: one fine-tuning each, in a table on disk that an interrupted comparison goes on from.

A line of the table is written when its trial is done, so at most the trial at work is lost; the table knows for what (base,
task, settings) each line was, so that another comparison never reads it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from llm_workshop.finetuning.classifying import encode_texts, labelled_texts, train_classifier
from llm_workshop.finetuning.meter import measure_step
from llm_workshop.finetuning.methods import Variant, make_classifier
from llm_workshop.finetuning.tasks import Task
from scratch_llm.finetuning import Classifier
from scratch_llm.models import LanguageModel
from scratch_llm.peft import base_digest, trainable_parameters, training_memory
from scratch_llm.training.precision import choose_dtype


@dataclass(frozen=True)
class Recipe:
    """What all trials of a comparison share."""

    steps: int
    batch_size: int
    max_length: int
    pooling: str
    precision: str


@dataclass(frozen=True)
class Trial:
    """One fine-tuning: what learns, how fast, from which random start."""

    variant: Variant
    learning_rate: float
    seed: int

    @property
    def key(self) -> str:
        return f"{self.variant.key} lr={self.learning_rate:.6g} seed={self.seed}"


class TrialTable:
    """Results by key in a file of JSON lines, those of one comparison (``digest``) among others'."""

    def __init__(self, path: Path, digest: str, forget: bool = False):
        """``forget``: leave this comparison's earlier results out."""
        self.path, self.digest = path, digest
        self.results: dict[str, dict[str, Any]] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() and not forget else []
        for line in lines:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut in half by a kill: that trial runs again
            if record.get("comparison") == digest:
                self.results[record["key"]] = record["result"]

    def get(self, key: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of that key: read, or found by ``work`` and written."""
        if key not in self.results:
            result = work()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torn = self.path.is_file() and self.path.stat().st_size and not self.path.read_bytes().endswith(b"\n")
            with self.path.open("a", encoding="utf-8") as stream:
                line = json.dumps({"comparison": self.digest, "key": key, "result": result}, ensure_ascii=False)
                stream.write("\n" * bool(torn) + line + "\n")
            self.results[key] = result
        return self.results[key]


class Bench:
    """A base model and a task, on which trials run."""

    def __init__(self, base: LanguageModel, tokenizer: Any, task: Task, recipe: Recipe, log: Callable[[str], None] = print):
        self.base, self.tokenizer, self.task, self.recipe, self.log = base, tokenizer, task, recipe, log
        self.prefix = [token for text in encode_texts(tokenizer, task.train.texts[:8]) for token in text]

    def identity(self) -> dict[str, Any]:
        """What decides every trial's result, plain values."""
        task = {split: [len(part), hash_of(part.texts, part.labels)] for split in ("train", "valid", "test") for part in [self.task.split(split)]}
        return {"base": base_digest(self.base), "task": self.task.name, "texts": task, "recipe": asdict(self.recipe)}

    def classifier(self, variant: Variant, seed: int = 0) -> Classifier:
        return make_classifier(self.base, variant, self.task.n_classes, seed=seed, pooling=self.recipe.pooling, prefix=self.prefix)

    def run(self, trial: Trial) -> dict[str, Any]:
        """Fine-tune and measure: figures as plain values."""
        return self.train(trial)[1]

    def train(self, trial: Trial) -> tuple[Classifier, dict[str, Any]]:
        """As ``run``, with the classifier."""
        classifier, recipe = self.classifier(trial.variant, trial.seed), self.recipe
        steps_per_epoch = -(-len(self.task.train) // recipe.batch_size)
        with tempfile.TemporaryDirectory() as folder:
            run = train_classifier(
                classifier, self.task, self.tokenizer, folder, epochs=recipe.steps / steps_per_epoch, batch_size=recipe.batch_size,
                learning_rate=trial.learning_rate, max_length=self._limit(classifier), seed=trial.seed, precision=recipe.precision,
                curve_examples=recipe.batch_size, eval_every=recipe.steps, log=lambda line: None,
            )  # fmt: skip
        learnt = trainable_parameters(classifier).values()
        result = {
            "trainable": sum(parameter.numel() for parameter in learnt), "loss": run.training.loss,
            "valid_accuracy": run.valid["accuracy"], "valid_loss": run.valid["loss"],
            "accuracy": run.test["accuracy"], "macro_f1": run.test["macro_f1"], "test_loss": run.test["loss"],
        }  # fmt: skip
        self.log(f"{trial.key}: 검증 {result['valid_accuracy']:.1%}, 테스트 {result['accuracy']:.1%}")
        return classifier, result

    def cost(self, variant: Variant) -> dict[str, Any]:
        """Seconds and memory of a training step, and the memory that was foretold; see ``StepCost`` and ``TrainingMemory``."""
        classifier = self.classifier(variant)
        dtype, _ = choose_dtype(self.recipe.precision, classifier.device)
        windows = labelled_texts(self.task, "train", self.tokenizer, self.recipe.batch_size, self._limit(classifier))
        batch = tuple(part.to(classifier.device) for part in windows.batch(0))
        with torch.autocast(classifier.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            counted = training_memory(classifier, *batch)
        measured = measure_step(classifier, batch, dtype)
        return {"counted": asdict(counted), "measured": asdict(measured), "shape": list(batch[0].shape), "dtype": str(dtype).removeprefix("torch.")}

    def _limit(self, classifier: Classifier) -> int:
        return min(self.recipe.max_length, classifier.config.context_length)


def hash_of(*values: Any) -> str:
    """A short digest of plain values."""
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode()).hexdigest()[:16]
