"""Hugging Face model folders: ``config.json``, ``generation_config.json``, ``model.safetensors`` (or shards)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from scratch_llm.io import atomic_write
from scratch_llm.weights.reading import read_json, read_state
from scratch_llm.weights.shards import WEIGHTS, parse_size, plan_shards, save_shards

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"


def save_model(
    model: Any, folder: str | Path, *, dtype: torch.dtype | None = None, max_shard_size: int | str = "5GB"
) -> None:
    """Write a model so that transformers (and what reads its format) opens it with no key missing or left over.

    Each file appears whole or not at all, the configuration last; other files of the folder (a tokenizer) are kept.
    Beside the model, memory holds one tensor.

    Args:
        model: any of ``scratch_llm.models``.
        folder: made if missing.
        dtype: of the weights in the file; None keeps the model's.
        max_shard_size: bytes, or a text such as "5GB" or "500MiB"; a larger model is written as numbered shards with an
            index.

    Raises:
        ValueError: layers were replaced by others (adapters, fewer bits), or ``max_shard_size`` is no size.
    """
    folder = Path(folder)
    values = model.config_to_huggingface(model.config)
    values["dtype"] = str(dtype or model.dtype).removeprefix("torch.")
    state, rules = model.state_dict(), model.weight_rules(model.config)
    if replaced := [rule.ours for rule in rules if rule.ours not in state]:
        raise ValueError(
            f"{replaced[0]} is not in the model, whose layers were replaced: with adapters use scratch_llm.peft.merge, or "
            "save_adapter for them alone; a quantised model has save_quantized"
        )
    folder.mkdir(parents=True, exist_ok=True)
    save_shards(folder, plan_shards(rules, state, dtype, parse_size(max_shard_size)), state)
    _write_json(
        folder / GENERATION_CONFIG, {key: values[key] for key in _TOKEN_FIELDS if values[key] is not None}
    )
    _write_json(folder / CONFIG, values)


_TOKEN_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def load_model(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Any:
    """Read a Hugging Face folder into our model of that architecture, in evaluation mode.

    Memory holds the model and a few megabytes more (``weights.loading_lesson`` measures it against other ways).

    Args:
        folder: holds ``config.json`` and ``model.safetensors``, or shards with their index.
        dtype: of the weights; None keeps the file's.
        device: where the weights go; None is the CPU.

    Raises:
        FileNotFoundError: the folder or a file is not there.
        ValueError: not a model folder, unknown architecture, damaged file, keys missing, left over or
            of the wrong shape; the message names them.
    """
    from scratch_llm.models.registry import model_class

    folder = Path(folder)
    values = read_config(folder)
    kind = model_class(values.get("model_type", ""))
    try:
        config = kind.config_from_huggingface(values)
    except KeyError as error:
        raise ValueError(
            f"{folder / CONFIG} has no field {error}: copy the checkpoint's config.json again"
        ) from None
    with torch.device("meta"):
        # Weights are not drawn, only their shapes: memory holds the loaded ones alone.
        model = kind(config)
    state = read_state(folder, kind.weight_rules(config), model.state_dict(), dtype, device)
    model.load_state_dict(state, assign=True)
    model.init_buffers()
    return model.to(device).eval()


def read_config(folder: str | Path) -> dict[str, Any]:
    """``config.json`` of a model folder, with the end-of-text ids of ``generation_config.json`` where it has some."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: give a folder with {CONFIG} and {WEIGHTS}")
    if not (folder / CONFIG).is_file():
        raise ValueError(
            f"{folder} has no {CONFIG}, so it is not a model folder: give one that save_pretrained wrote"
        )
    values = read_json(folder / CONFIG)
    if (folder / GENERATION_CONFIG).is_file():
        generation = read_json(folder / GENERATION_CONFIG)
        values.update({key: generation[key] for key in _TOKEN_FIELDS if generation.get(key) is not None})
    return values


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(file) as stream:
        json.dump(values, stream, indent=2, ensure_ascii=False)
        stream.write("\n")
