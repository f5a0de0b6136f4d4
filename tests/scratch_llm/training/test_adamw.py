"""AdamW from scratch against torch's, step by step; the formula against a calculation by hand."""

from __future__ import annotations

import math

import pytest
import torch

from scratch_llm.training import AdamW, parameter_groups


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in ((7, 5), (11,), (3, 2, 4))]


def run(optimizer_class, steps=25, **options):
    """The parameters after every step, with gradients that are the same for every optimiser."""
    weights = parameters()
    optimizer = optimizer_class(
        [{"params": weights[:1], "weight_decay": 0.3}, {"params": weights[1:]}], lr=1e-2, weight_decay=0.1, **options)
    generator = torch.Generator().manual_seed(1)
    history = []
    for step in range(steps):
        for weight in weights:
            scale = 10.0 ** torch.randint(-6, 3, (1,), generator=generator)
            weight.grad = torch.randn(weight.shape, generator=generator) * scale
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (step + 1)
        optimizer.step()
        history.append([weight.detach().clone() for weight in weights])
    return history


@pytest.mark.parametrize("betas, eps", [((0.9, 0.999), 1e-8), ((0.9, 0.95), 1e-6), ((0.0, 0.5), 1e-8)])
def test_bit_equal_to_torch_at_every_step(betas, eps):
    ours = run(AdamW, betas=betas, eps=eps)
    theirs = run(torch.optim.AdamW, betas=betas, eps=eps, foreach=False)
    for step, (a, b) in enumerate(zip(ours, theirs)):
        for mine, other in zip(a, b):
            assert torch.equal(mine, other), f"differs after step {step + 1}"


def test_equal_to_the_fused_kernel_that_training_runs():
    for a, b in zip(run(AdamW, betas=(0.9, 0.95)), run(torch.optim.AdamW, betas=(0.9, 0.95), fused=True)):
        for mine, other in zip(a, b):
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_first_two_steps_by_hand():
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = AdamW([weight], lr=0.1, betas=(0.9, 0.99), eps=0.0, weight_decay=0.5)
    weight.grad = torch.tensor([3.0], dtype=torch.float64)
    optimizer.step()
    # Step 1: the corrected means are g and g^2, so the step is lr * sign(g), after decay by lr * wd.
    assert weight.item() == pytest.approx(2.0 * 0.95 - 0.1, abs=1e-12)
    before = weight.item()
    weight.grad = torch.tensor([-1.0], dtype=torch.float64)
    optimizer.step()
    m = (0.9 * 0.1 * 3.0 - 0.1 * 1.0) / (1 - 0.9**2)
    v = (0.99 * 0.01 * 9.0 + 0.01 * 1.0) / (1 - 0.99**2)
    assert weight.item() == pytest.approx(before * 0.95 - 0.1 * m / math.sqrt(v), abs=1e-12)


def test_parameters_without_gradient_stay():
    kept, moved = parameters()[:2]
    before = kept.detach().clone()
    moved.grad = torch.ones_like(moved)
    AdamW([kept, moved]).step()
    assert torch.equal(kept, before)


def test_closure_is_called_with_gradients_on():
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = AdamW([weight], lr=0.1, weight_decay=0.0)

    def closure():
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    assert weight.item() == pytest.approx(0.9, abs=1e-6)


def test_groups_decay_matrices_only(tiny):
    model = tiny()
    decayed, kept = parameter_groups(model, 0.1)
    assert {p.dim() for p in decayed["params"]} == {2} and {p.dim() for p in kept["params"]} == {1}
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("options, message", [
    ({"lr": -1.0}, "must not be negative"), ({"betas": (1.0, 0.9)}, "below 1"), ({"weight_decay": -0.1}, "negative")])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        AdamW(parameters(), **options)
