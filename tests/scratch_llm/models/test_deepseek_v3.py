"""DeepSeek-V3: parity with transformers, the compressed cache, balance without a loss, counting, errors."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.experts import check_active_parameters_and_flops
from support.parity import ParityTests, batch, by_expert, spread_out

from scratch_llm.layers.rope_scaling import YarnScaling
from scratch_llm.models import (
    MODELS,
    DeepseekV3,
    DeepseekV3Config,
    build_model,
    deepseek_v3_preset,
    load_model,
)

CONFIGS = {
    "q-latent-groups": DeepseekV3Config(
        vocab_size=97, context_length=40, n_layers=3, n_heads=3, d_model=33, d_ff=37, q_lora_rank=11, kv_lora_rank=9,
        qk_nope_head_dim=7, qk_rope_head_dim=6, v_head_dim=5, n_dense_layers=1, n_experts=12, n_experts_per_token=3,
        n_shared_experts=2, expert_d_ff=13, n_groups=4, n_groups_per_token=2, routed_scaling_factor=2.5,
    ),
    "no-q-latent-tied": DeepseekV3Config(
        vocab_size=101, context_length=40, n_layers=2, n_heads=4, d_model=30, q_lora_rank=None, kv_lora_rank=40,
        qk_nope_head_dim=5, qk_rope_head_dim=4, v_head_dim=9, n_experts=5, n_experts_per_token=2, expert_d_ff=11,
        norm_topk_prob=False, tie_embeddings=True, norm_eps=1e-4, rope_theta=500.0, bos_token_id=1, eos_token_id=(2, 3),
        pad_token_id=0,
    ),
    "yarn-halves": DeepseekV3Config(
        vocab_size=53, context_length=40, n_layers=2, n_heads=2, d_model=24, d_ff=29, q_lora_rank=10, kv_lora_rank=12,
        qk_nope_head_dim=8, qk_rope_head_dim=10, v_head_dim=6, n_dense_layers=1, n_experts=6, n_experts_per_token=2,
        expert_d_ff=7, n_groups=3, n_groups_per_token=1, rope_interleave=False,
        rope_scaling=YarnScaling(factor=4.0, original_context_length=10, mscale=1.0, mscale_all_dim=0.7),
    ),
}  # fmt: skip
LOOP = {"experts_implementation": "eager"}


def spread_out_with_bias(model):
    """The router's bias is no parameter, but it decides."""
    spread_out(model)
    for block in model.blocks:
        if hasattr(block.mlp, "router"):
            block.mlp.router.bias.normal_(0.0, 0.2)
    return model


class TestParity(ParityTests):
    CONFIGS = CONFIGS
    REFERENCE_OPTIONS = LOOP

    def spread_out(self, model):
        return spread_out_with_bias(model)

    def reference_grads(self, theirs):
        return by_expert(super().reference_grads(theirs))


def by_layer_bias(model):
    return {name: buffer.clone() for name, buffer in model.named_buffers() if name.endswith("router.bias")}


def test_loads_are_counted_without_padding_and_move_the_bias():
    model = spread_out_with_bias(build_model(CONFIGS["q-latent-groups"], seed=0))
    tokens, real = batch(model.config, True)
    before = by_layer_bias(model)
    assert len(before) == 2
    model(tokens, padding_mask=real, targets=tokens)
    assert not any(block.mlp.router.loads.any() for block in model.blocks[1:]), "evaluation is not counted"
    model.train()
    model(tokens, padding_mask=real, targets=tokens).backward()
    loads = [block.mlp.router.loads.clone() for block in model.blocks[1:]]
    assert [load.sum().item() for load in loads] == [real.sum().item() * 3] * 2
    model(tokens[:1], targets=tokens[:1])
    assert model.blocks[1].mlp.router.loads.sum() == (real.sum() + 23) * 3, "micro-batches add up"
    total = [block.mlp.router.loads.clone() for block in model.blocks[1:]]
    model.update_router_biases(0.25)
    for load, (name, old) in zip(total, before.items()):
        new = model.get_buffer(name)
        assert torch.equal(new - old > 0, load < load.mean()) and torch.equal(new - old < 0, load > load.mean())
        torch.testing.assert_close((new - old).abs()[load != load.mean()], torch.full((12,), 0.25)[load != load.mean()])
    assert not any(block.mlp.router.loads.any() for block in model.blocks[1:])


