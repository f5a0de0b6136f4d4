"""Memory of a training step: counted from the model, against what the allocator gives out."""

import pytest
import torch
from support.tiny_configs import TINY
from torch.profiler import ProfilerActivity, profile

from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.peft import (
    IA3Config,
    LoRAConfig,
    PrefixTuned,
    WaveFTConfig,
    inject,
    quantize_base,
    training_memory,
)
from scratch_llm.peft.nf4 import dynamic_table, nf4_table

CONFIG = LlamaConfig(vocab_size=301, context_length=64, n_layers=3, n_heads=4, n_kv_heads=2, d_model=64, d_ff=96)
TOKENS = torch.randint(1, 301, (4, 64), generator=torch.Generator().manual_seed(0))


def qlora(model):
    inject(quantize_base(model), LoRAConfig(rank=4, targets="all-linear"))
    return model


def with_adapter(config):
    def prepare(model):
        inject(model, config)
        return model

    return prepare


METHODS = {
    "full": lambda model: model,
    "lora": with_adapter(LoRAConfig(rank=4, targets="all-linear")),
    "dora": with_adapter(LoRAConfig(rank=4, dora=True, targets="all-linear")),
    "waveft": with_adapter(WaveFTConfig(n_coefficients=60)),
    "ia3": with_adapter(IA3Config()),
    "prefix": lambda model: PrefixTuned(model, 4),
    "qlora": qlora,
}


def allocated(work):
    """Bytes that are there after ``work`` and were not before, as torch's allocator reports them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = work()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    return sum(event.nbytes() for event in events), result


@pytest.mark.parametrize("method", METHODS)
def test_counts_are_what_the_allocator_gives_out(method):
    tokens = TOKENS[:, :60]
    model = METHODS[method](build_model(CONFIG, seed=0)).train()
    memory = training_memory(model, tokens, tokens)
    model(tokens, targets=tokens).backward()  # what is made once and kept
    model.zero_grad()

    activations, loss = allocated(lambda: model(tokens, targets=tokens))
    assert activations == pytest.approx(memory.activations, rel=0.01)
    loss.backward()
    del loss
    grads = sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None)
    assert grads == memory.gradients
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    states, _ = allocated(optimizer.step)
    assert states == pytest.approx(memory.optimizer, rel=0.02)
    assert memory.total == memory.frozen + memory.trained + memory.gradients + memory.optimizer + memory.activations


def test_methods_save_where_they_should():
    memory = {name: training_memory(prepare(build_model(CONFIG, seed=0)), TOKENS[:, :60], TOKENS[:, :60]) for name, prepare in METHODS.items()}
    assert all(memory[name].trained < memory["full"].trained / 4 for name in METHODS if name != "full")
    assert memory["qlora"].frozen < memory["lora"].frozen * 0.5  # the embedding stays
    assert memory["qlora"].trained == memory["lora"].trained
    # The point of the week: adapters save hardly any activations, and DoRA needs more of them than LoRA.
    assert memory["lora"].activations > 0.9 * memory["full"].activations
    assert memory["dora"].activations > 1.1 * memory["lora"].activations


@pytest.mark.parametrize("name", ["llama", "llama-untied-mqa", "gpt2", "qwen3"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_shapes_without_memory_count_the_same_weights(name, method):
    real = training_memory(METHODS[method](build_model(TINY[name], seed=0)))
    with torch.device("meta"):
        model = METHODS[method](build_model(TINY[name]))
    counted = training_memory(model, torch.zeros(2, 16, dtype=torch.long, device="meta"))
    assert (counted.frozen, counted.trained, counted.optimizer) == (real.frozen, real.trained, real.optimizer)
    assert counted.activations > 0


def test_a_model_of_seven_billion_weights_in_four_bits():
    """QLoRA's point (Dettmers et al. 2023, section 3): 4.127 bits a weight with double quantisation."""
    config = LlamaConfig(vocab_size=32000, context_length=512, n_layers=32, n_heads=32, n_kv_heads=32, d_model=4096, d_ff=11008, tie_embeddings=False)
    with torch.device("meta"):
        model = build_model(config).bfloat16()
    plain = training_memory(model)
    assert plain.trained == pytest.approx(2 * 6.74e9, rel=0.01)
    model = qlora(model)
    memory = training_memory(model, torch.zeros(1, 512, dtype=torch.long, device="meta"))
    matrices = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert memory.frozen == pytest.approx(matrices * 4.127 / 8 + 2 * 2 * 32000 * 4096, rel=0.01)
    assert memory.trained == 4 * 4 * 32 * (4 * (4096 + 4096) + 3 * (4096 + 11008))  # rank 4, float32
    assert memory.total < plain.total / 5


def test_counting_on_shapes_first_leaves_the_tables_of_four_bits_real():
    """They are made once for all, whoever asks first."""
    nf4_table.cache_clear()
    dynamic_table.cache_clear()
    with torch.device("meta"):
        qlora(build_model(CONFIG))
    real = qlora(build_model(CONFIG, seed=0))
    assert real(TOKENS[:, :8]).isfinite().all() and not nf4_table().is_meta and not dynamic_table().is_meta


def test_training_mode_is_left_as_it_was():
    model = build_model(CONFIG, seed=0).eval()
    training_memory(model, TOKENS[:, :8], TOKENS[:, :8])
    assert not model.training
