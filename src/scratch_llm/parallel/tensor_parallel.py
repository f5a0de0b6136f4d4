"""Tensor parallelism: every matrix of a block is cut in pieces, one for each process.

Shoeybi et al. 2019, "Megatron-LM", section 3.  Two cuts suffice:

    column parallel   each process has some of the outputs: ``y_r = W_r x``, nothing to send
    row parallel      each process has some of the inputs: ``y = sum over r of W_r x_r``, one sum over the processes

One after the other they need no exchange between them, as what lies there (an activation, whole attention heads) works
on each output by itself.  A block has two such pairs, so two sums on the way forward and two on the way back; the norms,
the embedding and the output layer stand whole on every process and compute the same there.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.feed_forward import GELUFeedForward, SwiGLU


class Team:
    """The processes that share one model; counts what they send."""

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group, self.rank, self.size = group, dist.get_rank(group), dist.get_world_size(group)
        self.n_sums = self.n_bytes = 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, the same on each of them."""
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self.group)
        self.n_sums += 1
        self.n_bytes += total.numel() * total.element_size()
        return total

    def mine(self, index: Tensor) -> Tensor:
        """This process's share of the numbers in ``index``: the rank-th of ``size`` equal runs."""
        return index.chunk(self.size)[self.rank]


class _SumBackward(torch.autograd.Function):
    """The paper's ``f``.  Forward: x as it is.  Backward: each process knows its own outputs' share of dL/dx; all count."""

    @staticmethod
    def forward(ctx, x: Tensor, team: Team) -> Tensor:
        ctx.team = team
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.team.sum(gradient), None


class _SumForward(torch.autograd.Function):
    """The paper's ``g``.  Forward: the sum over the processes.  Backward: a sum hands its gradient to every summand."""

    @staticmethod
    def forward(ctx, x: Tensor, team: Team) -> Tensor:
        return team.sum(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class ColumnParallelLinear(nn.Module):
    """Some outputs of ``linear``: (..., in) -> (..., len(outputs)).

    Rows of PyTorch's (out, in) weight, which are the columns of the paper's, who writes ``x W``.
    """

    def __init__(self, linear: nn.Linear, outputs: Tensor, team: Team):
        super().__init__()
        self.team, self.outputs = team, outputs
        self.weight = nn.Parameter(linear.weight.detach()[outputs].clone())
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach()[outputs].clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in), the same on every process -> (..., len(outputs)), the process's own."""
        return F.linear(_SumBackward.apply(x, self.team), self.weight, self.bias)


class RowParallelLinear(nn.Module):
    """``linear`` from some of its inputs: (..., len(inputs)) -> (..., out), the sum over all processes."""

    def __init__(self, linear: nn.Linear, inputs: Tensor, team: Team):
        super().__init__()
        self.team, self.inputs = team, inputs
        self.weight = nn.Parameter(linear.weight.detach()[:, inputs].clone())
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., len(inputs)), the process's own -> (..., out), the same on every process."""
        y = _SumForward.apply(F.linear(x, self.weight), self.team)
        return y if self.bias is None else y + self.bias  # once, after the sum


def parallelize(model: nn.Module, team: Team) -> nn.Module:
    """Cut the attention and the feed-forward network of every block; each process keeps its share.  Changes ``model``.

    Raises:
        ValueError: heads or inner widths that the processes cannot share equally; a layer that is not known here.
    """
    parts = [part for block in model.blocks for part in (block.attention, block.mlp)]
    for part in parts:
        _check(part, team.size)
    for part in parts:
        _CUTS[type(part)](part, team)
    return model


def _check(module: nn.Module, size: int) -> None:
    # A norm over each head's queries is one vector for all heads: its gradient would need a sum of its own.
    if type(module) not in _CUTS or getattr(module, "q_norm", None) is not None:
        raise ValueError(f"a {type(module).__name__} of this model is not cut here: use a Llama or GPT-2 model")
    if isinstance(module, GroupedQueryAttention):
        counts = {"n_heads": module.n_heads, "n_kv_heads": module.n_kv_heads}
    else:
        counts = {"d_ff": module.down.in_features}
    for name, count in counts.items():
        if count % size:
            raise ValueError(f"{name} {count} cannot be shared equally by {size} processes: take a number of processes that divides it")


def _cut_attention(attention: GroupedQueryAttention, team: Team) -> None:
    """Whole heads: attention never mixes two of them before the output projection."""
    d, n_q, n_kv = attention.head_dim, attention.n_heads, attention.n_kv_heads
    rows = torch.arange((n_q + 2 * n_kv) * d).split((n_q * d, n_kv * d, n_kv * d))
    attention.qkv = ColumnParallelLinear(attention.qkv, torch.cat([team.mine(part) for part in rows]), team)
    attention.out = RowParallelLinear(attention.out, team.mine(torch.arange(n_q * d)), team)
    attention.n_heads, attention.n_kv_heads = n_q // team.size, n_kv // team.size


def _cut_gated(mlp: SwiGLU, team: Team) -> None:
    """Gate and up are stacked, and both need the same share."""
    inner = torch.arange(mlp.down.in_features)
    mlp.gate_up = ColumnParallelLinear(mlp.gate_up, torch.cat([team.mine(inner), team.mine(inner) + len(inner)]), team)
    mlp.down = RowParallelLinear(mlp.down, team.mine(inner), team)


def _cut_plain(mlp: GELUFeedForward, team: Team) -> None:
    inner = torch.arange(mlp.down.in_features)
    mlp.up = ColumnParallelLinear(mlp.up, team.mine(inner), team)
    mlp.down = RowParallelLinear(mlp.down, team.mine(inner), team)


_CUTS = {GroupedQueryAttention: _cut_attention, SwiGLU: _cut_gated, GELUFeedForward: _cut_plain}
