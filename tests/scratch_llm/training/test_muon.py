"""Muon from scratch: its iteration against the singular value decomposition, its steps against torch's."""

from __future__ import annotations

import pytest
import torch
from support.tiny_configs import TINY

from scratch_llm.models import build_model
from scratch_llm.training.muon import Muon, muon_groups, orthogonalize

SHAPES = ((12, 7), (7, 12), (16, 16), (3, 5))


def weights(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def give_gradients(parameters, step):
    generator = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 10.0 ** (step % 4 - 3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_directions_stay_and_their_lengths_become_nearly_equal(shape, dtype):
    [matrix] = weights(shape)
    u, s, vt = torch.linalg.svd(matrix.detach(), full_matrices=False)
    inner = u.T @ orthogonalize(matrix.detach(), dtype).float() @ vt.T  # diagonal where the directions are the same
    assert s.max() / s.min() > 1.5
    assert (inner.diagonal() > 0.6).all() and (inner.diagonal() < 1.3).all()
    assert (inner - inner.diagonal().diag()).abs().max() < (1e-4 if dtype == torch.float32 else 0.08)


def test_by_hand_on_a_diagonal_matrix():
    """On a diagonal matrix the iteration is the polynomial on each number."""
    values = torch.tensor([0.6, 0.8])  # Frobenius norm 1
    expected = values.clone()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    torch.testing.assert_close(orthogonalize(values.diag(), torch.float32), expected.diag(), rtol=1e-5, atol=1e-6)


def test_a_stack_is_orthogonalised_one_by_one():
    [stack] = weights((4, 6, 9))
    together = orthogonalize(stack.detach(), torch.float32)
    for one, matrix in zip(together, stack.detach()):
        torch.testing.assert_close(one, orthogonalize(matrix, torch.float32))


def test_a_gradient_of_zero_moves_nothing_and_gives_no_nan():
    assert torch.equal(orthogonalize(torch.zeros(4, 3)), torch.zeros(4, 3, dtype=torch.bfloat16))


def test_equals_torch_muon_and_torch_adamw():
    """Over 20 steps of changing learning rates, bit for bit."""
    ours, theirs = weights(*SHAPES, (30, 8), (5,)), weights(*SHAPES, (30, 8), (5,))
    muon = Muon([{"params": ours[:4], "muon": True}, {"params": ours[4:5], "muon": False},
                 {"params": ours[5:], "muon": False, "weight_decay": 0.0}], weight_decay=0.2, betas=(0.9, 0.95))
    reference = [torch.optim.Muon(theirs[:4], weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
                 torch.optim.AdamW([{"params": theirs[4:5]}, {"params": theirs[5:], "weight_decay": 0.0}],
                                   weight_decay=0.2, betas=(0.9, 0.95), fused=True)]
    for step in range(20):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        for optimizer in (muon, *reference):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 / (step + 1)
            optimizer.step()
        for mine, other in zip(ours, theirs):
            assert torch.equal(mine, other)


def test_float32_iteration_equals_torch_where_torch_too_computes_in_float32(monkeypatch):
    """torch's casts to bfloat16; with that cast taken away the two agree to rounding."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.float())
    ours, theirs = weights(*SHAPES), weights(*SHAPES)
    muon = Muon([{"params": ours, "muon": True}], lr=1e-2, weight_decay=0.1, dtype=torch.float32)
    reference = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(10):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        muon.step()
        reference.step()
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_saved_and_loaded_it_goes_on_with_the_same_bits():
    def make():
        parameters = weights((6, 9), (4,))
        return parameters, Muon([{"params": parameters[:1], "muon": True}, {"params": parameters[1:], "muon": False}], lr=1e-2)

    whole, optimizer = make()
    cut, first = make()
    for step in range(6):
        if step == 3:
            state = first.state_dict()
            first = Muon([{"params": cut[:1], "muon": True}, {"params": cut[1:], "muon": False}], lr=1e-2)
            first.load_state_dict(state)
        for parameters, one in ((whole, optimizer), (cut, first)):
            give_gradients(parameters, step)
            one.step()
    for a, b in zip(whole, cut):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", TINY)
def test_groups_hold_every_weight_once_and_muon_only_hidden_matrices(name):
    model = build_model(TINY[name], seed=0)
    groups = muon_groups(model, 0.1)
    placed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(placed) == sorted(id(parameter) for parameter in model.parameters())
    [matrices] = [group["params"] for group in groups if group["muon"]]
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    vocab_size = TINY[name].vocab_size
    assert all(vocab_size not in parameter.shape for parameter in matrices), [names[id(p)] for p in matrices]
    assert all(min(parameter.shape[-2:]) > 1 for parameter in matrices)
    assert [group["weight_decay"] for group in groups if group["params"][0].dim() < 2] == [0.0]


@pytest.mark.parametrize("options, message", [
    ({"lr": -1.0}, "must not be negative"), ({"momentum": 1.0}, r"momentum 1.0 in \[0, 1\)"),
    ({"weight_decay": -1.0}, "must not be negative")])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Muon([{"params": weights((2, 2)), "muon": True}], **options)


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="Muon takes matrices; give vectors a group with muon=False"):
        Muon([{"params": weights((3,)), "muon": True}])
