"""Feed-forward networks of which each token visits a few: mixture of experts (Shazeer et al. 2017).

Shape suffixes beside those of the package: N tokens (batch and time flattened), E experts, k experts per token,
P = N * k visits (token and expert), ordered by expert.

Three ways to the same result:

* ``clear_experts``: for each expert, its tokens; the formula in a loop.
* ``sorted_experts``: visits sorted by expert, the gradient by hand.  Autograd through the loop makes, for every
  expert, a gradient as large as that of all experts; here each expert's is written in its place.
* ``PackedExperts``, for decoding: one product over all experts when a batch visits most of them anyway, else one per
  visited expert.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.checkpointing import recomputing
from scratch_llm.layers.routing import Routing


class MixtureOfExperts(nn.Module):
    """``sum_i w_i expert_i(x)`` over the experts the router chooses, plus a shared network every token visits.

    Attributes:
        routing: what the router decided in the last forward pass with gradients; ``take_routings`` collects it.
    """

    def __init__(self, router: nn.Module, experts: Experts, shared: nn.Module | None = None):
        """``shared``: DeepSeekMoE's shared experts (Dai et al. 2024, section 3.2), as one wide network."""
        super().__init__()
        self.router, self.experts, self.shared = router, experts, shared
        self.routing: Routing | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)"""
        x_ND = x.flatten(0, -2)
        routing = self.router(x_ND)
        if self.training and torch.is_grad_enabled() and not recomputing():
            self.routing = routing
        y = self.experts(x_ND, routing).view_as(x)
        return y if self.shared is None else y + self.shared(x)


def take_routings(model: nn.Module) -> list[tuple[nn.Module, Routing]]:
    """(router, routing) of each layer with experts in the last forward pass, which the layers then forget."""
    taken = []
    for module in model.modules():
        if isinstance(module, MixtureOfExperts) and module.routing is not None:
            taken.append((module.router, module.routing))
            module.routing = None
    return taken


class Experts(nn.Module):
    """E SwiGLU networks (see ``SwiGLU``), their matrices stacked: ``gate_up`` (E, 2F, D), ``down`` (E, D, F)."""

    def __init__(self, n_experts: int, top_k: int, d_model: int, d_ff: int):
        """``top_k``: experts a token visits, to choose the fastest form for decoding by."""
        super().__init__()
        self.top_k = top_k
        self.gate_up = nn.Parameter(torch.empty(n_experts, 2 * d_ff, d_model))
        self.down = nn.Parameter(torch.empty(n_experts, d_model, d_ff))

    @property
    def n_parameters_each(self) -> int:
        return self.gate_up[0].numel() + self.down[0].numel()

    def init_weights(self, std: float, residual_std: float) -> None:
        """``down`` writes into the residual stream; see ``init_linear_and_embedding``."""
        nn.init.normal_(self.gate_up, 0.0, std)
        nn.init.normal_(self.down, 0.0, residual_std)

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """(N, D) -> (N, D)"""
        return sorted_experts(x_ND, routing.weights_Nk, routing.experts_Nk, self.gate_up, self.down)

    def clear_forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """The same by the loop."""
        return clear_experts(x_ND, routing.weights_Nk, routing.experts_Nk, self.gate_up, self.down)

    def packed(self, n_rows: int) -> nn.Module:
        """The form for decoding ``n_rows`` rows."""
        return PackedExperts(self, n_rows)


def clear_experts(
    x_ND: Tensor, weights_Nk: Tensor, experts_Nk: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    """(N, D) -> (N, D): every expert computes the tokens that visit it, times the router's weights."""
    y_ND = torch.zeros_like(x_ND)
    for expert in range(len(gate_up)):
        tokens, place = torch.where(experts_Nk == expert)
        gate, up = F.linear(x_ND[tokens], gate_up[expert]).chunk(2, dim=-1)
        out = F.linear(F.silu(gate) * up, down[expert])
        y_ND = y_ND.index_add(0, tokens, (out * weights_Nk[tokens, place, None]).to(y_ND.dtype))
    return y_ND


