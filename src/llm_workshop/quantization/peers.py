"""The same weights quantised by libraries: bitsandbytes, torchao, NVIDIA ModelOpt, on transformers' models.

Each entry loads the folder that ``save_pretrained`` wrote and quantises the layers of the blocks, as ours do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llm_workshop.export.modelopt import modelopt_config


@dataclass(frozen=True)
class Peer:
    """A library's method."""

    title: str
    build: Callable[[Path, Sequence[Tensor]], tuple[Any, int]]
    """Folder and calibration ids -> transformers' model, bytes."""
    simulated: bool = False
    """Whether it rounds and then computes in floating point, so that its speed says nothing."""


def load_plain(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval().requires_grad_(False)


def _bitsandbytes(make: Callable[[nn.Linear], nn.Module]) -> Callable[[Path, Sequence[Tensor]], tuple[Any, int]]:
    def build(folder: Path, _: Sequence[Tensor]) -> tuple[Any, int]:
        model = load_plain(folder)
        for name, layer in _block_linears(model):
            model.set_submodule(name, make(layer))
        model = model.to("cpu")  # this is when bitsandbytes quantises
        return model, held_bytes(model)

    return build


def _linear8(layer: nn.Linear) -> nn.Module:
    import bitsandbytes

    new = bitsandbytes.nn.Linear8bitLt(
        layer.in_features, layer.out_features, layer.bias is not None, has_fp16_weights=False
    )
    new.weight = bitsandbytes.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    new.bias = layer.bias
    return new


def _nf4(layer: nn.Linear) -> nn.Module:
    import bitsandbytes

    new = bitsandbytes.nn.Linear4bit(
        layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=torch.bfloat16, quant_type="nf4"
    )
    new.weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
    new.bias = layer.bias
    return new


def _torchao(folder: Path, _: Sequence[Tensor]) -> tuple[Any, int]:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = load_plain(folder)
    wanted = {name for name, _ in _block_linears(model)}
    quantize_(model, Int8WeightOnlyConfig(), filter_fn=lambda _, name: name in wanted)
    return model, held_bytes(model)


def _modelopt(method: str) -> Callable[[Path, Sequence[Tensor]], tuple[Any, int]]:
    def build(folder: Path, batches: Sequence[Tensor]) -> tuple[Any, int]:
        import modelopt.torch.quantization as mtq
        from modelopt.torch.export import export_hf_checkpoint

        def show(model: Any) -> None:
            for ids in batches:
                model(ids)

        widths = {layer.in_features for _, layer in _block_linears(load_plain(folder))}
        config = modelopt_config(method, widths)
        model = mtq.quantize(load_plain(folder), config, show)
        with tempfile.TemporaryDirectory() as exported:
            # Exporting packs the weights in place, so it gets a model of its own.
            export_hf_checkpoint(mtq.quantize(load_plain(folder), config, show), export_dir=exported)
            size = sum(file.stat().st_size for file in Path(exported).glob("*.safetensors"))
        return model, size

    return build


PEERS: dict[str, Peer] = {
    "bnb-int8": Peer("bitsandbytes int8", _bitsandbytes(_linear8)),
    "bnb-nf4": Peer("bitsandbytes nf4", _bitsandbytes(_nf4)),
    "torchao-int8": Peer("torchao int8", _torchao),
    "modelopt-smoothquant": Peer("ModelOpt SmoothQuant", _modelopt("smoothquant"), simulated=True),
    "modelopt-awq-int4": Peer("ModelOpt AWQ int4", _modelopt("awq"), simulated=True),
}


def held_bytes(model: nn.Module) -> int:
    """Bytes of all tensors, those inside a library's own tensor classes and states as well."""
    held: dict[int, int] = {}

    def add(tensor: Any) -> None:
        if hasattr(tensor, "__tensor_flatten__") and type(tensor) not in (Tensor, nn.Parameter):
            for name in tensor.__tensor_flatten__()[0]:
                add(getattr(tensor, name))
        elif isinstance(tensor, Tensor):
            held[tensor.data_ptr()] = tensor.nbytes

    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            add(parameter)
            state = getattr(parameter, "quant_state", None)
            for part in (getattr(parameter, "SCB", None), getattr(state, "absmax", None), getattr(state, "code", None)):
                add(part)
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                add(buffer)
    return sum(held.values())


def _block_linears(model: Any) -> list[tuple[str, nn.Linear]]:
    """All linear layers but the output layer; GPT-2's ``Conv1D`` is turned into one."""
    from transformers.pytorch_utils import Conv1D

    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            linear = nn.Linear(*module.weight.shape, dtype=module.weight.dtype)
            linear.weight.data, linear.bias.data = module.weight.data.t().contiguous(), module.bias.data
            model.set_submodule(name, linear.requires_grad_(False))
    return [(name, layer) for name, layer in model.named_modules() if type(layer) is nn.Linear and "lm_head" not in name]


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Progress bars and notes of the libraries do not belong between the lines of a lab."""
    from transformers.utils import logging as transformers_logging

    before, bars = logging.root.manager.disable, transformers_logging.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if bars:
            transformers_logging.enable_progress_bar()
