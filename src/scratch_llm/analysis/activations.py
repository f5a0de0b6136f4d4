"""What a training step keeps for its backward pass, counted by running the model's own code.

Autograd tells of every tensor that it saves (``torch.autograd.graph.saved_tensors_hooks``).  On the meta device tensors
have shapes but no memory, so the forward pass of a model of any size costs nothing, and the sum over the distinct
storages that were saved is what a step of that model would hold.

What is saved depends on the kernels.  ``kernels="fused"`` counts as on a GPU: FlashAttention keeps its inputs, its output
and one number per query instead of T x T probabilities (Dao et al. 2022, section 3.1), a fused RMSNorm keeps its input.
``kernels="plain"`` counts attention written out, the rest as before.
"""

from __future__ import annotations

import itertools
import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from scratch_llm.analysis.shapes import as_shapes
from scratch_llm.models import LanguageModel

KERNELS = ("fused", "plain")


@dataclass(frozen=True)
class Activations:
    """Bytes that one micro-batch keeps until its backward pass.

    Attributes:
        blocks: per block, what it saves, its input included.
        block_inputs: per block, its input alone: all that is kept of a block with checkpointing.
        outside: embedding, final norm, output layer and loss.
    """

    blocks: tuple[int, ...]
    block_inputs: tuple[int, ...]
    outside: int

    @property
    def total(self) -> int:
        """Everything kept: the peak of a step without checkpointing."""
        return sum(self.blocks) + self.outside

    @property
    def with_checkpointing(self) -> int:
        """The peak when every block keeps its input and computes the rest again (Chen et al. 2016): all inputs, and
        the largest block once."""
        once = max((whole - kept for whole, kept in zip(self.blocks, self.block_inputs)), default=0)
        return sum(self.block_inputs) + once + self.outside


def count_activations(
    model_or_config: LanguageModel | Any,
    batch_size: int,
    context_length: int | None = None,
    *,
    dtype: torch.dtype | None = None,
    kernels: str = "fused",
) -> Activations:
    """Activations of a training step on ``batch_size`` rows of ``context_length`` tokens.

    A configuration is counted on the meta device, in ``dtype`` (default float32).  A model is run where it lies, with
    its own kernels and dtype: that is the measurement which the count is tested against.  Of an LSTM's configuration the
    workspace of the library's kernel is missing: count a model.
    """
    if kernels not in KERNELS:
        raise ValueError(f"kernels {kernels!r} are unknown: use {' or '.join(KERNELS)}")
    model = as_shapes(model_or_config)
    if model is not model_or_config:
        model.to(dtype or torch.float32)
    elif dtype not in (None, model.dtype):
        raise ValueError(f"the model is {model.dtype}: give its configuration to count in {dtype}")
    shape = batch_size, context_length or model.config.context_length
    tokens_BT = torch.zeros(shape, dtype=torch.long, device=model.device)
    # On a device that computes, the model's own kernels are what is to be measured.
    stand_ins = _FusedKernels(kernels == "fused") if model.device.type == "meta" else nullcontext()
    was_training = model.training
    model.train()
    try:
        with _Recorder(model) as recorder, stand_ins:
            loss = model(tokens_BT, targets=tokens_BT)
        result = recorder.result()
        del loss  # kept alive until here: a freed storage's address is given out again
    finally:
        model.train(was_training)
    return result


def saved_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Memory that a forward pass of any module keeps for its backward pass: every tensor once, parameters and buffers
    left out.  Measured where the module lies, with the kernels that it runs."""
    with _Recorder(module) as recorder:
        output = module(*inputs)
    result = recorder.result().total
    del output  # kept alive until here: a freed storage's address is given out again
    return result


class _Recorder:
    """Notes the storages that autograd saves, and in which block: within ``with``."""

    def __init__(self, model: nn.Module):
        self.blocks = list(getattr(model, "blocks", []))
        # Weights and tables are there anyway: they are no activations.
        tensors = (*model.parameters(), *model.buffers())
        self._owned = {tensor.untyped_storage()._cdata for tensor in tensors}
        self._place: int | None = None
        self._saved_tensors: weakref.WeakSet[_Saved] = weakref.WeakSet()
        self._inputs: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> _Recorder:
        self._handles: list[RemovableHandle] = []
        for number, block in enumerate(self.blocks):
            self._handles.append(block.register_forward_pre_hook(self._entering(number)))
            self._handles.append(block.register_forward_hook(self._leaving))
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._save, lambda saved: saved.tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._hooks.__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def _entering(self, number: int):
        def hook(block: nn.Module, arguments: tuple) -> None:
            self._place = number
            storage = arguments[0].untyped_storage()
            self._inputs[number] = storage._cdata, storage.nbytes()

        return hook

    def _leaving(self, block: nn.Module, arguments: tuple, output: Any) -> None:
        self._place = None

    def _save(self, tensor: Tensor) -> _Saved:
        # Detached: an operation that keeps its own output (exp, softmax) would hold itself for ever.
        saved = _Saved(tensor.detach(), self._place)
        if not isinstance(tensor, nn.Parameter):
            # The graph holds it; where a branch of the graph is dropped, so is what it saved.
            self._saved_tensors.add(saved)
        return saved

    def result(self) -> Activations:
        inputs = tuple(size for _, size in self._inputs.values())
        blocks, outside = [0] * len(self.blocks), 0
        storages: dict[int, tuple[int | None, int]] = {}
        for saved in sorted(self._saved_tensors, key=lambda saved: saved.order):
            storage = saved.tensor.untyped_storage()
            if storage._cdata not in self._owned:
                storages.setdefault(storage._cdata, (saved.place, storage.nbytes()))
        for place, size in storages.values():
            if place is None:
                outside += size
            else:
                blocks[place] += size
        return Activations(tuple(blocks), inputs, outside)


class _Saved:
    """A tensor that autograd keeps, and the block that it was saved in."""

    _count = itertools.count()

    def __init__(self, tensor: Tensor, place: int | None):
        self.tensor, self.place, self.order = tensor, place, next(self._count)


# -- kernels as a GPU has them ------------------------------------------------------------------------


class _FusedKernels(TorchFunctionMode):
    """RMSNorm, and attention where asked for, save what their fused GPU kernels save."""

    def __init__(self, attention: bool):
        super().__init__()
        self.attention = attention

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.attention and function is F.scaled_dot_product_attention:
            return _Flash.apply(*args[:3])
        if function is F.rms_norm:
            weight = args[2] if len(args) > 2 else kwargs.get("weight")
            if weight is not None:
                return _FusedRMSNorm.apply(args[0], weight)
        return function(*args, **kwargs)


class _Flash(torch.autograd.Function):
    """Shapes of FlashAttention: saves q, k, v, the output and a float32 log-sum-exp per query."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        B, H, T, _ = q.shape
        # The kernel writes (B, T, H, d), so that heads can be joined without a copy.
        y = q.new_empty(B, T, H, v.shape[-1]).transpose(1, 2)
        ctx.save_for_backward(q, k, v, y, q.new_empty(B, H, T, dtype=torch.float32))
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class _FusedRMSNorm(torch.autograd.Function):
    """Shapes of the fused norm: saves its input and a float32 factor per row."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, x.new_empty(*x.shape[:-1], 1, dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight, _ = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(weight)