# torch.compile would make a new program for every division of the tokens among the experts.
@torch.compiler.disable
def sorted_experts(
    x_ND: Tensor, weights_Nk: Tensor, experts_Nk: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    """``clear_experts``, fast: (N, D) -> (N, D), in the dtype of ``x_ND`` (or of autocast)."""
    device = x_ND.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        x_ND = x_ND.to(torch.get_autocast_dtype(device))
    order_P = experts_Nk.flatten().argsort(stable=True)
    if device == "meta":  # nothing is known of the choices but their number: the visits fall evenly
        share = len(order_P) / len(gate_up)
        ends = torch.tensor([round(share * (expert + 1)) for expert in range(len(gate_up))], device="cpu")
    else:
        ends = torch.bincount(experts_Nk.flatten(), minlength=len(gate_up)).cumsum(0)
    weights_P, rounding = weights_Nk.flatten().to(x_ND.dtype), visits_rounding(len(order_P) / len(gate_up))
    if device == "cpu" and rounding > 1:
        order_P, real_P, ends = round_up_visits(order_P, ends, rounding)
        weights_P = weights_P[order_P] * real_P
    else:
        weights_P = weights_P[order_P]
    tokens_P = order_P // experts_Nk.shape[1]
    if device == "cuda" and all(width * x_ND.element_size() % 16 == 0 for width in down.shape[1:]):
        return _library_experts(x_ND, weights_P, tokens_P, ends, gate_up, down)
    return _SortedExperts.apply(x_ND, weights_P, gate_up, down, tokens_P, ends.tolist())


def visits_rounding(mean_visits: float) -> int:
    """To which multiple the visits of an expert are rounded up on a CPU.

    oneDNN makes a program for each shape it meets, at some 5 ms, and experts meet another number of tokens at every
    step.  Rounded, the shapes repeat; what is computed in vain stays below a tenth.
    """
    return next((multiple for multiple in (64, 32, 16) if mean_visits >= 8 * multiple), 1)


def round_up_visits(order_P: Tensor, ends: Tensor, multiple: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted visits with repetitions that fill each expert's part up to a multiple: visits, which are real, new ends."""
    sizes = ends.diff(prepend=ends.new_zeros(1))
    rounded = (sizes + multiple - 1) // multiple * multiple
    new_ends = rounded.cumsum(0)
    expert_P = torch.repeat_interleave(rounded)
    place_P = torch.arange(len(expert_P)) - (new_ends - rounded)[expert_P]
    old_P = (ends - sizes)[expert_P] + place_P.minimum(sizes[expert_P] - 1)
    return order_P[old_P], place_P < sizes[expert_P], new_ends


def _library_experts(
    x_ND: Tensor, weights_P: Tensor, tokens_P: Tensor, ends: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    """By the library's grouped product, which never waits for the GPU to tell how many tokens each expert has."""
    offsets = ends.to(torch.int32)
    gate_up, down = gate_up.to(x_ND.dtype), down.to(x_ND.dtype)
    hidden = F.grouped_mm(x_ND[tokens_P], gate_up.transpose(1, 2), offs=offsets)
    gate, up = hidden.chunk(2, dim=-1)
    out = F.grouped_mm(F.silu(gate) * up * weights_P[:, None], down.transpose(1, 2), offs=offsets)
    return torch.zeros_like(x_ND).index_add(0, tokens_P, out)


class _SortedExperts(torch.autograd.Function):
    """One expert after the other over its slice of the sorted visits, all its steps while the data is in the cache.

    Weights that are kept in another dtype (autocast) are converted one expert at a time, and so are their gradients: a
    copy of all would be read from memory and not from the cache.  The router's weight multiplies the inner activation
    (width F) and not the output: down is linear.
    """

    @staticmethod
    def forward(ctx, x_ND, weights_P, gate_up, down, tokens_P, ends):
        y_ND, hidden = torch.zeros_like(x_ND), []
        for expert, start, end in _slices(ends):
            tokens = tokens_P[start:end]
            hidden.append(product(x_ND.index_select(0, tokens), gate_up[expert].to(x_ND.dtype)))
            gate, up = hidden[-1].chunk(2, dim=-1)
            inner = F.silu(gate).mul_(up).mul_(weights_P[start:end, None])
            y_ND.index_add_(0, tokens, product(inner, down[expert].to(x_ND.dtype)))
        ctx.save_for_backward(x_ND, weights_P, gate_up, down, tokens_P, *hidden)
        ctx.ends = ends
        return y_ND

    @staticmethod
    def backward(ctx, grad_ND):
        """With g = dL/dy of an expert's tokens and a = silu(gate) * up: da = w (g down), dw = rowsum(a * (g down))."""
        x_ND, weights_P, gate_up, down, tokens_P, *hidden = ctx.saved_tensors
        dtype, d_ff = x_ND.dtype, down.shape[2]
        grad_x, grad_weights = torch.zeros_like(x_ND), torch.empty_like(weights_P)
        grad_gate_up, grad_down = torch.empty_like(gate_up), torch.empty_like(down)
        visited = _slices(ctx.ends)
        for expert in set(range(len(down))) - {expert for expert, _, _ in visited}:
            grad_gate_up[expert].zero_(), grad_down[expert].zero_()
        for (expert, start, end), pre in zip(visited, hidden):
            tokens, w = tokens_P[start:end], weights_P[start:end, None]
            g, (gate, up) = grad_ND.index_select(0, tokens), pre.chunk(2, dim=-1)
            silu = F.silu(gate)
            inner = silu * up
            grad_inner = product(g, down[expert].to(dtype).t())
            grad_weights[start:end] = (grad_inner * inner).sum(dim=-1)
            product(g.t(), inner.mul_(w).t(), out=grad_down[expert])
            grad_inner *= w
            grad_pre = torch.empty_like(pre)
            torch.mul(grad_inner, silu, out=grad_pre[:, d_ff:])
            grad_pre[:, :d_ff] = torch.ops.aten.silu_backward(grad_inner.mul_(up), gate)
            product(grad_pre.t(), x_ND.index_select(0, tokens).t(), out=grad_gate_up[expert])
            grad_x.index_add_(0, tokens, product(grad_pre, gate_up[expert].to(dtype).t()))
        return grad_x, grad_weights, grad_gate_up, grad_down, None, None


def _slices(ends: list[int]) -> list[tuple[int, int, int]]:
    """(expert, start, end) of the experts that have visits."""
    starts = [0, *ends[:-1]]
    return [(expert, start, end) for expert, (start, end) in enumerate(zip(starts, ends)) if end > start]


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """``a b^T``, without gradient: (m, i), (n, i) -> (m, n); ``out`` may be of another dtype.

    oneDNN's float32 product takes half the time of MKL's, torch's default, on a CPU that MKL does not use AVX-512 on
    (Zen 5: 0.78 against 1.77 ms for m, n, i = 512, 512, 384).
    """
    if a.dtype == torch.float32 and a.device.type == "cpu" and torch.backends.mkldnn.is_available():
        result = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    elif out is not None and out.dtype == a.dtype:
        return torch.mm(a, b.t(), out=out)
    else:
        result = a @ b.t()
    return result if out is None else out.copy_(result)


class PackedExperts(nn.Module):
    """``Experts`` for decoding ``n_rows`` rows at a time; see ``scratch_llm.generation.packing``.

    B rows visit ``E (1 - (1 - k/E)^B)`` experts if the router is fair.  Where that is at least half of them, one
    product with the matrices of all is faster than several small ones: experts that are not visited get the weight 0,
    and the product with ``down`` sums over experts, too.
    """

    def __init__(self, experts: Experts, n_rows: int):
        from scratch_llm.generation.packing import in_int8, linear

        super().__init__()
        # Only the packed matrices are in int8, so prompts go through them, too.
        self.n_rows, self.experts = (None if in_int8() else n_rows), experts
        gate_up, down = experts.gate_up, experts.down
        E, D, self.d_ff = down.shape
        unvisited = (1 - experts.top_k / E) ** n_rows
        # Scales are of one expert each, so int8 takes no joined matrices.
        self.dense = unvisited <= 0.5 and not in_int8()
        if self.dense:
            # All gates, then all ups: so that each half is one piece.
            joined = gate_up.view(E, 2, self.d_ff, D).transpose(0, 1).reshape(2 * E * self.d_ff, D)
            self.gate_up = linear(joined, None, n_rows)
            self.down = linear(down.transpose(0, 1).reshape(D, E * self.d_ff), None, n_rows)
        else:
            rows = max(1, round(n_rows * experts.top_k / (E * (1 - unvisited))))
            # Plain lists: looking up a child of a ModuleList costs a microsecond.
            self.gate_up = [linear(matrix, None, rows) for matrix in gate_up]
            self.down = [linear(matrix, None, rows) for matrix in down]

    def forward(self, x_ND: Tensor, routing: Routing) -> Tensor:
        """(N, D) -> (N, D).  More rows than it was made for (a prompt) go the way of ``sorted_experts``."""
        if self.n_rows is not None and len(x_ND) > self.n_rows:
            return self.experts(x_ND, routing)
        if self.dense:
            return self._all_experts(x_ND, routing)
        return self._one_token(x_ND, routing) if len(x_ND) == 1 else self._visited_experts(x_ND, routing)

    def _all_experts(self, x_ND: Tensor, routing: Routing) -> Tensor:
        N, E = routing.logits_NE.shape
        gate, up = self.gate_up(x_ND).chunk(2, dim=-1)
        weights_NE = x_ND.new_zeros(N, E).scatter_(1, routing.experts_Nk, routing.weights_Nk.to(x_ND.dtype))
        inner = F.silu(gate).mul_(up).view(N, E, self.d_ff).mul_(weights_NE[..., None])
        return self.down(inner.view(N, E * self.d_ff))

    def _one_token(self, x_1D: Tensor, routing: Routing) -> Tensor:
        experts = routing.experts_Nk.tolist()[0]
        gate, up = torch.cat([self.gate_up[expert](x_1D) for expert in experts]).chunk(2, dim=-1)
        inner_kF = F.silu(gate).mul_(up).mul_(routing.weights_Nk.view(-1, 1))
        first, *others = (self.down[expert](inner_1F) for expert, inner_1F in zip(experts, inner_kF.split(1)))
        return sum(others, start=first)

    def _visited_experts(self, x_ND: Tensor, routing: Routing) -> Tensor:
        N, k = routing.experts_Nk.shape
        # So few visits are sorted faster by Python than by three calls of torch.
        experts = routing.experts_Nk.flatten().tolist()
        order_P = torch.tensor(sorted(range(N * k), key=experts.__getitem__), device=x_ND.device)
        sizes = [(expert, experts.count(expert)) for expert in sorted(set(experts))]
        tokens_P, weights_P = order_P // k, routing.weights_Nk.flatten()[order_P]
        pieces = x_ND[tokens_P].split([size for _, size in sizes])
        hidden = torch.cat([self.gate_up[expert](piece) for (expert, _), piece in zip(sizes, pieces)])
        gate, up = hidden.chunk(2, dim=-1)
        inner = (F.silu(gate) * up).mul_(weights_P[:, None])
        pieces = inner.split([size for _, size in sizes])
        out = torch.cat([self.down[expert](piece) for (expert, _), piece in zip(sizes, pieces)])
        return torch.zeros_like(x_ND).index_add_(0, tokens_P, out)
