"""Adapters on disk, as PEFT writes and reads them, and for which base they are.

    adapter_config.json         the method and its settings
    adapter_model.safetensors   its tensors under Hugging Face names: ``base_model.model.<matrix>.lora_A.weight``
    base_model.json             a digest of the base's weights; ours, PEFT passes it over

An adapter is a difference: on another base it computes nonsense, and nothing in PEFT's two files would tell.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scratch_llm.io import atomic_write
from scratch_llm.peft.adapter import Adapter, AdapterConfig
from scratch_llm.peft.inject import (
    DEFAULT,
    adaptable_layers,
    adapted_layers,
    adapter_names,
    inject,
    language_model,
    trainable_parameters,
    unload,
)
from scratch_llm.peft.methods import METHODS
from scratch_llm.weights.reading import name_differences, read_json
from scratch_llm.weights.safetensors_file import SafetensorsFile, write_safetensors

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base_model.json"
_PREFIX = "base_model.model."
# Fields of all methods that ask for more than adapters beside the matrices named.
_ONLY_UNSET = ("exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern")


def save_adapter(
    model: nn.Module, folder: str | Path, name: str = DEFAULT, *, base_model: str | None = None, task: str = "CAUSAL_LM"
) -> None:
    """Write the adapter called ``name`` so that PEFT opens it on the same base; other files of the folder are kept.

    Args:
        folder: made if missing.
        base_model: where the base can be found (a folder or a hub id), noted for PEFT's ``Auto`` classes.
        task: PEFT's ``task_type``, such as "CAUSAL_LM" or "SEQ_CLS".

    Raises:
        ValueError: no adapter of that name, or weights of the model itself were trained, which no adapter can hold.
    """
    adapters = _adapters(model, name)
    config: AdapterConfig = adapters[0].config
    _refuse_changed_base(model)
    state = {_PREFIX + key: tensor for adapter in adapters for key, tensor in adapter.to_peft().items()}
    values = {
        "peft_type": config.peft_type,
        "task_type": task,
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "target_modules": _target_names(model, config, adapters),
        "fan_in_fan_out": any(part.transposed for adapter in adapters for part in adapter.parts),
        **config.to_peft(),
    }
    folder = Path(folder)
    with atomic_write(folder / WEIGHTS, "wb") as stream:
        write_safetensors(stream, {key: (t.dtype, t.shape) for key, t in state.items()}, state.values())
    _write_json(folder / BASE, {"model_type": language_model(model)[1].model_type, "sha256": base_digest(model)})
    _write_json(folder / CONFIG, values)


def load_adapter(
    model: nn.Module, folder: str | Path, name: str = DEFAULT, *, check_base: bool = True
) -> list[Adapter]:
    """Put the adapter in ``folder`` (ours or PEFT's) into ``model`` under ``name``, and make it the active one.

    Args:
        check_base: refuse an adapter that was trained beside other weights.  False: for a base that is the same but for
            its number format.

    Raises:
        FileNotFoundError: the folder or a file is not there.
        ValueError: another base, another method than those of ``METHODS``, settings that are not implemented, a damaged
            file, or tensors that do not fit; the model is then as it was.

    Warns:
        UserWarning: there is no digest beside it, so that nobody can tell whether it is for this base.
    """
    folder = Path(folder)
    config = read_adapter_config(folder)
    if check_base:
        _check_base(model, folder)
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{folder / WEIGHTS} is missing: save the adapter again, in the safetensors format")
    file = SafetensorsFile(folder / WEIGHTS)
    tensors = {key.removeprefix(_PREFIX): file.read(key) for key in file.tensors}
    had_adapters = bool(adapter_names(model))
    frozen = {key: parameter.requires_grad for key, parameter in model.named_parameters()}
    active = {path: layer.active for path, layer in adapted_layers(model)}
    adapters = inject(model, config, name)
    try:
        fill(adapters, tensors, folder / WEIGHTS)
    except ValueError:
        unload(model, name)
        for path, layer in adapted_layers(model) if had_adapters else ():
            layer.active = active[path]
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(frozen[key])
        raise
    return adapters


def read_adapter_config(folder: Path) -> AdapterConfig:
    """The configuration of a saved adapter; ValueError where it asks for what is not implemented."""
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}, so it holds no adapter: give a folder that save_adapter or PEFT wrote")
    values = read_json(folder / CONFIG)
    if values.get("peft_type") == "PREFIX_TUNING":
        raise ValueError(f"{folder} holds a prefix: open it with load_prefix")
    method = METHODS.get(values.get("peft_type"))
    if method is None:
        raise ValueError(
            f"{folder / CONFIG} has peft_type {values.get('peft_type')!r}; implemented here are {', '.join(sorted(METHODS))}"
        )
    for field in _ONLY_UNSET:
        if values.get(field):
            raise ValueError(f"{folder / CONFIG} has {field} = {values[field]!r}, which is not implemented here; use PEFT")
    try:
        return method.from_peft(values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG} is damaged or incomplete ({error}): save the adapter again") from None


def fill(adapters: list[Adapter], tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Give the adapters their tensors; ValueError where names differ, missing or left over."""
    wanted = {key for adapter in adapters for key in adapter.to_peft()}
    if problem := name_differences(wanted, tensors):
        raise ValueError(f"{source} does not fit the model and its {CONFIG}; {problem}")
    for adapter in adapters:
        adapter.from_peft(tensors)


def base_digest(model: nn.Module) -> str:
    """SHA-256 of the language model's own weights, whatever adapters it has: names, formats, shapes and bytes."""
    digest = hashlib.sha256()
    state = language_model(model)[1].state_dict()
    ours = {key.replace(".base.", "."): tensor for key, tensor in state.items() if ".adapters." not in key}
    for key, tensor in sorted(ours.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _check_base(model: nn.Module, folder: Path) -> None:
    if not (folder / BASE).is_file():
        warnings.warn(
            f"{folder} has no {BASE}: nothing tells whether the adapter was trained beside these weights", stacklevel=3
        )
        return
    stored = read_json(folder / BASE)
    kind = language_model(model)[1].model_type
    if stored.get("model_type") != kind:
        raise ValueError(f"the adapter in {folder} is for a {stored.get('model_type')} model; this is a {kind}")
    if stored.get("sha256") != base_digest(model):
        raise ValueError(
            f"the adapter in {folder} was trained beside other weights than this model's: load the base it was trained "
            "on (in the same number format), or give check_base=False if you know that they are the same"
        )


def _adapters(model: nn.Module, name: str) -> list[Adapter]:
    found = [layer.adapters[name] for _, layer in adapted_layers(model) if name in layer.adapters]
    if not found:
        raise ValueError(f"the model has no adapter {name!r}; it has {', '.join(adapter_names(model)) or 'none'}")
    return found


def _refuse_changed_base(model: nn.Module) -> None:
    inside = [key for key in trainable_parameters(language_model(model)[1]) if ".adapters." not in key]
    if inside:
        raise ValueError(
            f"{', '.join(inside[:3])} of the model itself can be trained, and an adapter's file would not hold what they "
            "learnt: freeze them, or merge and save the whole model"
        )


def _target_names(model: nn.Module, config: AdapterConfig, adapters: list[Adapter]) -> list[str] | str:
    """``target_modules``: what was asked for where PEFT understands it the same way, else every name in full."""
    names = sorted(part.name for adapter in adapters for part in adapter.parts)
    if isinstance(config.targets, tuple):
        their = [part.name for parts in adaptable_layers(model).values() for part in parts]
        if sorted(n for n in their if any(n == t or n.endswith(f".{t}") for t in config.targets)) == names:
            return sorted(config.targets)
    return names


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    with atomic_write(file) as stream:
        json.dump(values, stream, indent=2, ensure_ascii=False)
        stream.write("\n")
