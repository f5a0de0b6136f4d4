"""A model made ready for decoding: weights in the layout the CPU's kernels like best.

A decoding step multiplies each weight matrix by a handful of rows, so its time is that of reading the
weights plus the fixed cost of each call.  Two things help on x86 CPUs, measured on a Zen 5 at width 384:

* oneDNN with weights reordered beforehand ("packed"): bfloat16 (8192, 384) by one row 49 us instead of 109,
  float32 by eight rows 125 us instead of 560 (MKL, the default for float32, does not use AVX-512 there);
* RMSNorm by one reduction and three element-wise operations instead of the library's chain of six.

A third is to read less: ``weights="int8"`` keeps matrices in one byte per weight (``int8_linear``); a 15M llama writes
1.3 to 1.5 times as many tokens per second as in bfloat16 at batch 1 (``benchmarks/int8.py``).

``torch.compile`` is not used.  A step of that llama at one fixed length, compiled, against packed in the same run: 2.6
against 2.2 ms at batch 1, 3.6 against 3.0 at batch 8.  With frozen weights (an experimental option of Inductor) 1.2 and
3.3 ms: faster for one row, but after 6 s of compilation, for one length, and until the weights change.

``pack`` copies the tree of modules, sharing whatever it does not replace; the original stays as it is.  A module
that knows a better form of itself for decoding gives it by a method ``packed(n_rows) -> nn.Module``, and gets its
matrices from ``linear``, which knows what weights are wanted.
"""

from __future__ import annotations

import copy
import functools
import weakref
from contextvars import ContextVar
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.generation.int8_linear import FEW_ROWS, Int8Linear
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.models.base import LanguageModel, softcap

Weights = Literal["same", "int8"]
"""How a packed model keeps its matrices: in the model's dtype, or in int8 with one scale per output."""


