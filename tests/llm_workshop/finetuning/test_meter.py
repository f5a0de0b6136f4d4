"""The meter of training steps: bytes of live tensors by the moment, and what a step leaves as it was."""

import gc

import pytest
import torch
from torch import nn

from llm_workshop.finetuning.meter import LiveMemory, measure_step
from scratch_llm.finetuning import Classifier
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.peft import training_memory

CONFIG = LlamaConfig(vocab_size=61, context_length=32, n_layers=2, n_heads=4, n_kv_heads=2, d_model=32, d_ff=48)
BATCH = torch.randint(1, 61, (6, 20), generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 0, 1, 2])


def test_tensors_count_while_they_live_and_views_do_not():
    before = torch.zeros(100)
    with LiveMemory() as live:
        a = torch.ones(1000)  # 4,000 bytes
        view = a.view(10, 100)[3:]
        assert live.now == 4000
        b = a * 2
        assert live.now == live.peak == 8000
        before.add_(1)  # in place: nothing new
        before.view(10, 10)
        assert live.now == 8000
        del a
        assert live.now == 8000, "the view holds it"
        del view
        gc.collect()
        assert live.now == 4000 and live.peak == 8000
        del b
        assert live.now == 0
        c = torch.empty(10, dtype=torch.float64)
        assert live.now == 80
        del c


def test_memory_that_comes_back_at_the_same_address_counts_again():
    with LiveMemory() as live:
        for _ in range(20):
            x = torch.ones(5000)
            assert live.now == 20000
            del x
    assert live.peak == 20000


def test_a_linear_layers_step_by_hand():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 32, bias=False)

        def forward(self, inputs, targets):
            return (self.linear(inputs * 2) - targets).square().mean()

    cost = measure_step(Model(), (torch.randn(50, 64), torch.randn(50, 32)), rounds=3)
    weights = 64 * 32 * 4
    assert cost.weights == cost.gradients == weights
    assert cost.optimizer == pytest.approx(2 * weights, abs=16)  # and the number of the step
    assert cost.activations == pytest.approx(50 * 64 * 4 + 50 * 32 * 4, abs=16)  # the doubled input, the difference
    assert cost.peak >= cost.weights + cost.optimizer + cost.activations
    assert cost.seconds > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_classifiers_step_takes_what_was_counted_and_changes_nothing(dtype):
    classifier = Classifier(build_model(CONFIG, seed=0), 3)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        counted = training_memory(classifier, *BATCH)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    cost = measure_step(classifier, BATCH, dtype, rounds=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert cost.activations == pytest.approx(counted.activations, rel=0.01)
    assert cost.gradients == counted.gradients and cost.weights == counted.frozen + counted.trained
    assert cost.optimizer == pytest.approx(counted.optimizer, rel=0.01)
    # Gradients come while activations go: the highest moment lies below the sum, but for what kernels pass on.
    assert 0.8 * counted.total < cost.peak < 1.15 * counted.total


def test_backward_reaches_the_highest_moment_of_many_weights():
    big = LlamaConfig(vocab_size=61, context_length=32, n_layers=1, n_heads=2, n_kv_heads=2, d_model=64, d_ff=512)
    cost = measure_step(Classifier(build_model(big, seed=0), 3), (BATCH[0][:1, :4], BATCH[1][:1]), rounds=1)
    assert cost.peak > cost.weights + cost.optimizer + cost.gradients
