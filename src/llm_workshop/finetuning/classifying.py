"""Training a classifier on a task, and measuring it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm_workshop.finetuning.tasks import Examples, Task
from scratch_llm.finetuning import Classifier, LabelledTexts, predict
from scratch_llm.finetuning.metrics import (
    accuracy,
    calibration_error,
    confusion_matrix,
    fit_temperature,
    macro_f1,
)
from scratch_llm.training import TrainingConfig, TrainingResult, train
from scratch_llm.training.precision import choose_dtype


@dataclass(frozen=True)
class ClassifierRun:
    """What ``train_classifier`` returns.  Figures are of the task's test part, of the weights after the last step."""

    training: TrainingResult
    test: dict[str, Any]
    """``evaluate_logits`` of the test part."""
    valid: dict[str, Any]
    temperature: float
    """By which to divide the logits, chosen on the validation part."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """step, accuracy and macro_f1 on (at most ``curve_examples`` of) the validation part, at each evaluation of this process."""
    n_cut: int = 0
    """Training texts that were cut to ``max_length``."""
    padding_share: float = 0.0
    """Share of the tokens computed in training that were padding."""


def train_classifier(
    classifier: Classifier,
    task: Task,
    tokenizer: Any,
    folder: str | Path,
    *,
    epochs: float = 2.0,
    batch_size: int = 16,
    learning_rate: float = 3e-4,
    max_length: int | None = None,
    padding: str = "grouped",
    seed: int = 0,
    curve_examples: int = 500,
    log: Callable[[str], None] = print,
    **training: Any,
) -> ClassifierRun:
    """Train what is not frozen in ``classifier`` on ``task.train`` by ``scratch_llm.training.train``, and measure it.

    Freeze, inject adapters and move to the device before.  What was interrupted goes on from ``folder``.

    Args:
        tokenizer: the one the backbone was trained with.
        folder: takes metrics and checkpoints.
        epochs: how often each training text is seen, 0.1 or so for a short trial.
        max_length: longer texts lose their end (tokens); None: the model's context.
        padding: see ``LabelledTexts``.
        training: other fields of ``TrainingConfig``, such as ``micro_batch_size`` or ``precision``.

    Raises:
        ValueError: as from ``train`` and ``LabelledTexts``; epochs that make no step.
    """
    limit = min(max_length or classifier.config.context_length, classifier.config.context_length)
    windows = {split: labelled_texts(task, split, tokenizer, batch_size, limit, padding, seed) for split in ("train", "valid")}
    steps = round(epochs * windows["train"].n_batches)
    if steps < 1:
        raise ValueError(f"epochs {epochs} of {len(task.train)} texts are no step: give more")
    config = TrainingConfig(**{
        "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "weight_decay": 0.01, "betas": (0.9, 0.98),
        "seed": seed, "compile": "off", "eval_batches": max(1, curve_examples // batch_size), "log_every": max(1, steps // 10),
        **training})
    curve: list[dict[str, float]] = []
    part = Examples(task.valid.texts[:curve_examples], task.valid.labels[:curve_examples])

    def measure(model: Classifier, step: int) -> None:
        figures = evaluate_logits(classify_texts(model, tokenizer, part.texts, limit, config.precision), part.labels)
        curve.append({"step": step, "accuracy": figures["accuracy"], "macro_f1": figures["macro_f1"]})
        log(f"  step {step}: accuracy {figures['accuracy']:.1%} of {len(part)} validation texts")

    result = train(classifier, windows["train"], windows["valid"], config, folder, log=log, on_eval=measure)
    logits = {split: classify_texts(classifier, tokenizer, task.split(split).texts, limit, config.precision) for split in ("valid", "test")}
    temperature = fit_temperature(logits["valid"], torch.tensor(task.valid.labels))
    figures = {split: evaluate_logits(logits[split], task.split(split).labels, temperature) for split in logits}
    return ClassifierRun(result, figures["test"], figures["valid"], temperature, curve,
                         windows["train"].n_cut, windows["train"].padding_share)


def encode_texts(tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
    """Token ids of each text as a document begins: ``<|endoftext|>`` and the text, cut at the end.

    Words of a text never become special tokens.  ValueError where the tokenizer has no ``<|endoftext|>``.
    """
    if tokenizer.eos_id is None:
        raise ValueError("the tokenizer has no <|endoftext|>, with which documents begin: take the one of the run's base model")
    return [[tokenizer.eos_id, *tokenizer.encode(text, allow_special=False)][:max_length] for text in texts]


def labelled_texts(task: Task, split: str, tokenizer: Any, batch_size: int, max_length: int, padding: str = "grouped",
                   seed: int = 0) -> LabelledTexts:
    """One part of a task as windows for ``train``; the training part in a new order each epoch."""
    examples = task.split(split)
    return LabelledTexts(encode_texts(tokenizer, examples.texts), examples.labels, batch_size, n_classes=task.n_classes,
                         max_length=max_length, padding=padding, seed=seed)


def classify_texts(classifier: Classifier, tokenizer: Any, texts: Sequence[str], max_length: int | None = None,
                   precision: str = "auto") -> torch.Tensor:
    """Logits float32 (n, n_classes) of texts."""
    limit = min(max_length or classifier.config.context_length, classifier.config.context_length)
    dtype, _ = choose_dtype(precision, classifier.device)
    return predict(classifier, encode_texts(tokenizer, texts, limit), precision=dtype)


def evaluate_logits(logits: torch.Tensor, labels: Sequence[int], temperature: float = 1.0) -> dict[str, Any]:
    """accuracy, macro_f1, confusion (list of lists), loss (nats), calibration_error, and after dividing by ``temperature``
    calibrated_loss and calibrated_error; plain values for JSON."""
    truth, n_classes = np.asarray(labels), logits.shape[1]
    predictions = logits.argmax(1).numpy()
    figures: dict[str, Any] = {
        "accuracy": accuracy(truth, predictions),
        "macro_f1": macro_f1(truth, predictions, n_classes),
        "confusion": confusion_matrix(truth, predictions, n_classes).tolist(),
        "texts": len(truth),
    }
    for prefix, scale in (("", 1.0), ("calibrated_", temperature)):
        scaled = logits / scale
        figures[f"{prefix}loss"] = torch.nn.functional.cross_entropy(scaled, torch.as_tensor(truth)).item()
        figures["calibration_error" if not prefix else "calibrated_error"] = calibration_error(scaled.softmax(1).numpy(), truth)
    return figures
