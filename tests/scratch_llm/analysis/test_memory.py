"""Memory: caches as they are allocated, activations as autograd saves them."""

from __future__ import annotations

import weakref

import pytest
import torch
from support.tiny_configs import TINY, resized
from torch.utils.checkpoint import checkpoint

from scratch_llm.analysis import (
    as_shapes,
    block_activation_bytes,
    cache_bytes,
    count_activations,
    kv_bytes_per_token,
    published_config,
    training_memory,
    weight_bytes,
)
from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.models import GPT2Config, LlamaConfig, build_model

# How far the count on the meta device may be from what a CPU's kernels keep: these repeat the key/value heads and keep
# only one half of the causal square.
PLAIN_TOLERANCE = 0.06


def saved_bytes(model, tokens) -> int:
    """Distinct storages that autograd saves in a training step, weights left out: an independent measurement."""
    kept, weights = [], {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), *model.buffers())}

    class Holder:
        def __init__(self, tensor):
            self.tensor = tensor
            kept.append(weakref.ref(self))

    with torch.autograd.graph.saved_tensors_hooks(Holder, lambda holder: holder.tensor):
        loss = model(tokens, targets=tokens)
    alive = [holder.tensor.untyped_storage() for reference in kept if (holder := reference()) is not None]
    storages = {storage.data_ptr(): storage.nbytes() for storage in alive}
    assert loss.requires_grad
    return sum(size for address, size in storages.items() if address not in weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TINY)
def test_cache_bytes_are_what_is_allocated(name, dtype):
    model = build_model(TINY[name], seed=0)
    for batch_size, length in ((1, 64), (3, 17)):
        real = model.init_cache(batch_size, length, dtype)
        assert cache_bytes(TINY[name], length, batch_size, dtype) == real.n_bytes()
        assert real.n_bytes() == sum(t.untyped_storage().nbytes() for t in real.tensors())
    assert cache_bytes(model) == cache_bytes(model, TINY[name].context_length)


def test_cache_bytes_by_formula():
    llama = published_config("Llama 3.1 8B")
    # 128 KiB per token: the figure for a 70B model with 80 layers is 320.
    assert kv_bytes_per_token(llama.n_layers, llama.n_kv_heads, llama.head_dim) == 128 * 1024
    assert cache_bytes(llama, 8192, 2) == 2 * 8192 * 128 * 1024
    assert cache_bytes(published_config("Llama 3.1 70B"), 1) == 320 * 1024


def test_weight_bytes():
    config = published_config("Llama 2 7B")
    assert weight_bytes(config) == 2 * 6_738_415_616
    assert weight_bytes(config, torch.float32) == 4 * 6_738_415_616
    assert weight_bytes(config, "int4") == 6_738_415_616 // 2
    with pytest.raises(ValueError, match="dtype 'int3' is unknown: use one of float32"):
        weight_bytes(config, "int3")


@pytest.mark.parametrize("dtype, size", [(torch.float32, 4), (torch.bfloat16, 2)])
@pytest.mark.parametrize("name", ["llama", "llama-untied-mqa", "gpt2", "gpt2-untied"])
def test_the_closed_form_is_the_count(name, dtype, size):
    config = TINY[name]
    for B, T in ((1, 64), (3, 20)):
        counted = count_activations(config, B, T, dtype=dtype)
        assert set(counted.blocks) == {B * T * block_activation_bytes(config, size)}
        assert set(counted.block_inputs) == {B * T * config.d_model * size}


def test_the_closed_form_agrees_with_korthikanti():
    D, H = 12288, 96
    config = GPT2Config(vocab_size=100, context_length=8, n_layers=1, n_heads=H, d_model=D)
    assert block_activation_bytes(config) == pytest.approx(32 * D, rel=0.002)
    with pytest.raises(ValueError, match="no closed form for Qwen3Config: use count_activations"):
        block_activation_bytes(TINY["qwen3"])


@pytest.mark.parametrize("name", ["llama", "llama-untied-mqa", "gpt2", "gpt2-untied", "qwen3"])
def test_fused_kernels_are_counted_to_the_byte(name, monkeypatch):
    """torch's fused attention for CPUs keeps what FlashAttention keeps, and norms are fused here as well: what a real step
    saves is what the count on the meta device says."""
    monkeypatch.setattr(GroupedQueryAttention, "_in_blocks", lambda *arguments: False)
    config = TINY[name]
    for B, T in ((2, 64), (1, 33)):
        real = saved_bytes(build_model(config, seed=0).train(), torch.randint(0, 61, (B, T)))
        assert count_activations(config, B, T).total == real


