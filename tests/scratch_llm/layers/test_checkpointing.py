"""Gradient checkpointing: equal losses, gradients and traces for the whole family, out of less memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from support.tiny_configs import TINY, resized
from torch import nn

from scratch_llm.analysis import saved_bytes
from scratch_llm.layers.checkpointing import checkpointed, clear_checkpoint, recomputing
from scratch_llm.models import build_model


def step_of(config, checkpointing: bool, *, dropout: float = 0.0, autocast: bool = False, **inputs):
    """Loss, gradients and buffers after one training step."""
    if dropout and hasattr(config, "dropout"):
        config = resized(config, dropout=dropout)
    model = build_model(config, seed=0).train()
    model.gradient_checkpointing = checkpointing
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, config.vocab_size, (3, 40), generator=generator)
    torch.manual_seed(7)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(tokens, targets=tokens.roll(-1, 1), **inputs)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return model, loss, gradients


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", TINY)
def test_loss_and_gradients_are_the_same_bits(name, autocast):
    options = {"dropout": 0.2, "autocast": autocast}
    (plain_model, plain_loss, plain), (model, loss, gradients) = (step_of(TINY[name], on, **options) for on in (False, True))
    assert torch.equal(loss, plain_loss)
    for key, gradient in plain.items():
        assert (gradient is None) == (gradients[key] is None), key
        assert gradient is None or torch.equal(gradients[key], gradient), key
    # What a step leaves behind, such as the loads of experts, is counted once.
    for (key, buffer), other in zip(plain_model.named_buffers(), model.buffers()):
        assert torch.equal(buffer, other), key
    assert all(getattr(module, "routing", None) is None for module in model.modules())


def test_dropout_is_not_drawn_anew():
    """Without the saved state of the generator this test would pass by chance only."""
    config = resized(TINY["gpt2"], dropout=0.5)
    losses = {step_of(config, on, dropout=0.5)[1].item() for on in (False, True)}
    assert len(losses) == 1
    torch.manual_seed(8)
    model = build_model(config, seed=0).train()
    assert model(torch.ones(1, 4, dtype=torch.long), targets=torch.ones(1, 4, dtype=torch.long)).item() not in losses


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "rwkv7", "mamba2"])
def test_with_padding(name):
    mask = torch.ones(3, 40, dtype=torch.bool)
    mask[1, 25:] = False
    results = [step_of(TINY[name], on, padding_mask=mask) for on in (False, True)]
    assert torch.equal(results[0][1], results[1][1])
    for key, gradient in results[0][2].items():
        assert gradient is None or torch.equal(results[1][2][key], gradient), key


@pytest.mark.parametrize("name", ["rwkv7", "mamba", "lstm"])
def test_the_state_goes_on_to_the_next_piece(name):
    """Two pieces of a text with one cache, both backward passes afterwards: the second run must not disturb the state."""
    results = []
    for on in (False, True):
        model = build_model(TINY[name], seed=0).train()
        model.gradient_checkpointing = on
        tokens = torch.randint(0, 61, (2, 24), generator=torch.Generator().manual_seed(1))
        cache = model.init_cache(2)
        losses = [model(piece, targets=piece, cache=cache) for piece in tokens.split(12, dim=1)]
        sum(losses).backward()
        results.append(([loss.item() for loss in losses], [state.clone() for state in cache.tensors()],
                        [parameter.grad for parameter in model.parameters()]))
    assert results[0][0] == results[1][0]
    for plain, other in zip(results[0][1] + results[0][2], results[1][1] + results[1][2]):
        assert (plain is None) == (other is None) and (plain is None or torch.equal(plain, other))


@pytest.mark.parametrize("name", [name for name in TINY if name != "lstm"])
def test_less_is_kept(name):
    fewer = {"qwen3_moe": {"dense_layers": ()}, "gemma3_text": {"layer_types": None}}.get(name, {})
    config = resized(TINY[name], n_layers=6, **fewer)
    tokens = torch.randint(0, 61, (4, 64))

    class Step(nn.Module):
        def __init__(self, on):
            super().__init__()
            self.model = build_model(config, seed=0).train()
            self.model.gradient_checkpointing = on

        def forward(self, tokens):
            return self.model(tokens, targets=tokens)

    kept = saved_bytes(Step(True), tokens)
    assert kept < 0.45 * saved_bytes(Step(False), tokens)
    # At least the inputs of the blocks.
    assert kept >= 6 * 4 * 64 * config.d_model * 4


def test_eval_and_decoding_run_as_ever():
    model = build_model(TINY["llama"], seed=0).train()
    model.gradient_checkpointing = True
    tokens = torch.randint(0, 61, (2, 9))
    cache = model.init_cache(2)
    whole = model(tokens)
    assert torch.allclose(model(tokens, cache=cache), whole, atol=1e-6) and cache.length == 9
    with torch.no_grad():
        assert torch.allclose(model(tokens), whole, atol=1e-6)
    assert torch.allclose(model.eval()(tokens), whole, atol=1e-6)


def test_the_clear_version_agrees():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Dropout(0.5), nn.Linear(12, 6))
    x = torch.randn(4, 6)
    results = []
    for run in (lambda f, x: f(x), clear_checkpoint, checkpointed):
        layer.zero_grad()
        given = x.clone().requires_grad_()
        torch.manual_seed(3)
        run(layer, given * 2).square().sum().backward()
        results.append([given.grad, *(parameter.grad.clone() for parameter in layer.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_an_error_in_the_second_run_does_not_stick():
    calls = []

    def block(x):
        calls.append(recomputing())
        if len(calls) == 2:
            raise RuntimeError("second run")
        return x.exp()

    with pytest.raises(RuntimeError, match="second run"):
        checkpointed(block, torch.ones(2, requires_grad=True)).sum().backward()
    assert calls == [False, True] and not recomputing()


MEASURE = """
import sys, torch
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.process_memory import peak_resident_bytes
torch.set_num_threads(1)
model = build_model(LlamaConfig(vocab_size=256, context_length=512, n_layers=8, n_heads=4, d_model=128), seed=0).train()
model.gradient_checkpointing = sys.argv[1] == "on"
tokens = torch.randint(0, 256, (1, 8))
model(tokens, targets=tokens).backward()
before = peak_resident_bytes()
tokens = torch.randint(0, 256, (8, 512))
model(tokens, targets=tokens).backward()
print(peak_resident_bytes() - before)
"""


def test_the_process_takes_less_memory():
    """Resident memory, as the system counts it, in processes of their own."""
    taken = [int(subprocess.run([sys.executable, "-c", MEASURE, on], capture_output=True, text=True, check=True,
                                env=os.environ | {"OMP_NUM_THREADS": "1"}).stdout) for on in ("off", "on")]
    assert taken[1] < 0.5 * taken[0], taken
