"""The stage ``classifier``: the run's base model, trained to tell the classes of a task apart."""

from __future__ import annotations

import dataclasses
import difflib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.classifying import ClassifierRun, classify_texts, train_classifier
from llm_workshop.finetuning.tasks import SETS, Examples, Task, load_task
from llm_workshop.settings import Settings, settings_digest
from scratch_llm.finetuning import (
    Classifier,
    SavedClassifier,
    layer_choices,
    load_classifier,
    save_classifier,
    train_only,
)
from scratch_llm.finetuning.metrics import class_weights
from scratch_llm.io import atomic_write
from scratch_llm.models import build_model, load_model
from scratch_llm.peft import LoRAConfig, inject
from scratch_llm.tokenizers import ByteLevelBPE

_INPUTS = ("base-model",)
#: The fewer weights learn, the larger the steps that they need (settings give the rate of ``all``).
RATE_FACTORS = {"head": 10.0, "last": 2.0, "lora": 4.0, "all": 1.0}
#: So many steps at least in a trial, however few its texts.
LEAST_STEPS = 60


def task_of(settings: Settings) -> Task:
    """The task that the settings name: ``finetune.task``, else the first of DATA that is one, else the sample's reviews."""
    name = settings.finetune.task or next((name for name in settings.data if name in SETS), "reviews")
    return load_task(name, max_examples=settings.finetune.examples, seed=settings.seed)


