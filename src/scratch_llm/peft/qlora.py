"""QLoRA (Dettmers et al. 2023): the frozen matrices in four bits, and adapters beside them in float32.

    quantize_base(model)                             every matrix of the blocks becomes an ``NF4Linear``
    inject(model, LoRAConfig(targets="all-linear"))  adapters as on any other base
    merge(model)                                     plain matrices again, with the rounding and what was learnt

Training needs the base twice in each step, forward and backward, and both times a matrix is restored for one product and
then forgotten.  What is kept for backward is the layer's input at most, never the restored matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.peft.inject import adaptable_layers, adapter_names
from scratch_llm.peft.nf4 import NF4Matrix


class NF4Linear(nn.Module):
    """``nn.Linear`` with its weight in four bits; not trained itself, but gradients pass through to its input."""

    adaptable = True
    holds_weights = True
    """Its buffers are frozen weights, which checkpoints of training leave out."""

    def __init__(self, linear: nn.Linear, heights: Sequence[int] = (), *, block_size: int = 64, double: bool = True):
        """
        Args:
            heights: rows of the matrices in ``linear``, each of which is quantised by itself, as it would be where it
                stands alone; (): one matrix.
        """
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        pieces = linear.weight.split(list(heights) or linear.out_features)
        self.matrices = nn.ModuleList(NF4Matrix(piece, block_size, double=double) for piece in pieces)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())
        # Nothing but a dtype, which ``model.bfloat16()`` changes as it does those of the other layers.
        self.register_buffer("_like", linear.weight.new_empty(0), persistent=False)

    @property
    def weight(self) -> Tensor:
        """(out, in), restored."""
        return self.restored(self._like.dtype)

    def restored(self, dtype: torch.dtype) -> Tensor:
        """(out, in)."""
        matrices = [matrix.restored(dtype) for matrix in self.matrices]
        return matrices[0] if len(matrices) == 1 else torch.cat(matrices)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        y = _RestoredProduct.apply(x, self)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def packed(self, n_rows: int) -> nn.Module:
        """Restored, for decoding; see ``scratch_llm.generation.packing``."""
        from scratch_llm.generation.packing import linear

        return linear(self.weight, self.bias, n_rows)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _RestoredProduct(torch.autograd.Function):
    """``x W^T``; backward restores W again instead of keeping it."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: NF4Linear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return F.linear(x, layer.restored(x.dtype))

    @staticmethod
    def backward(ctx, dy: Tensor):
        return (dy @ ctx.layer.restored(dy.dtype)).to(ctx.dtype), None


@torch.no_grad()
def quantize_base(model: nn.Module, *, block_size: int = 64, double: bool = True) -> nn.Module:
    """Put every matrix of the blocks into four bits, in place; returns the model.

    Embeddings, the output layer, norms and routers stay as they are, as in ``quantize_model``.

    Raises:
        ValueError: the model has adapters or no plain matrices, or a block size that does not exist.
    """
    if adapter_names(model):
        raise ValueError("the model has adapters: quantise the base first, then inject or load them")
    layers = {name: parts for name, parts in adaptable_layers(model).items() if type(model.get_submodule(name)) is nn.Linear}
    if not layers:
        raise ValueError("the model has no matrices to quantise: its linear layers are quantised already, or it has none")
    # All are made before the first is put in, so that a failure leaves the model whole.
    made = {}
    for name, parts in layers.items():
        linear = model.get_submodule(name)
        heights = [part.n_rows for part in parts]
        heights = heights if sum(heights) == linear.out_features else []
        made[name] = NF4Linear(linear, heights, block_size=block_size, double=double)
    for name, layer in made.items():
        model.set_submodule(name, layer)
    return model
