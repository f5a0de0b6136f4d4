"""Two adapters for one base: trained apart, opened together, swapped by name or row by row."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.classifying import encode_texts
from llm_workshop.finetuning.compare import Comparison
from llm_workshop.finetuning.tasks import Examples, Task, load_task
from llm_workshop.finetuning.trials import Bench, Trial
from scratch_llm.finetuning import PAD, Classifier
from scratch_llm.io import atomic_write
from scratch_llm.models import LanguageModel, load_model
from scratch_llm.peft import activate, load_adapter, save_adapter
from scratch_llm.weights.safetensors_file import SafetensorsFile, write_safetensors

STAGE = "peft-adapters"


def build_swap(comparison: Comparison, artifacts: Artifacts) -> Path:
    """Train LoRA for the comparison's task and for another on the same base; a folder for each in the stage ``STAGE``."""
    trial = Trial(comparison.variant("lora"), comparison.rate("lora"), comparison.settings.seed)
    first = comparison.bench
    benches = [
        Bench(first.base, first.tokenizer, task, first.recipe, lambda line, title=task.title: first.log(f"[{title}] {line}"))
        for task in (first.task, other_task(first.task, comparison.settings.seed))
    ]
    used = {"trial": trial.key, "tasks": [bench.identity() for bench in benches]}
    if artifacts.skip_if_current(STAGE, used, ("base-model",)):
        return artifacts.path(STAGE)
    with artifacts.write_stage(STAGE, used, ("base-model",)) as stage:
        tasks = {}
        for bench in benches:
            classifier, figures = bench.train(trial)
            folder = stage.folder / bench.task.name
            save_adapter(classifier, folder, task="SEQ_CLS")
            head = classifier.head.state_dict()
            with atomic_write(folder / "head.safetensors", "wb") as stream:
                write_safetensors(stream, {name: (t.dtype, t.shape) for name, t in head.items()}, [t.cpu().contiguous() for t in head.values()])
            tasks[bench.task.name] = {"classes": bench.task.class_names, "pooling": bench.recipe.pooling, "accuracy": figures["accuracy"]}
        with atomic_write(stage.folder / "tasks.json") as stream:
            json.dump(tasks, stream, ensure_ascii=False, indent=2)
    return artifacts.path(STAGE)


def other_task(task: Task, seed: int) -> Task:
    """What else there is to tell about reviews, with as many texts."""
    name = "reviews" if task.name == "reviews-category" else "reviews-category"
    sizes = {split: len(task.split(split)) for split in ("train", "valid", "test")}
    other = load_task(name, max_examples=max(sizes["train"], 4 * sizes["test"], 4 * sizes["valid"]), seed=seed)
    parts = {split: Examples(other.split(split).texts[:n], other.split(split).labels[:n]) for split, n in sizes.items()}
    return dataclasses.replace(other, **parts)


def open_swap(artifacts: Artifacts) -> tuple[LanguageModel, dict[str, Classifier], dict[str, list[str]]]:
    """The base with all adapters of the stage in it, none active; a classifier around it for each, and its class names."""
    folder = artifacts.require(STAGE)
    model = load_model(artifacts.require("base-model")).eval()
    heads, names = {}, {}
    for name, facts in json.loads((folder / "tasks.json").read_text(encoding="utf-8")).items():
        load_adapter(model, folder / name, name)
        file = SafetensorsFile(folder / name / "head.safetensors")
        heads[name] = Classifier(model, len(facts["classes"]), facts["pooling"]).eval()
        heads[name].head.load_state_dict({key: file.read(key) for key in file.tensors})
        names[name] = facts["classes"]
    activate(model, None)
    return model, heads, names


@torch.no_grad()
def mixed_answers(model: LanguageModel, heads: Mapping[str, Classifier], names: Mapping[str, Sequence[str]], tokenizer: Any,
                  texts: Sequence[str], max_length: int) -> list[dict[str, Any]]:  # fmt: skip
    """Each text asked of each adapter, all in one pass: a row {글, 어댑터, 답, 확신} for each pair."""
    pairs = [(text, name) for text in texts for name in heads]
    limit = min(max_length, model.config.context_length)
    encoded = encode_texts(tokenizer, [text for text, _ in pairs], limit)
    inputs = torch.full((len(pairs), max(map(len, encoded))), PAD, device=model.device)
    for row, tokens in enumerate(encoded):
        inputs[row, : len(tokens)] = torch.tensor(tokens)
    activate(model, [name for _, name in pairs])
    hidden_BTD = model.hidden_states(inputs.clamp(min=0), None, None)
    activate(model, None)
    answers = []
    for row, (text, name) in enumerate(pairs):
        pooled = heads[name].pool(hidden_BTD[row : row + 1], inputs[row : row + 1] >= 0)
        chances = heads[name].head(pooled).softmax(-1)[0]
        best = int(chances.argmax())
        answers.append({"글": text, "어댑터": name, "답": names[name][best], "확신": round(float(chances[best]), 3)})
    return answers


@torch.no_grad()
def pass_milliseconds(model: LanguageModel, tokens_BT: Tensor, rounds: int = 9) -> float:
    """Median time of a forward pass."""
    times = []
    for number in range(rounds + 2):
        start = time.perf_counter()
        model(tokens_BT)[0, 0, 0].item()
        if number >= 2:
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
