"""Reading the weights of a Hugging Face folder into our tensors, a few megabytes at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scratch_llm.weights.rules import Rule
from scratch_llm.weights.safetensors_file import SafetensorsFile, TensorInfo
from scratch_llm.weights.shards import INDEX, WEIGHTS

# Masks and rotary tables that old checkpoints carry along: computed, not learned.
DERIVED_SUFFIXES = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
# RWKV-7's first layer has no use for these, its values being those that later layers mix into theirs.
UNUSED = frozenset(f"blocks.0.att.v{i}" for i in range(3))


class Place(NamedTuple):
    """Where a tensor lies: a file, and the tensor's name there."""

    file: SafetensorsFile
    key: str

    @property
    def info(self) -> TensorInfo:
        return self.file.tensors[self.key]


def read_state(
    folder: Path,
    rules: list[Rule],
    expected: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> dict[str, Tensor]:
    """All of our tensors.  Each is filled piece by piece from theirs, so nothing is in memory twice.

    Args:
        folder: holds the weight files.
        rules: of the architecture.
        expected: our tensors' shapes (and which are numbers with a fraction), as tensors on the meta device.
        dtype: of the weights; None keeps the file's.
        device: where they go.

    Raises:
        FileNotFoundError, ValueError: see ``load_model``.
    """
    places = _with_prefix(_find_tensors(folder), rules)
    _check_keys(folder, places, rules)
    state = {}
    for rule in rules:
        theirs = [places[name] for name in rule.theirs]
        _check_parts(rule, theirs, expected[rule.ours])
        ours = torch.empty(expected[rule.ours].shape, dtype=rule.dtype or _dtype_of(theirs, dtype))
        for number, place in enumerate(theirs):
            for first, piece in place.file.pieces(place.key):
                rule.fill(ours, number, first, piece)
        state[rule.ours] = ours.to(device)
    _check_tied_head(places, rules)
    return state


def name_differences(wanted: Collection[str], found: Collection[str]) -> str | None:
    """"2 missing: a, b; 1 unexpected: c", at most five names of each; None when there is no difference."""
    differences = (("missing", set(wanted) - set(found)), ("unexpected", set(found) - set(wanted)))
    problems = [
        f"{len(names)} {word}: {', '.join(sorted(names)[:5])}{', ...' if len(names) > 5 else ''}"
        for word, names in differences
        if names
    ]
    return "; ".join(problems) or None


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; ValueError with the cure where the file holds none."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}): copy or save the model again") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file} holds no JSON object: copy or save the model again")
    return values


# -- which tensors there are --------------------------------------------------------------------------


def _find_tensors(folder: Path) -> dict[str, Place]:
    """Every tensor of the one file, or of the files that the index lists."""
    if not (folder / INDEX).is_file():
        return _tensors_of([folder / WEIGHTS])
    weight_map = read_json(folder / INDEX).get("weight_map", {})
    places = _tensors_of(sorted({folder / name for name in weight_map.values()}))
    for key, name in weight_map.items():
        if key not in places or places[key].file.path.name != name:
            raise ValueError(
                f"{folder / INDEX} says that {name} holds {key}, but it does not: the shards are of different models; "
                "copy the whole model folder again"
            )
    return places


def _tensors_of(paths: Iterable[Path]) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: copy the whole model folder again")
        file = SafetensorsFile(path)
        for key in file.tensors:
            if key in places:
                raise ValueError(
                    f"{key} is in {places[key].file.path.name} and in {path}: the shards are of different models; "
                    "copy the whole model folder again"
                )
            places[key] = Place(file, key)
    return places


def _with_prefix(places: dict[str, Place], rules: list[Rule]) -> dict[str, Place]:
    """Named as in the rules.  Bare checkpoints (OpenAI's on the hub) lack the first word."""
    known = {name for rule in rules for name in rule.theirs}
    prefix = rules[0].theirs[0].split(".")[0] + "."
    return {
        prefix + key if key not in known and prefix + key in known else key: place for key, place in places.items()
    }


def _check_keys(folder: Path, places: Mapping[str, Place], rules: list[Rule]) -> None:
    wanted = {name for rule in rules for name in rule.theirs}
    ignored = {key for key in places if key.endswith(DERIVED_SUFFIXES) or key in UNUSED or key == "lm_head.weight"} - wanted
    problems = name_differences(wanted, places.keys() - ignored)
    if problems:
        raise ValueError(f"weights in {folder} do not fit config.json; {problems}: use the files of one model")


# -- what they are ------------------------------------------------------------------------------------


def _check_parts(rule: Rule, theirs: list[Place], ours: Tensor) -> None:
    """Shapes and kinds of number are those that the configuration asks for."""
    for name, place, shape in zip(rule.theirs, theirs, rule.their_shapes(ours.shape)):
        info = place.info
        if info.shape != shape:
            raise ValueError(
                f"{name} in {place.file.path} has shape {info.shape}, config.json asks for {shape}: "
                "config and weights are of different models"
            )
        # Numbers of one byte are quantised weights: without their scales they mean nothing.
        is_plain = info.dtype.is_floating_point and info.dtype.itemsize > 1
        if ours.is_floating_point() and not is_plain:
            raise ValueError(
                f"{name} in {place.file.path} holds {str(info.dtype).removeprefix('torch.')}: quantised weights are "
                "not read; use the checkpoint in bfloat16, float16 or float32"
            )


def _dtype_of(theirs: list[Place], dtype: torch.dtype | None) -> torch.dtype:
    """What ours has: ``dtype``, else the widest of theirs; counters and masks stay what they are."""
    own = reduce(torch.promote_types, (place.info.dtype for place in theirs))
    return dtype if dtype is not None and own.is_floating_point else own


def _check_tied_head(places: Mapping[str, Place], rules: list[Rule]) -> None:
    """A tied model may carry its output matrix a second time, but not another one."""
    head, embedding = places.get("lm_head.weight"), places[rules[0].theirs[0]]
    if head is None or any("lm_head.weight" in rule.theirs for rule in rules):
        return
    is_equal = head.info.shape == embedding.info.shape and all(
        torch.equal(one, other)
        for (_, one), (_, other) in zip(head.file.pieces(head.key), embedding.file.pieces(embedding.key))
    )
    if not is_equal:
        raise ValueError(
            f"lm_head.weight in {head.file.path} differs from {rules[0].theirs[0]}, but config.json says that they are "
            "tied: set tie_word_embeddings to false there"
        )