def check_layers(artifacts: Artifacts) -> None:
    """``ValueError`` where the base model has no such ``finetune.layers``: before hours of work, not after them."""
    layers, n_blocks = artifacts.settings.finetune.layers, load_model(artifacts.require("base-model")).config.n_layers
    words = ("head", "all", "lora", *(f"last-{number}" for number in range(1, n_blocks + 1)))
    if layers not in words:
        close = difflib.get_close_matches(layers, words, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise ValueError(f"finetune.layers is '{layers}'{hint}, but the base model has {n_blocks} block{'s' * (n_blocks > 1)}: choose {layer_choices(n_blocks)} or lora")


def replaced_task(artifacts: Artifacts, task: Task) -> str | None:
    """The task of the run's classifier where it is another one: building that of ``task`` replaces it."""
    if not (artifacts.path("classifier") / "manifest.json").is_file():
        return None
    there = artifacts.read_manifest("classifier")["metrics"].get("task")
    return None if there == task.name else there


def make_classifier(artifacts: Artifacts, task: Task, layers: str, *, pretrained: bool = True, balanced: bool | None = None) -> Classifier:
    """The base model (or one of its shape that knows nothing) with a new head, ready to be trained, on the GPU where there is one.

    Args:
        layers: as ``finetune.layers``.
        balanced: None: as ``finetune.balanced``.

    Raises:
        ValueError: no base model, or layers that it does not have.
    """
    finetune = artifacts.settings.finetune
    torch.manual_seed(artifacts.settings.seed)
    backbone = load_model(artifacts.require("base-model"))
    if not pretrained:
        backbone = build_model(backbone.config, seed=artifacts.settings.seed)
    backbone.to("cuda" if torch.cuda.is_available() else "cpu")
    balanced = finetune.balanced if balanced is None else balanced
    weights = class_weights(task.train.labels, task.n_classes) if balanced else None
    classifier = Classifier(backbone, task.n_classes, finetune.pooling, class_weights=weights, dropout=finetune.dropout)
    if layers == "lora":
        inject(classifier, LoRAConfig(rank=finetune.rank, alpha=2 * finetune.rank, targets="all-linear"))
    train_only(classifier, "adapters" if layers == "lora" else layers)
    return classifier


def build_classifier(artifacts: Artifacts, task: Task, force: bool | None = None, log: Callable[[str], None] = print) -> Path:
    """Train by ``settings.finetune`` and save with the tokenizer; returns the folder.  Interrupted work goes on."""
    settings, finetune = artifacts.settings, artifacts.settings.finetune
    folder = artifacts.require("base-model")
    tokenizer = ByteLevelBPE.load(folder)
    used = {"finetune": finetune.model_dump(mode="json", exclude={"trial_examples", "label_counts"}), "task": task_digest(task),
            "seed": settings.seed}
    if artifacts.skip_if_current("classifier", used, _INPUTS, force=force):
        return artifacts.path("classifier")
    check_layers(artifacts)
    classifier = make_classifier(artifacts, task, finetune.layers)
    with artifacts.write_stage("classifier", used, _INPUTS) as stage:
        work = artifacts.work("classifier", used, _INPUTS)
        run = train_classifier(classifier, task, tokenizer, work, log=log, **_training(settings, finetune.layers))
        save_classifier(classifier, stage.folder, task.class_names, run.temperature)
        for file in folder.glob("*.json"):  # the tokenizer's; the model's own are there
            if file.name != "manifest.json" and not (stage.folder / file.name).exists():
                shutil.copy2(file, stage.folder)
        shutil.copy2(run.training.metrics_path, stage.folder / "metrics.jsonl")
        stage.metrics.update(facts(run, classifier, task))
    artifacts.clear_work("classifier")
    return artifacts.path("classifier")


def open_classifier(artifacts: Artifacts) -> tuple[SavedClassifier, ByteLevelBPE]:
    """What ``build_classifier`` left, on the GPU where there is one."""
    folder = artifacts.require("classifier")
    saved = load_classifier(folder)
    saved.classifier.to("cuda" if torch.cuda.is_available() else "cpu")
    return saved, ByteLevelBPE.load(folder)


def class_probabilities(saved: SavedClassifier, tokenizer: ByteLevelBPE, texts: list[str]) -> torch.Tensor:
    """(n, n_classes), calibrated."""
    return (classify_texts(saved.classifier, tokenizer, texts) / saved.temperature).softmax(1)


def run_trial(artifacts: Artifacts, task: Task, layers: str, n_train: int, *, log: Callable[[str], None] = lambda line: None,
              **choices: Any) -> dict[str, Any]:
    """Figures of a short training on the first ``n_train`` texts: ``evaluate_logits`` of the test part, ``trainable``
    parameters and ``seconds`` of training.  One that was done before is not done again.

    ``choices``: ``pretrained`` and ``balanced`` of ``make_classifier``.
    """
    settings, finetune = artifacts.settings, artifacts.settings.finetune
    short = dataclasses.replace(task, train=Examples(task.train.texts[:n_train], task.train.labels[:n_train]))
    used = {"finetune": finetune.model_dump(mode="json", exclude={"trial_examples", "label_counts", "layers", "examples"}),
            "layers": layers, "task": task_digest(short), "seed": settings.seed, **choices}
    work = artifacts.work("trial-of-classifier", used, _INPUTS)  # clearing the stage's work must not clear it
    done = work / "figures.json"
    if not done.is_file():
        classifier = make_classifier(artifacts, task, layers, **choices)
        options = _training(settings, layers)
        options["epochs"] = max(options["epochs"], LEAST_STEPS * finetune.batch_size / len(short.train))
        started = time.perf_counter()
        run = train_classifier(classifier, short, ByteLevelBPE.load(artifacts.require("base-model")), work, log=log,
                               eval_every=10**9, curve_examples=1, **options)
        figures = facts(run, classifier, short) | {"seconds": time.perf_counter() - started}
        with atomic_write(done) as stream:
            json.dump(figures, stream)
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
    return json.loads(done.read_text(encoding="utf-8"))


def facts(run: ClassifierRun, classifier: Classifier, task: Task) -> dict[str, Any]:
    """Plain figures of a run, for a manifest."""
    return {
        "task": task.name, "title": task.title, "class_names": list(task.class_names),
        "texts": {split: len(task.split(split)) for split in ("train", "valid", "test")},
        "parameters": sum(p.numel() for p in classifier.parameters()),
        "trainable": sum(p.numel() for p in classifier.parameters() if p.requires_grad),
        "steps": run.training.steps, "training_seconds": run.training.seconds, "tokens_per_second": run.training.tokens_per_second,
        "test": run.test, "valid": run.valid, "temperature": run.temperature, "curve": run.curve, "cut": run.n_cut,
        "padding_share": run.padding_share,
    }


def task_digest(task: Task) -> str:
    """Changes with any text or label."""
    return settings_digest([[task.split(split).texts, task.split(split).labels] for split in ("train", "valid", "test")])


def _training(settings: Settings, layers: str) -> dict[str, Any]:
    finetune = settings.finetune
    return {
        "epochs": finetune.epochs, "batch_size": finetune.batch_size, "max_length": finetune.max_length, "padding": finetune.padding,
        "learning_rate": finetune.learning_rate * RATE_FACTORS[layers.split("-")[0]], "seed": settings.seed,
    }