def test_half_the_width_is_counted_to_the_byte_too(monkeypatch):
    monkeypatch.setattr(GroupedQueryAttention, "_in_blocks", lambda *arguments: False)
    config, B, T = TINY["gpt2"], 2, 64
    real = saved_bytes(build_model(config, seed=0).bfloat16().train(), torch.randint(0, 61, (B, T)))
    # For LayerNorm's mean and deviation a CPU keeps the input's dtype, a GPU float32.
    statistics = 2 * (2 * config.n_layers + 1) * B * T * (4 - 2)
    assert count_activations(config, B, T, dtype=torch.bfloat16).total == real + statistics


@pytest.mark.parametrize("name", TINY)
def test_the_count_agrees_with_a_real_step(name):
    config = TINY[name]
    B, T = 3, 64
    model = build_model(config, seed=0).train()
    real = saved_bytes(model, torch.randint(0, 61, (B, T)))
    assert count_activations(model, B, T).total == real
    counted = count_activations(config, B, T, kernels="plain").total
    if name == "lstm":  # its kernel keeps a workspace that only the kernel itself knows of
        assert counted < real
    else:
        assert counted == pytest.approx(real, rel=PLAIN_TOLERANCE)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_checkpointing_keeps_the_inputs_of_blocks(name):
    config = resized(TINY[name], n_layers=5)
    model = build_model(config, seed=0).train()
    tokens = torch.randint(0, 61, (2, 64))
    counted = count_activations(model, 2, 64)
    for block in model.blocks:
        forward = block.forward
        block.forward = lambda *arguments, forward=forward: checkpoint(forward, *arguments, use_reentrant=False)
    kept = saved_bytes(model, tokens)
    # The rotary tables' rows go into every block as arguments: checkpoint keeps them, once for all blocks.
    assert kept == pytest.approx(sum(counted.block_inputs) + counted.outside, rel=0.1)
    once = max(counted.blocks) - counted.block_inputs[0]
    assert counted.with_checkpointing == sum(counted.block_inputs) + counted.outside + once
    assert counted.with_checkpointing < counted.total


def test_activations_grow_linearly_with_fused_and_squared_with_plain_attention():
    config = resized(TINY["llama"], context_length=4096)
    fused, plain = ([count_activations(config, 1, T, kernels=k).blocks[0] for T in (2048, 4096)] for k in ("fused", "plain"))
    assert fused[1] == 2 * fused[0]
    assert plain[1] > 3.5 * plain[0]


def test_training_memory_of_a_7b_model():
    config = published_config("Llama 2 7B")
    n = 6_738_415_616
    memory = training_memory(config, 1)
    assert memory.weights + memory.gradients + memory.optimizer == 16 * n
    assert memory.activations == count_activations(config, 1, dtype=torch.bfloat16).total
    assert memory.total == 16 * n + memory.activations
    assert training_memory(config, 1, checkpointing=True).activations < memory.activations / 5
    assert training_memory(config, 2).activations > 1.9 * memory.activations
    single = training_memory(config, 1, recipe="float32")
    assert (single.weights, single.gradients, single.optimizer) == (4 * n, 4 * n, 8 * n)
    assert single.activations > 1.9 * memory.activations
    lora = training_memory(config, 1, trainable=10_000_000)
    assert (lora.weights, lora.gradients, lora.optimizer) == (2 * n, 20_000_000, 120_000_000)


def test_errors_name_the_choice():
    config = TINY["llama"]
    with pytest.raises(ValueError, match="recipe 'fp8' is unknown: use one of float32, mixed, bfloat16"):
        training_memory(config, 1, recipe="fp8")
    with pytest.raises(ValueError, match="trainable is 0: it must be from 1"):
        training_memory(config, 1, trainable=0)
    with pytest.raises(ValueError, match="kernels 'quick' are unknown: use fused or plain"):
        count_activations(config, 1, kernels="quick")
    with pytest.raises(ValueError, match=r"the model is torch\.float32: give its configuration"):
        count_activations(build_model(config), 1, dtype=torch.bfloat16)


def test_counting_leaves_the_model_as_it_was():
    model = build_model(TINY["llama"], seed=0).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    count_activations(model, 1)
    assert not model.training and all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in model.blocks)
    shapes = as_shapes(LlamaConfig(vocab_size=10, context_length=8, n_layers=1, n_heads=1, d_model=8))
    assert count_activations(shapes, 1).total > 0