def test_the_bias_evens_out_the_load():
    """Only the bias is updated, as between steps of a training with rate 0: the busiest expert gets less to do."""
    model = spread_out(build_model(CONFIGS["no-q-latent-tied"], seed=0)).train()
    tokens = torch.randint(0, 101, (8, 40))

    def busiest() -> float:
        model(tokens, targets=tokens)
        loads = model.blocks[1].mlp.router.loads
        return float(loads.max() / loads.mean())

    first = busiest()
    for _ in range(60):
        model.update_router_biases(0.02)
        last = busiest()
    assert first > 1.3 and last < 1.12


def test_the_bias_stays_in_float32(tmp_path):
    model = spread_out_with_bias(build_model(CONFIGS["q-latent-groups"], seed=0))
    bias = by_layer_bias(model)
    model.save_pretrained(tmp_path, dtype=torch.bfloat16)
    for other in (load_model(tmp_path), load_model(tmp_path, dtype=torch.bfloat16), model.bfloat16()):
        assert other.dtype == torch.bfloat16
        for name, buffer in bias.items():
            assert other.get_buffer(name).dtype == torch.float32
            assert torch.equal(other.get_buffer(name), buffer)


def test_cache_holds_latents_alone():
    """Per token and layer kv_lora_rank + rope numbers, however many heads there are (DeepSeek-V2, table 1)."""
    for config in CONFIGS.values():
        per_token = 4 * config.n_layers * (config.kv_lora_rank + config.qk_rope_head_dim)
        assert build_model(config).init_cache(2, 17).n_bytes() == 2 * 17 * per_token
    large = deepseek_v3_preset("671B")
    with torch.device("meta"):
        model = DeepseekV3(dataclasses.replace(large, n_layers=1, n_dense_layers=1))
        grouped = 2 * 8 * 128  # keys and values of 8 heads of 128, a usual grouped-query model of this width
        latent = model.init_cache(1, 100, dtype=torch.bfloat16).n_bytes() / 200
    assert latent == 512 + 64 and grouped / latent > 3.5


@pytest.mark.parametrize("name", CONFIGS)
def test_active_parameters_and_flops(name, monkeypatch):
    config = CONFIGS[name]
    check_active_parameters_and_flops(build_model(config), config.n_layers - config.n_dense_layers, monkeypatch)


def test_presets():
    with torch.device("meta"):
        model = DeepseekV3(deepseek_v3_preset("671B"))
    assert (model.n_parameters(), model.n_parameters(active=True)) == (671_026_404_352, 37_552_282_624)
    tiny = build_model(deepseek_v3_preset("tiny", n_layers=2, vocab_size=61), seed=0)
    assert tiny.config.n_layers == 2 and tiny(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, 61)
    with pytest.raises(ValueError, match="size '7B' is no known DeepSeek-V3: use one of 671B, tiny"):
        deepseek_v3_preset("7B")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_experts_per_token": 13}, "n_experts_per_token is 13: it must be from 1 to n_experts, 12"),
        ({"n_experts_per_token": 7}, r"n_experts_per_token is 7: the 2 groups .* have only 6 experts"),
        ({"n_groups": 5}, "n_groups is 5: it must divide n_experts, 12"),
        ({"n_groups": 12}, "n_groups is 12 of 12 experts: a group is judged by its best two, so choose at most 6"),
        ({"n_groups_per_token": 5}, "n_groups_per_token is 5: it must be from 1 to n_groups, 4"),
        ({"n_dense_layers": 4}, "n_dense_layers is 4: it must be from 0 to n_layers, 3"),
        ({"n_kv_heads": 1}, "n_kv_heads is 1: latent attention has no groups, so it must be n_heads, 3"),
        ({"q_lora_rank": 0}, "q_lora_rank is 0: it must be a whole number of at least 1"),
        ({"kv_lora_rank": 0}, "kv_lora_rank is 0"),
        ({"qk_rope_head_dim": 5}, r"head_dim is 5.*even"),
        ({"routed_scaling_factor": 0.0}, "routed_scaling_factor is 0.0: it must be above 0"),
    ],
)
def test_impossible_configurations(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        dataclasses.replace(CONFIGS["q-latent-groups"], **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"attention_bias": True}, "attention_bias = True"),
        ({"scoring_func": "softmax"}, "scoring_func = 'softmax'"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
    ],
)
def test_checkpoints_we_do_not_have(changes, message):
    values = DeepseekV3.config_to_huggingface(CONFIGS["q-latent-groups"])
    assert DeepseekV3.config_from_huggingface(values) == CONFIGS["q-latent-groups"]
    with pytest.raises(ValueError, match=message):
        DeepseekV3.config_from_huggingface(values | changes)


def test_registered():
    assert MODELS["deepseek_v3"] is DeepseekV3