class PackedLinear(nn.Module):
    """``nn.Linear`` for inference, its weight reordered by oneDNN for inputs of about ``n_rows`` rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, n_rows: int):
        super().__init__()
        # Plain attributes, not buffers: an opaque layout must not be moved, cast or saved.
        # For one row of float32 oneDNN keeps the plain layout, which it reads at 23 GB/s; that for two at 33.
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), max(2, n_rows))
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)"""
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class FastRMSNorm(nn.Module):
    """RMSNorm in few operations: ``x / hypot(|x|, sqrt(D eps)) * (sqrt(D) weight)``, the same function rewritten."""

    def __init__(self, norm: RMSNorm, scale: Tensor | None = None):
        """``scale``: factors to take instead of the norm's own, such as (heads, D) for heads side by side."""
        super().__init__()
        width, scale = norm.weight.numel(), norm.scale if scale is None else scale
        self.scaled_weight = scale.detach().float() * width**0.5
        self.epsilon = torch.tensor((width * norm.eps) ** 0.5, device=norm.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), same dtype, computed in float32."""
        x_float = x.float()
        length = torch.linalg.vector_norm(x_float, dim=-1, keepdim=True)
        return x_float.div(torch.hypot(length, self.epsilon)).mul_(self.scaled_weight).to(x.dtype)


# Model -> (rows, weights) -> (state of its weights, packed copy).  Weak: a model that is dropped takes its copies along.
_PACKED: weakref.WeakKeyDictionary[LanguageModel, dict[tuple[int, Weights], tuple[tuple, LanguageModel]]] = (
    weakref.WeakKeyDictionary()
)
# What ``linear`` makes.  A context, as modules of any depth ask for their matrices by ``packed(n_rows)``.
_WEIGHTS: ContextVar[Weights] = ContextVar("weights", default="same")


def pack(model: LanguageModel, n_rows: int, weights: Weights = "same") -> LanguageModel:
    """A copy of ``model`` for decoding ``n_rows`` rows at a time, or ``model`` itself where packing does not pay.

    The copy holds the matrices a second time (the packed ones) and computes without gradients.  It is kept
    as long as the model's weights stay the same, and made anew when they have changed.

    ``weights="int8"`` rounds all matrices but embeddings and routers to int8; the same rounding on every device and for
    every number of rows, but faster only for up to ``FEW_ROWS`` of them on a CPU.
    """
    check_weights(weights)
    if weights == "same" and (model.device.type != "cpu" or not can_pack(model.dtype)):
        return model
    state = _state_of(model)
    copies, key = _PACKED.setdefault(model, {}), (n_rows, weights)
    if key not in copies or copies[key][0] != state:
        copies.clear()
        token = _WEIGHTS.set(weights)
        try:
            copies[key] = state, _packed_model(model, n_rows)
        finally:
            _WEIGHTS.reset(token)
    return copies[key][1]


def check_weights(weights: str) -> None:
    """ValueError for what ``pack`` does not know."""
    if weights not in get_args(Weights):
        raise ValueError(f"weights is {weights!r}: it must be one of {', '.join(get_args(Weights))}")


@torch.inference_mode()
def _packed_model(model: LanguageModel, n_rows: int) -> LanguageModel:
    packed = _copy(model, n_rows).eval()
    head, cap = linear(model.head_weight, None, n_rows), model.logit_softcap
    # Looked up on the instance before the class, so this replaces the method of the copy alone
    # (written past nn.Module, which would file a module among the children and keep the method).
    logits = head if cap is None else lambda hidden: softcap(head(hidden), cap)
    object.__setattr__(packed, "logits", logits)
    return packed


def linear(weight: Tensor, bias: Tensor | None, n_rows: int, *, exact: bool = False) -> nn.Module:
    """``x W^T + b`` for decoding, in the weights asked of ``pack``; ``exact``: never in less than the dtype of ``weight``."""
    if in_int8() and not exact:
        return for_rows(Int8Linear(weight, bias), n_rows)
    if weight.device.type == "cpu" and can_pack(weight.dtype):
        return PackedLinear(weight, bias, n_rows)
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    plain.weight = nn.Parameter(weight.detach(), requires_grad=False)
    plain.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
    return plain


def for_rows(layer: Int8Linear, n_rows: int) -> Int8Linear:
    """``layer`` itself, with its restored weights packed beside it where that is faster for so many rows."""
    on_cpu = layer.quantized.device.type == "cpu"
    if (n_rows > FEW_ROWS or not layer.kernel_rows) and on_cpu and can_pack(layer.dtype):
        layer.many = PackedLinear(layer.weight, layer.bias, n_rows)
    return layer


def in_int8() -> bool:
    """Whether the model being packed gets int8 weights."""
    return _WEIGHTS.get() == "int8"


def _state_of(model: LanguageModel) -> tuple:
    """What differs when any weight has changed: addresses, version counters and a few values of each tensor.

    An address tells of a replacement, a version of a change in place. Fused optimisers count no version
    (torch 2.13: ``AdamW(fused=True)`` leaves it at 0), and neither do tensors made in inference mode: there
    the values tell.
    """
    weights = [weight.detach() for weight in model.parameters()]
    versions = tuple((w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights)
    values = torch.cat([w.flatten()[:: max(1, w.numel() // 8)][:8].float() for w in weights])
    adapters = tuple(getattr(module, "active", None) for module in model.modules())  # swapped without moving a weight
    return versions, tuple(values.tolist()), adapters


def _copy(module: nn.Module, n_rows: int) -> nn.Module:
    if hasattr(module, "packed"):
        return module.packed(n_rows)
    if type(module) is nn.Linear:
        return linear(module.weight, module.bias, n_rows)
    if type(module) is RMSNorm:
        return FastRMSNorm(module)
    return pack_children(module, n_rows)


def pack_children(module: nn.Module, n_rows: int) -> nn.Module:
    """A copy of ``module`` with packed children: what a module's own ``packed`` may begin with."""
    twin = copy.copy(module)
    twin._modules = {
        name: None if child is None else (child if name == "lm_head" else _copy(child, n_rows))
        for name, child in module._modules.items()
    }
    return twin


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this build of torch and this CPU have oneDNN's packed products for ``dtype``, tried on a small one."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        # Not random numbers: a training run that generates samples must not lose its place among them.
        weight = torch.linspace(-1, 1, 32 * 48).view(32, 48).to(dtype)
        x = torch.linspace(-1, 2, 2 * 48).view(2, 48).to(dtype)
        with torch.inference_mode():
            return torch.allclose(PackedLinear(weight, None, 2)(x), F.linear(x, weight), rtol=1e-2, atol=1e-2)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
