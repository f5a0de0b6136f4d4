"""Hugging Face model folders: ``config.json``, ``generation_config.json``, ``model.safetensors`` (or shards)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from scratch_llm.io import atomic_write
from scratch_llm.weights.rules import Rule, to_huggingface

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

# Masks and rotary tables that old checkpoints carry along: computed, not learned.
DERIVED_SUFFIXES = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


def save_model(model: Any, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a model so that transformers (and what reads its format) opens it with no key missing or left over.

    Weights are written in the model's dtype, or in ``dtype``.  Each file appears whole or not at all, the
    configuration last; other files of the folder (a tokenizer) are kept.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = to_huggingface(model.weight_rules(model.config), model.state_dict())
    tensors = {name: tensor.detach().to("cpu", dtype or tensor.dtype) for name, tensor in tensors.items()}
    values = model.config_to_huggingface(model.config)
    values["dtype"] = str(dtype or model.dtype).removeprefix("torch.")
    with atomic_write(folder / WEIGHTS, "wb") as stream:
        stream.write(serialise(tensors, metadata={"format": "pt"}))
    # An index left over from a sharded checkpoint would be read instead of what we just wrote.
    (folder / INDEX).unlink(missing_ok=True)
    _write_json(
        folder / GENERATION_CONFIG, {key: values[key] for key in _TOKEN_FIELDS if values[key] is not None}
    )
    _write_json(folder / CONFIG, values)


_TOKEN_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def load_model(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> Any:
    """Read a Hugging Face folder into our model of that architecture, in evaluation mode.

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
    state = _read_state(folder, kind.weight_rules(config), model.state_dict(), dtype)
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
    values = _read_json(folder / CONFIG)
    if (folder / GENERATION_CONFIG).is_file():
        generation = _read_json(folder / GENERATION_CONFIG)
        values.update({key: generation[key] for key in _TOKEN_FIELDS if generation.get(key) is not None})
    return values


def _read_state(
    folder: Path, rules: list[Rule], expected: Mapping[str, Tensor], dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """All of our tensors, each joined from the file's as soon as it is read."""
    files = _tensor_files(folder)
    where = {key: file for file in files for key in _keys(file)}
    where = _with_prefix(where, rules)
    _check_keys(folder, where, rules)
    state = {}
    for rule in rules:
        parts = [_read_tensor(where[name], name) for name in rule.theirs]
        for name, part, shape in zip(rule.theirs, parts, rule.their_shapes(expected[rule.ours].shape)):
            if tuple(part.shape) != shape:
                raise ValueError(
                    f"{name} in {where[name][0]} has shape {tuple(part.shape)}, {CONFIG} asks for {shape}: "
                    "config and weights are of different models"
                )
        state[rule.ours] = rule.join(parts).to(dtype or parts[0].dtype)
    _check_tied_head(where, rules)
    return state


def _check_tied_head(where: Mapping[str, tuple[Path, str]], rules: list[Rule]) -> None:
    """A tied model may carry its output matrix a second time, but not another one."""
    embedding = rules[0].theirs[0]
    if "lm_head.weight" not in where or any("lm_head.weight" in rule.theirs for rule in rules):
        return
    if not torch.equal(
        _read_tensor(where["lm_head.weight"], "lm_head.weight"), _read_tensor(where[embedding], embedding)
    ):
        raise ValueError(
            f"lm_head.weight in {where['lm_head.weight'][0]} differs from {embedding}, but {CONFIG} says that they are tied: "
            "set tie_word_embeddings to false there"
        )


def _tensor_files(folder: Path) -> list[Path]:
    """The weight files: those the index lists, or the one file."""
    if (folder / INDEX).is_file():
        index = _read_json(folder / INDEX).get("weight_map", {})
        files = sorted({folder / name for name in index.values()})
    else:
        files = [folder / WEIGHTS]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: copy the whole model folder again")
    return files


def _open(file: Path):
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{file} is damaged or half-written ({' '.join(str(error).split())}): copy or save the model again"
        ) from None


def _keys(file: Path) -> list[tuple[str, Path]]:
    with _open(file) as tensors:
        return list(tensors.keys())


def _with_prefix(where: dict[str, Path], rules: list[Rule]) -> dict[str, tuple[Path, str]]:
    """Name in the rules -> (file, name in the file).  Bare checkpoints (OpenAI's on the hub) lack the first word."""
    known = {name for rule in rules for name in rule.theirs}
    prefix = rules[0].theirs[0].split(".")[0] + "."
    return {
        prefix + key if key not in known and prefix + key in known else key: (file, key)
        for key, file in where.items()
    }


def _read_tensor(place: tuple[Path, str], name: str) -> Tensor:
    file, key = place
    with _open(file) as tensors:
        try:
            return tensors.get_tensor(key)
        except SafetensorError as error:
            raise ValueError(f"{file} is damaged at {name} ({error}): copy or save the model again") from None


def _check_keys(folder: Path, where: Mapping[str, Any], rules: list[Rule]) -> None:
    wanted = {name for rule in rules for name in rule.theirs}
    missing = sorted(wanted - where.keys())
    extra = sorted(
        key for key in where.keys() - wanted if not key.endswith(DERIVED_SUFFIXES) and key != "lm_head.weight"
    )
    problems = [
        f"{len(keys)} {word}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
        for word, keys in (("missing", missing), ("unexpected", extra))
        if keys
    ]
    if problems:
        raise ValueError(
            f"weights in {folder} do not fit {CONFIG}; {'; '.join(problems)}: use the files of one model"
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}): copy or save the model again") from None
    if not isinstance(values, dict):
        raise ValueError(f"{file} holds no JSON object: copy or save the model again")
    return values


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(file) as stream:
        json.dump(values, stream, indent=2, ensure_ascii=False)
        stream.write("\n")
