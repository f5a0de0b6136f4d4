"""What a module keeps for its backward pass, where the figure is known."""

from __future__ import annotations

import torch
from support.tiny_configs import TINY
from torch import nn

from scratch_llm.analysis import count_activations, saved_bytes
from scratch_llm.models import build_model


def test_saved_bytes_are_what_backward_needs():
    x = torch.randn(8, 16, requires_grad=True)
    # A product keeps its input; the weight is there anyway.
    assert saved_bytes(nn.Linear(16, 4), x) == 8 * 16 * 4
    assert saved_bytes(nn.Sequential(nn.Linear(16, 4), nn.Softmax(-1)), x) == (8 * 16 + 8 * 4) * 4
    with torch.no_grad():
        assert saved_bytes(nn.Linear(16, 4), x) == 0


def test_a_tensor_that_two_operations_keep_counts_once_and_a_dropped_branch_not_at_all():
    x = torch.randn(8, 16, requires_grad=True)

    class Branches(nn.Module):
        def forward(self, x):
            x.exp().sin()  # nobody keeps its result, and exp, which keeps its own output, goes too
            return x * x + x.square()

    assert saved_bytes(Branches(), x) == 8 * 16 * 4


def test_a_language_model_keeps_what_the_count_says():
    """But for the loss: ``count_activations`` counts a training step."""
    model, tokens = build_model(TINY["llama"], seed=0).train(), torch.zeros(2, 9, dtype=torch.long)
    logits = saved_bytes(model, tokens)
    assert 0 < logits < count_activations(model, 2, 9).total
