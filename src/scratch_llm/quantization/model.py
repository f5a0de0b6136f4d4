"""Whole models: every linear layer of the blocks in fewer bits.

Kept as they are: embeddings and the output layer (often one matrix; each token reads one row of the embedding, and the
logits feel every error), norms, routers (a wrong choice of expert is no small error) and what is no ``nn.Linear``, such
as stacked experts, convolutions and recurrences.

"nearest" looks at the weights alone.  The others see text: block by block, and in a block layer by layer in the order
of computation, each layer gets the inputs that the layers quantised before it give (Frantar et al. 2023, section 4).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.feed_forward import GELUFeedForward, SwiGLU
from scratch_llm.layers.routing import SigmoidRouter, SoftmaxRouter
from scratch_llm.models.base import LanguageModel
from scratch_llm.models.transformer import Block, Transformer
from scratch_llm.quantization.affine import Granularity, QuantizedTensor, check_bits, quantize
from scratch_llm.quantization.awq import awq
from scratch_llm.quantization.gptq import gptq, hessian
from scratch_llm.quantization.int8 import quantize_rows
from scratch_llm.quantization.linear import QuantizedLinear
from scratch_llm.quantization.smoothquant import Norm, divide_outputs, smoothing_scales

SMALLEST_GROUP = 8
SEARCHED_TOKENS = 512
"""AWQ tries 21 exponents on so many inputs of a layer, evenly from all of them."""


@dataclass(frozen=True)
class Scheme:
    """How the weights, and perhaps the activations, of a model are rounded."""

    algorithm: Literal["nearest", "smoothquant", "awq", "gptq"] = "nearest"
    n_bits: int = 8
    symmetric: bool = True
    granularity: Granularity = "channel"
    """As in ``quantize``; a layer whose inputs a group does not divide takes the greatest common divisor of both."""
    dynamic: bool = False
    """Activations in int8, a scale for each token as it comes; SmoothQuant always does."""

    def __post_init__(self):
        check_bits(self.n_bits)
        if self.algorithm not in ("nearest", "smoothquant", "awq", "gptq"):
            raise ValueError(f"algorithm is {self.algorithm!r}; choose nearest, smoothquant, awq or gptq")
        if self.algorithm == "smoothquant" and not self.dynamic:
            object.__setattr__(self, "dynamic", True)
        grouped = self.granularity not in ("tensor", "channel")
        if grouped and (not isinstance(self.granularity, int) or self.granularity < SMALLEST_GROUP):
            raise ValueError(
                f"granularity is {self.granularity!r}; choose 'tensor', 'channel' or a group of {SMALLEST_GROUP} inputs or more"
            )
        if self.dynamic and (self.n_bits != 8 or not self.symmetric or grouped):
            raise ValueError(
                "activations in int8 need symmetric weights of 8 bits per 'channel' or 'tensor'; "
                f"got {self.n_bits} bits, symmetric={self.symmetric}, granularity={self.granularity!r}"
            )

    @property
    def calibrates(self) -> bool:
        """Whether it must see text."""
        return self.algorithm != "nearest"

    def granularity_for(self, in_features: int) -> Granularity:
        """The granularity of a layer with so many inputs."""
        if not isinstance(self.granularity, int):
            return self.granularity
        group = math.gcd(self.granularity, in_features)
        return group if group >= SMALLEST_GROUP else "channel"


def schemes(group_size: int = 32) -> dict[str, Scheme]:
    """The schemes that the course compares, by name."""
    return {
        "int8-tensor": Scheme(granularity="tensor"),
        "int8": Scheme(),
        "int8-affine": Scheme(symmetric=False),
        "int8-group": Scheme(granularity=group_size),
        "int8-dynamic": Scheme(dynamic=True),
        "smoothquant": Scheme("smoothquant"),
        "int4": Scheme(n_bits=4, symmetric=False, granularity=group_size),
        "awq-int4": Scheme("awq", n_bits=4, symmetric=False, granularity=group_size),
        "gptq-int4": Scheme("gptq", n_bits=4, symmetric=False, granularity=group_size),
        "int3": Scheme(n_bits=3, symmetric=False, granularity=group_size),
        "awq-int3": Scheme("awq", n_bits=3, symmetric=False, granularity=group_size),
        "gptq-int3": Scheme("gptq", n_bits=3, symmetric=False, granularity=group_size),
    }


@torch.no_grad()
def quantize_model(
    model: LanguageModel,
    scheme: Scheme,
    batches: Sequence[Tensor] = (),
    *,
    on_layer: Callable[[str], None] | None = None,
) -> LanguageModel:
    """A copy of ``model``, in evaluation mode, whose layers are ``QuantizedLinear``; the original stays as it is.

    Args:
        model: any for "nearest"; calibration goes through the blocks of a ``Transformer``.
        batches: token ids (B, T) for calibration, of the kind of text that the model is for.
        on_layer: called with the name of each layer when it is done.

    Raises:
        ValueError: no batches for an algorithm that needs them, a model it cannot go through, one without linear layers
            or already quantised.
    """
    if any(isinstance(module, QuantizedLinear) for module in model.modules()):
        raise ValueError("the model is quantised already; quantise the original weights")
    if next(quantizable(model), None) is None:
        raise ValueError(f"a {model.model_type} has no linear layers in its blocks that could be quantised")
    if scheme.calibrates and not batches:
        raise ValueError(f"{scheme.algorithm} needs batches of token ids for calibration; got none")
    if scheme.calibrates and not isinstance(model, Transformer):
        raise ValueError(
            f"calibration goes block by block through models with attention, and {model.model_type} has none; "
            "use algorithm 'nearest'"
        )
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    if scheme.calibrates:
        _calibrate(twin, scheme, batches, on_layer)
    # What calibration never reached (layers used by their weight alone) is rounded to nearest.
    for name, linear in list(quantizable(twin)):
        twin.set_submodule(name, round_to_nearest(linear, replace(scheme, algorithm="nearest")))
        if on_layer:
            on_layer(name)
    return twin


def quantizable(model: LanguageModel) -> Iterator[tuple[str, nn.Linear]]:
    """Name and layer of each that is quantised: see the top of this file."""
    routers = tuple(
        f"{name}." for name, module in model.named_modules() if isinstance(module, SoftmaxRouter | SigmoidRouter)
    )
    for name, module in model.named_modules():
        if type(module) is nn.Linear and name.startswith("blocks.") and not name.startswith(routers):
            yield name, module


def model_bytes(model: nn.Module) -> int:
    """Bytes of all weights, codes, scales and zero points as they are held and saved; what is shared counts once."""
    held = {tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values() if isinstance(tensor, Tensor)}
    return sum(held.values())


def round_to_nearest(linear: nn.Linear, scheme: Scheme, weight: Tensor | None = None) -> QuantizedLinear:
    """``linear``, or it with another ``weight`` (out, in), on the grid of ``scheme``."""
    weight = linear.weight if weight is None else weight
    if scheme.n_bits == 8 and scheme.symmetric and scheme.granularity == "channel" and not scheme.dynamic:
        codes, scale = quantize_rows(weight, torch.bfloat16)  # the dtype of the fast kernel's scales
        quantized = QuantizedTensor(codes, scale[:, None], None, weight.shape[1], 8)
    else:
        quantized = quantize(
            weight, scheme.n_bits, symmetric=scheme.symmetric, granularity=scheme.granularity_for(weight.shape[1])
        )
    return _layer(linear, quantized, scheme)


def _layer(linear: nn.Linear, quantized: QuantizedTensor, scheme: Scheme, divisor: Tensor | None = None) -> QuantizedLinear:
    if scheme.n_bits <= 4:  # half the bytes of its scales; the step is wider than their rounding by far
        quantized = replace(quantized, scale=quantized.scale.to(torch.bfloat16))
    return QuantizedLinear(
        quantized, linear.bias, dtype=linear.weight.dtype, divisor=divisor, dynamic=scheme.dynamic
    )


# -- calibration ------------------------------------------------------------------------------------------------------


class _Flow:
    """Calibration text on its way through a transformer, one block after the other."""

    def __init__(self, model: Transformer, batches: Iterable[Tensor]):
        self.states, self.inputs = [], []
        for tokens_BT in batches:
            tokens_BT = tokens_BT.to(model.device)
            model._check_inputs(tokens_BT, None, None, None)
            positions, mask = model.begin(*tokens_BT.shape, None, None)
            self.states.append(model.embed(tokens_BT, positions))
            self.inputs.append(model.attention_inputs(positions, mask, self.states[-1].dtype))

    def run(self, block: nn.Module, layer: int) -> list[Tensor]:
        """What ``block`` number ``layer`` makes of each batch."""
        return [block(x_BTD, *inputs[layer], None, layer) for x_BTD, inputs in zip(self.states, self.inputs)]


def _calibrate(model: Transformer, scheme: Scheme, batches: Sequence[Tensor], on_layer) -> None:
    flow = _Flow(model, batches)
    for number, block in enumerate(model.blocks):
        prefix = f"blocks.{number}."
        wanted = {name.removeprefix(prefix): linear for name, linear in quantizable(model) if name.startswith(prefix)}
        for name in _called_in_order(flow, block, number, wanted):
            linear = wanted[name]
            block.set_submodule(name, _calibrated(flow, block, number, name, linear, scheme))
            if on_layer:
                on_layer(prefix + name)
        flow.states = flow.run(block, number)


def _called_in_order(flow: _Flow, block: nn.Module, number: int, wanted: dict[str, nn.Linear]) -> list[str]:
    order: dict[str, None] = {}
    hooks = [
        linear.register_forward_hook(lambda *_, name=name: order.setdefault(name)) for name, linear in wanted.items()
    ]
    _run_with(hooks, flow, block, number)
    return list(order)


def _calibrated(
    flow: _Flow, block: nn.Module, number: int, name: str, linear: nn.Linear, scheme: Scheme
) -> QuantizedLinear:
    """``linear`` of ``block``, quantised for the inputs that it gets there."""
    granularity = scheme.granularity_for(linear.in_features)
    grid = {"symmetric": scheme.symmetric, "granularity": granularity}
    norm = norm_before(block, name)
    if scheme.algorithm == "gptq":
        group = granularity if isinstance(granularity, int) else 1
        hessian_DD = _mean_hessian(flow, block, number, linear)
        return _layer(linear, gptq(linear.weight, hessian_DD, scheme.n_bits, block_size=math.ceil(128 / group) * group, **grid), scheme)
    if scheme.algorithm == "awq":
        x_ND = _inputs_of(flow, block, number, linear)
        x_ND = x_ND[:: math.ceil(len(x_ND) / SEARCHED_TOKENS)]
        best = awq(linear.weight, x_ND, scheme.n_bits, **grid)
        if norm is None:
            return _layer(linear, best.quantized, scheme, divisor=best.scales_D)
        divide_outputs(norm, best.scales_D)
        return _layer(linear, best.quantized, scheme)
    if norm is None:  # SmoothQuant leaves layers without a norm before them to the scales of their tokens
        return round_to_nearest(linear, scheme)
    scales_D = smoothing_scales(_inputs_of(flow, block, number, linear), [linear.weight])
    divide_outputs(norm, scales_D)
    return round_to_nearest(linear, scheme, linear.weight.float() * scales_D)


def norm_before(block: nn.Module, name: str) -> Norm | None:
    """The norm whose output the layer reads and nothing else does, so that a division can be folded into it."""
    if not isinstance(block, Block):
        return None
    if name == "attention.qkv" and isinstance(block.attention, GroupedQueryAttention):
        return block.attention_norm
    if name in ("mlp.gate_up", "mlp.up") and isinstance(block.mlp, SwiGLU | GELUFeedForward):
        return block.mlp_norm
    return None


def _inputs_of(flow: _Flow, block: nn.Module, number: int, linear: nn.Linear) -> Tensor:
    """All inputs of ``linear``, (tokens, D) float32."""
    seen: list[Tensor] = []
    hook = linear.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten(0, -2).float()))
    _run_with([hook], flow, block, number)
    return torch.cat(seen)


def _mean_hessian(flow: _Flow, block: nn.Module, number: int, linear: nn.Linear) -> Tensor:
    """H of all inputs, added up batch by batch: no activations are kept."""
    total, n_tokens = 0.0, 0

    def add(_, given):
        nonlocal total, n_tokens
        x_ND = given[0].flatten(0, -2)
        if len(x_ND):
            total, n_tokens = total + hessian(x_ND) * len(x_ND), n_tokens + len(x_ND)

    _run_with([linear.register_forward_pre_hook(add)], flow, block, number)
    return total / n_tokens


def _run_with(hooks: list, flow: _Flow, block: nn.Module, number: int) -> None:
    try:
        flow.run(block, number)
    finally:
        for hook in hooks:
            hook.remove()
