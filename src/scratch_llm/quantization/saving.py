"""Quantised models on disk: ``config.json`` with a "quantization" entry, and their own tensors in ``model.safetensors``.

The layout is ours: names of our modules, codes packed without gaps.  The entry says of each layer what its bytes mean.
The folder appears whole or not at all.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratch_llm.io import atomic_directory
from scratch_llm.models.base import LanguageModel
from scratch_llm.quantization.linear import QuantizedLinear, empty_layer
from scratch_llm.weights.huggingface import CONFIG, read_config
from scratch_llm.weights.reading import name_differences
from scratch_llm.weights.safetensors_file import SafetensorsFile, write_safetensors

ENTRY, FORMAT, WEIGHTS = "quantization", "scratch-llm-1", "model.safetensors"


@dataclasses.dataclass(frozen=True)
class _Stored:
    """What the entry says of a layer: the arguments of ``empty_layer`` but its dtypes."""

    out: int
    inputs: int
    n_bits: int
    group_size: int
    symmetric: bool
    scales: list[int]
    scale_dtype: str
    bias: bool
    divisor: bool
    dynamic: bool

    @classmethod
    def of(cls, layer: QuantizedLinear) -> _Stored:
        return cls(
            layer.out_features, layer.in_features, layer.n_bits, layer.group_size, layer.symmetric,
            list(layer.scale.shape), str(layer.scale.dtype).removeprefix("torch."),
            layer.bias is not None, layer.divisor is not None, layer.dynamic,
        )  # fmt: skip

    def empty(self, dtype: torch.dtype) -> QuantizedLinear:
        values = dataclasses.asdict(self)
        return empty_layer(**values | {"dtype": dtype, "scales": tuple(self.scales), "scale_dtype": _dtype(self.scale_dtype)})


def save_quantized(model: LanguageModel, folder: str | Path) -> None:
    """Write a model of ``quantize_model`` to ``folder``, which is replaced if it is there."""
    layers = {name: _Stored.of(m) for name, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    if not layers:
        raise ValueError("the model has no quantised layers; call quantize_model first, or save it with save_pretrained")
    state = _tensors(model)
    values = model.config_to_huggingface(model.config) | {"dtype": str(model.dtype).removeprefix("torch.")}
    values[ENTRY] = {"format": FORMAT, "layers": {name: dataclasses.asdict(layer) for name, layer in layers.items()}}
    with atomic_directory(folder) as partial:
        with open(partial / WEIGHTS, "wb") as stream:
            write_safetensors(stream, {name: (t.dtype, t.shape) for name, t in state.items()}, state.values())
        (partial / CONFIG).write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def load_quantized(folder: str | Path) -> LanguageModel:
    """The model that ``save_quantized`` wrote, in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: the folder is not there.
        ValueError: no quantised model of this format, or one whose file is damaged or does not fit its configuration.
    """
    from scratch_llm.models.registry import model_class

    folder = Path(folder)
    values = read_config(folder)
    entry = values.get(ENTRY)
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        raise ValueError(
            f"{folder / CONFIG} has no {ENTRY!r} entry of format {FORMAT!r}; open what save_pretrained wrote with "
            "scratch_llm.models.load_model"
        )
    kind = model_class(values.get("model_type", ""))
    try:
        dtype = _dtype(values["dtype"])
        with torch.device("meta"):
            model = kind(kind.config_from_huggingface(values))
        for name, stored in entry["layers"].items():
            model.set_submodule(name, _Stored(**stored).empty(dtype), strict=True)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{folder / CONFIG} is damaged ({error}); quantise the model again") from None
    model.load_state_dict(_read(folder / WEIGHTS, _tensors(model)), assign=True, strict=False)
    model.init_buffers()
    return model.requires_grad_(False).eval()


def _tensors(model: LanguageModel) -> dict[str, Tensor]:
    """What is stored, wide elements first (see ``write_safetensors``)."""
    return dict(sorted(model.state_dict().items(), key=lambda item: -item[1].element_size()))


def _read(path: Path, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; quantise the model again")
    file = SafetensorsFile(path)
    if problem := name_differences(wanted, file.tensors):
        raise ValueError(f"{path} does not fit its {CONFIG}: {problem}; quantise the model again")
    state = {name: file.read(name) for name in wanted}
    for name, tensor in state.items():
        shape = tuple(wanted[name].shape)
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{path}: {name} has shape {tuple(tensor.shape)}, its {CONFIG} asks for {shape}; quantise the model again")
        if ".codes" in name or ".scale" in name or ".zero_point" in name:
            if tensor.dtype != wanted[name].dtype:
                raise ValueError(f"{path}: {name} is {tensor.dtype}, its {CONFIG} asks for {wanted[name].dtype}; quantise the model again")
    return state


def _dtype(name: Any) -> torch.dtype:
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise KeyError(f"dtype {name!r}")
    return dtype
