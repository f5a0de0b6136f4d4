"""Adafactor from scratch: the first step by hand, twenty steps against torch's, and how little it keeps."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.training import Adafactor

SHAPES = ((7, 5), (11,), (3, 2, 4), (1, 6))


def run(optimizer_class, steps=20, **options):
    """The parameters after every step, with gradients that are the same for every optimiser."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    optimizer = optimizer_class([{"params": weights[:1], "weight_decay": 0.3}, {"params": weights[1:]}], **options)
    history = []
    for step in range(steps):
        for weight in weights:
            scale = 10.0 ** torch.randint(-6, 3, (1,), generator=generator)
            weight.grad = torch.randn(weight.shape, generator=generator) * scale
        for group in optimizer.param_groups:
            group["lr"] = 0.5 / (step + 1)
        optimizer.step()
        history.append([weight.detach().clone() for weight in weights])
    return history


def test_equals_torch_at_every_step():
    for a, b in zip(run(Adafactor, weight_decay=0.1), run(torch.optim.Adafactor, weight_decay=0.1)):
        for mine, other in zip(a, b):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_the_first_step_by_hand():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 3.0], [3.0, 3.0]], dtype=torch.float64))
    optimizer = Adafactor([weight], lr=0.1)
    weight.grad = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    optimizer.step()
    # beta is 0 at step 1.  G^2 = [[1, 4], [9, 36]] has rank one, so that V = G^2 exactly and U is 1 everywhere;
    # its root mean square is 1 and rms(W) = 3: the step is 3 * 0.1.
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 2.7, dtype=torch.float64))


def test_a_matrix_of_n_by_m_keeps_n_plus_m_numbers():
    weight = torch.nn.Parameter(torch.ones(40, 30))
    weight.grad = torch.ones(40, 30)
    optimizer = Adafactor([weight])
    optimizer.step()
    kept = sum(value.numel() for value in optimizer.state[weight].values() if torch.is_tensor(value))
    assert kept == 70


def test_parameters_without_gradient_stay():
    kept = torch.nn.Parameter(torch.ones(3, 2))
    Adafactor([kept]).step()
    assert torch.equal(kept, torch.ones(3, 2))


@pytest.mark.parametrize("options, message", [
    ({"lr": -1.0}, "must not be negative"), ({"decay_power": 0.0}, "decay_power 0.0 must be above 0"),
    ({"weight_decay": -0.1}, "must not be negative")])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Adafactor([torch.nn.Parameter(torch.ones(2))], **options)
