"""Routers, and the three ways through a mixture of experts."""

from __future__ import annotations

import pytest
import torch
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from scratch_llm.generation.packing import can_pack
from scratch_llm.layers.feed_forward import SwiGLU
from scratch_llm.layers.mixture_of_experts import (
    Experts,
    MixtureOfExperts,
    PackedExperts,
    product,
    round_up_visits,
    sorted_experts,
    take_routings,
    visits_rounding,
)
from scratch_llm.layers.routing import (
    Routing,
    SigmoidRouter,
    SoftmaxRouter,
    expert_loads,
    load_balancing_loss,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def experts_of(n_experts, top_k, d_model=14, d_ff=9):
    experts = Experts(n_experts, top_k, d_model, d_ff)
    experts.init_weights(0.5, 0.5)
    return experts


# -- routers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("renormalise", [True, False])
def test_softmax_router_takes_the_likeliest(renormalise):
    router = SoftmaxRouter(6, 5, 2, renormalise=renormalise)
    x = torch.randn(7, 6)
    weights, experts, logits = router(x)
    for token in range(7):
        probabilities = logits[token].exp() / logits[token].exp().sum()
        best = probabilities.argsort(descending=True)[:2]
        assert experts[token].tolist() == best.tolist()
        expected = probabilities[best] / (probabilities[best].sum() if renormalise else 1)
        torch.testing.assert_close(weights[token], expected)


def test_sigmoid_router_chooses_by_bias_and_weighs_without():
    router = SigmoidRouter(6, 5, 2, scale=3.0)
    x = torch.randn(40, 6)
    free = router(x)
    router.bias[4] = 10.0
    biased = router(x)
    assert (biased.experts_Nk == 4).any(dim=1).all() and not (free.experts_Nk == 4).any(dim=1).all()
    affinities = biased.logits_NE.sigmoid().gather(1, biased.experts_Nk)
    torch.testing.assert_close(biased.weights_Nk, 3 * affinities / affinities.sum(1, keepdim=True))
    raw = SigmoidRouter(6, 5, 2, renormalise=False)
    raw.load_state_dict(router.state_dict())
    torch.testing.assert_close(raw(x).weights_Nk, affinities)


def test_groups_limit_the_choice():
    router = SigmoidRouter(8, 12, 3, n_groups=4, n_groups_per_token=2)
    router.bias.normal_(0, 0.3)
    x = torch.randn(50, 8)
    routing = router(x)
    scores = routing.logits_NE.sigmoid() + router.bias
    limited = 0
    for row, chosen in zip(scores, routing.experts_Nk):
        groups = [row[i : i + 3] for i in range(0, 12, 3)]
        best = sorted(range(4), key=lambda g: -groups[g].topk(2).values.sum().item())[:2]
        allowed = [e for e in range(12) if e // 3 in best]
        expected = sorted(allowed, key=lambda e: -row[e].item())[:3]
        assert set(chosen.tolist()) == set(expected)
        limited += set(expected) != set(row.topk(3).indices.tolist())
    assert limited > 5, "the groups must matter somewhere"


def test_router_in_bfloat16_still_computes_in_float32():
    router = SigmoidRouter(6, 5, 2).bfloat16()
    x = torch.randn(9, 6).bfloat16()
    routing = router(x)
    assert routing.logits_NE.dtype == routing.weights_Nk.dtype == torch.float32
    torch.testing.assert_close(routing.logits_NE, x.float() @ router.gate.weight.float().t())
    assert router.bias.dtype == router.loads.dtype == torch.float32
    assert SigmoidRouter(6, 5, 2).to("meta").to(torch.bfloat16).bias.is_meta


@pytest.mark.parametrize("top_k", [0, 6, -1])
@pytest.mark.parametrize("kind", [SoftmaxRouter, SigmoidRouter])
def test_impossible_top_k(kind, top_k):
    with pytest.raises(ValueError, match=rf"n_experts_per_token is {top_k}: it must be from 1 to n_experts, 5"):
        kind(4, 5, top_k)


# -- balance ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padded", [False, True])
def test_balance_loss_is_theirs_and_so_is_its_gradient(padded):
    logits = [torch.randn(3 * 8, 5, requires_grad=True) for _ in range(2)]
    real = torch.rand(3, 8) > 0.4 if padded else None
    routings = [
        Routing(*layer.softmax(-1).topk(2, dim=-1), layer) for layer in logits
    ]
    mine = load_balancing_loss(routings, None if real is None else real.flatten())
    theirs = load_balancing_loss_func(tuple(logits), 5, 2, None if real is None else real.long())
    torch.testing.assert_close(mine, theirs)
    for a, b in zip(torch.autograd.grad(mine, logits), torch.autograd.grad(theirs, logits)):
        torch.testing.assert_close(a, b)


def test_balance_loss_is_top_k_when_all_are_equal_and_grows_with_imbalance():
    even = Routing(torch.ones(6, 1), torch.arange(6)[:, None] % 3, torch.zeros(6, 3))
    assert load_balancing_loss([even]).item() == pytest.approx(1.0)
    one = Routing(torch.ones(6, 1), torch.zeros(6, 1, dtype=torch.long), torch.tensor([[9.0, 0.0, 0.0]] * 6))
    assert load_balancing_loss([one]).item() == pytest.approx(3.0, rel=1e-3)


def test_loads_leave_padding_out():
    experts = torch.tensor([[0, 1], [1, 2], [2, 1]])
    routing = Routing(torch.ones(3, 2), experts, torch.zeros(3, 4))
    assert expert_loads([routing, routing]).tolist() == [2, 6, 4, 0]
    assert expert_loads([routing], torch.tensor([True, False, True])).tolist() == [1, 2, 1, 0]


def test_bias_moves_by_the_rate_towards_the_average_and_loads_start_anew():
    router = SigmoidRouter(4, 3, 1)
    router.loads.copy_(torch.tensor([9.0, 3.0, 6.0]))
    router.update_bias(0.5)
    assert router.bias.tolist() == [-0.5, 0.5, 0.0] and not router.loads.any()
    router.update_bias(0.5)
    assert router.bias.tolist() == [-0.5, 0.5, 0.0], "nothing was counted, so nothing moves"


def test_loads_are_not_saved_and_the_bias_is():
    assert set(SigmoidRouter(4, 3, 1).state_dict()) == {"gate.weight", "bias"}


# -- experts ------------------------------------------------------------------------------------------


def test_clear_path_is_the_sum_over_chosen_networks():
    experts = experts_of(5, 2)
    x = torch.randn(7, 14)
    routing = SoftmaxRouter(14, 5, 2)(x)
    networks = []
    for e in range(5):
        network = SwiGLU(14, 9)
        network.gate_up.weight.data.copy_(experts.gate_up[e])
        network.down.weight.data.copy_(experts.down[e])
        networks.append(network)
    expected = torch.stack([
        sum(w * networks[e](x[i]) for w, e in zip(routing.weights_Nk[i], routing.experts_Nk[i])) for i in range(7)
    ])  # fmt: skip
    torch.testing.assert_close(experts.clear_forward(x, routing), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_tokens, n_experts, top_k", [(1, 4, 2), (33, 5, 1), (64, 7, 3), (9, 31, 4), (6, 3, 3)])
def test_sorted_path_is_the_clear_one_with_gradients(n_tokens, n_experts, top_k):
    """Also where some experts have no visits at all."""
    experts, router = experts_of(n_experts, top_k), SoftmaxRouter(14, n_experts, top_k)
    x = torch.randn(n_tokens, 14, requires_grad=True)
    inputs = [x, router.gate.weight, experts.gate_up, experts.down]
    up = torch.randn(n_tokens, 14)
    results = []
    for path in (experts.clear_forward, experts.forward):
        y = path(x, router(x))
        results.append((y, *torch.autograd.grad((y * up).sum(), inputs)))
    for clear, fast in zip(*results):
        torch.testing.assert_close(fast, clear, atol=2e-5, rtol=1e-5)


def test_gradient_of_the_sorted_path_by_finite_differences():
    experts = experts_of(4, 2, 5, 3).double()
    x = torch.randn(6, 5, dtype=torch.double, requires_grad=True)
    weights = torch.rand(6, 2, dtype=torch.double, requires_grad=True)
    chosen = torch.stack([torch.randperm(4)[:2] for _ in range(6)])
    torch.autograd.gradcheck(sorted_experts, (x, weights, chosen, experts.gate_up, experts.down))


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16(autocast):
    experts, router = experts_of(5, 2, 24, 16), SoftmaxRouter(24, 5, 2)
    x = torch.randn(40, 24)
    routing = router(x)
    up = torch.randn(40, 24)
    exact = experts.clear_forward(x, routing)
    expected = torch.autograd.grad((exact * up).sum(), [experts.gate_up, experts.down])
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            y = experts(x, routing)
        grads = torch.autograd.grad((y * up).sum(), [experts.gate_up, experts.down])
        assert all(grad.dtype == torch.float32 for grad in grads)
    else:
        half = experts_of(5, 2, 24, 16)
        half.load_state_dict(experts.state_dict())
        half.bfloat16()
        y = half(x.bfloat16(), routing)
        grads = torch.autograd.grad((y * up).sum(), [half.gate_up, half.down])
    assert y.dtype == torch.bfloat16
    for mine, other in zip((y, *grads), (exact, *expected)):
        assert (mine - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_rows", [1, 2, 3, 8])
@pytest.mark.parametrize("n_experts, top_k", [(4, 2), (31, 3), (16, 1)])
def test_packed_paths_are_the_clear_one(n_experts, top_k, n_rows, dtype):
    if not can_pack(dtype):
        pytest.skip(f"no packed products in {dtype} on this CPU")
    experts = experts_of(n_experts, top_k, 24, 16).to(dtype)
    router = SoftmaxRouter(24, n_experts, top_k).to(dtype)
    with torch.inference_mode():
        packed = PackedExperts(experts, n_rows)
        for n_tokens in {1, n_rows, n_rows + 5}:
            x = torch.randn(n_tokens, 24).to(dtype)
            routing = router(x)
            expected = experts.float().clear_forward(x.float(), routing)
            experts.to(dtype)
            y = packed(x, routing)
            assert y.dtype == dtype
            tolerance = 1e-5 if dtype == torch.float32 else 0.02
            assert (y - expected).norm() <= tolerance * expected.norm()


def test_packed_form_is_dense_where_most_experts_are_visited():
    if not can_pack(torch.float32):
        pytest.skip("no packed products on this CPU")
    with torch.inference_mode():
        assert not PackedExperts(experts_of(16, 4), 1).dense
        assert PackedExperts(experts_of(16, 4), 8).dense
        assert not PackedExperts(experts_of(128, 8), 8).dense


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_product_of_transposed_views(dtype):
    a, b = torch.randn(13, 7).to(dtype), torch.randn(7, 5).to(dtype)
    for left in (a, a.t().contiguous().t()):
        torch.testing.assert_close(product(left, b.t()), left @ b)


def test_shared_network_is_added_and_shapes_are_kept():
    experts, shared = experts_of(4, 2), SwiGLU(14, 6)
    layer = MixtureOfExperts(SoftmaxRouter(14, 4, 2), experts, shared)
    alone = MixtureOfExperts(layer.router, experts)
    x = torch.randn(2, 3, 14)
    torch.testing.assert_close(layer(x), alone(x) + shared(x))
    assert layer(x).shape == x.shape


def test_routings_are_kept_in_training_only_and_taken_once():
    layer = MixtureOfExperts(SoftmaxRouter(14, 4, 2), experts_of(4, 2))
    x = torch.randn(2, 3, 14)
    layer.eval()(x)
    with torch.no_grad():
        layer.train()(x)
    assert take_routings(layer) == []
    layer(x)
    (router, routing), = take_routings(layer)
    assert router is layer.router and routing.experts_Nk.shape == (6, 2)
    assert take_routings(layer) == []


def test_compiled_layer_agrees():
    layer = MixtureOfExperts(SoftmaxRouter(14, 4, 2), experts_of(4, 2))
    x = torch.randn(2, 3, 14)
    torch.testing.assert_close(torch.compile(layer, backend="eager")(x), layer(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the GPU path is not tested here")
@pytest.mark.parametrize("dtype, width", [(torch.float32, 16), (torch.bfloat16, 16), (torch.float32, 9)])
def test_cuda_agrees_with_cpu(dtype, width):
    experts, router = experts_of(5, 2, width, width), SoftmaxRouter(width, 5, 2)
    x = torch.randn(40, width)
    routing = router(x)
    y = experts.clear_forward(x, routing)
    expected = (y, *torch.autograd.grad(y.square().sum(), [experts.gate_up, experts.down]))
    experts.to("cuda", dtype)
    on_gpu = Routing(*(part.detach().cuda() for part in routing))
    y = experts(x.to("cuda", dtype), on_gpu)
    got = (y, *torch.autograd.grad(y.square().sum(), [experts.gate_up, experts.down]))
    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    for mine, other in zip(got, expected):
        assert (mine.float().cpu() - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("n_tokens", [300, 1000])
def test_visits_are_rounded_up_without_effect(n_tokens):
    """Many tokens and a lopsided router: shapes repeat on a CPU, values and gradients stay those of the loop."""
    torch.manual_seed(0)
    experts = Experts(4, 2, 12, 10)
    experts.init_weights(0.3, 0.3)
    logits = torch.randn(n_tokens, 4) + torch.tensor([2.0, 0.5, 0.0, -9.0])
    weights, chosen = logits.softmax(-1).topk(2, dim=-1)
    routing = Routing(weights.requires_grad_(), chosen, logits)
    x = torch.randn(n_tokens, 12, requires_grad=True)
    assert visits_rounding(n_tokens * 2 / 4) > 1
    results = []
    for forward in (experts.forward, experts.clear_forward):
        y = forward(x, routing)
        results.append((y, *torch.autograd.grad(y.square().sum(), (x, weights, experts.gate_up, experts.down))))
    for mine, clear in zip(*results):
        torch.testing.assert_close(mine, clear, atol=1e-4, rtol=1e-4)

    order = chosen.flatten().argsort(stable=True)
    ends = torch.bincount(chosen.flatten(), minlength=4).cumsum(0)
    visits, real, new_ends = round_up_visits(order, ends, 16)
    assert torch.equal(visits[real], order) and len(visits) == int(new_ends[-1])
    assert (new_ends % 16 == 0).all()
    assert torch.equal(chosen.flatten()[visits], torch.repeat_interleave(new_ends.diff(prepend=torch.zeros(1, dtype=int))))
