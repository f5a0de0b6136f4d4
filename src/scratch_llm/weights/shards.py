"""Weights in one file or several: how a model is cut into shards, and saving them all or none."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from scratch_llm.io import atomic_write
from scratch_llm.weights.rules import Rule
from scratch_llm.weights.safetensors_file import write_safetensors

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD_NAME = re.compile(r"model-\d+-of-\d+\.safetensors")
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class Part:
    """One of their tensors, to be cut out of one of ours when its turn comes."""

    rule: Rule
    number: int
    """Which of the rule's tensors."""
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.rule.theirs[self.number]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def parse_size(size: int | str) -> int:
    """Bytes of "5GB" (decimal), "500MiB" (binary) or a number; ValueError says what may be written."""
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B)", str(size).strip().upper())
    if found is None or float(found[1]) == 0:
        raise ValueError(
            f"max_shard_size is {size!r}: give bytes as a whole number above 0, or a text such as '5GB' or '500MiB'"
        )
    return max(1, int(float(found[1]) * _UNITS[found[2]]))


def plan_shards(
    rules: Sequence[Rule], state: Mapping[str, Tensor], dtype: torch.dtype | None, max_bytes: int
) -> list[list[Part]]:
    """Their tensors in order, a new shard whenever the next would not fit; a larger tensor is a shard by itself."""
    shards: list[list[Part]] = [[]]
    size = 0
    for rule in rules:
        ours = state[rule.ours]
        for number, shape in enumerate(rule.their_shapes(ours.shape)):
            is_converted = dtype is not None and ours.is_floating_point()
            part = Part(rule, number, rule.dtype or (dtype if is_converted else ours.dtype), shape)
            if shards[-1] and size + part.n_bytes > max_bytes:
                shards.append([])
                size = 0
            shards[-1].append(part)
            size += part.n_bytes
    return shards


def save_shards(folder: Path, shards: Sequence[Sequence[Part]], state: Mapping[str, Tensor]) -> None:
    """Write ``model.safetensors``, or numbered shards and their index, and remove what an earlier save left.

    All files are complete on the disk before the first takes its name: a full disk leaves the old model as it was.
    The index appears last, so a kill between two renames leaves a folder that does not load, never a mixture.
    """
    n = len(shards)
    names = [WEIGHTS] if n == 1 else [f"model-{i:05d}-of-{n:05d}.safetensors" for i in range(1, n + 1)]
    stale = _weight_files(folder) - set(names)
    with contextlib.ExitStack() as renames:  # they happen in reverse order
        if n > 1:
            index = renames.enter_context(atomic_write(folder / INDEX))
            json.dump(_index(names, shards), index, indent=2)
        for name, parts in zip(names, shards):
            stream = renames.enter_context(atomic_write(folder / name, "wb"))
            parts = sorted(parts, key=lambda part: -part.dtype.itemsize)
            write_safetensors(
                stream,
                {part.name: (part.dtype, part.shape) for part in parts},
                _cut_in_turn(parts, state),
            )
            stream.flush()
            os.fsync(stream.fileno())
        for name in stale:
            (folder / name).unlink()


def _cut_in_turn(parts: Sequence[Part], state: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The tensors of a shard, cutting up one of ours at a time."""
    rule, cut = None, []
    for part in parts:
        if part.rule is not rule:
            rule, cut = part.rule, part.rule.split(state[part.rule.ours])
        yield cut[part.number]


def _index(names: Sequence[str], shards: Sequence[Sequence[Part]]) -> dict:
    """The content of ``model.safetensors.index.json``."""
    weight_map = {part.name: name for name, parts in zip(names, shards) for part in parts}
    total = sum(part.n_bytes for parts in shards for part in parts)
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}


def _weight_files(folder: Path) -> set[str]:
    """Names of the weight files in a folder that a save like this one wrote."""
    return {
        file.name for file in folder.iterdir() if file.name in (WEIGHTS, INDEX) or _SHARD_NAME.fullmatch(file.name)
    }
