"""A classifier on disk: the model's folder as Hugging Face has it, and the head beside it.

    config.json, model.safetensors   the backbone, adapters computed into it
    head.safetensors                 ``score.weight`` (n_classes, d_model), named as in transformers' ...ForSequenceClassification
    classifier.json                  names of the classes, pooling, temperature
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from scratch_llm.finetuning.classification import Classifier
from scratch_llm.io import atomic_write
from scratch_llm.peft import PrefixTuned, adapted_layers, merge
from scratch_llm.weights import load_model
from scratch_llm.weights.safetensors_file import SafetensorsFile, write_safetensors

_HEAD, _ABOUT = "head.safetensors", "classifier.json"


@dataclass(frozen=True)
class SavedClassifier:
    """What ``load_classifier`` finds."""

    classifier: Classifier
    """In eval mode."""
    class_names: tuple[str, ...]
    temperature: float
    """By which logits are divided before the softmax."""


def save_classifier(classifier: Classifier, folder: str | Path, class_names: Sequence[str], temperature: float = 1.0) -> None:
    """Write ``classifier``, which stays as it is, into ``folder``; other files there are kept.

    ValueError: not one name a class, a temperature that is not above 0, or a ``PrefixTuned`` backbone, which is no model's
    weights (see ``save_prefix``).
    """
    if len(class_names) != classifier.n_classes or len(set(class_names)) != classifier.n_classes:
        raise ValueError(f"class_names {list(class_names)}: give {classifier.n_classes} different names, one a class")
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be above 0")
    backbone = classifier.backbone
    if isinstance(backbone, PrefixTuned):
        raise ValueError("a prefix cannot be computed into the weights: write it with save_prefix, and the model by itself")
    if any(True for _ in adapted_layers(backbone)):
        backbone = merge(copy.deepcopy(backbone))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    backbone.save_pretrained(folder)
    head = classifier.head.weight.detach().cpu().contiguous()
    with atomic_write(folder / _HEAD, "wb") as stream:
        write_safetensors(stream, {"score.weight": (head.dtype, head.shape)}, [head])
    about = {"class_names": list(class_names), "pooling": classifier.pooling, "temperature": temperature}
    with atomic_write(folder / _ABOUT) as stream:
        json.dump(about, stream, ensure_ascii=False, indent=2)


def load_classifier(folder: str | Path) -> SavedClassifier:
    """Open what ``save_classifier`` wrote.

    FileNotFoundError where a file is missing; ValueError where one is damaged or does not belong to the others.
    """
    folder = Path(folder)
    for name in (_ABOUT, _HEAD):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing: give a folder that save_classifier wrote")
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        names, pooling, temperature = tuple(about["class_names"]), about["pooling"], float(about["temperature"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / _ABOUT} is damaged ({type(error).__name__}: {error}): save the classifier again") from None
    classifier = Classifier(load_model(folder), len(names), pooling)
    head = SafetensorsFile(folder / _HEAD).read("score.weight")
    if head.shape != classifier.head.weight.shape:
        raise ValueError(f"{folder / _HEAD} has shape {tuple(head.shape)} and {len(names)} classes of a model of this width need "
                         f"{tuple(classifier.head.weight.shape)}: the files are of different classifiers")
    with torch.no_grad():
        classifier.head.weight.copy_(head)
    return SavedClassifier(classifier.eval(), names, temperature)
