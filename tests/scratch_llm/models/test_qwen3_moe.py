"""Qwen3 with experts: parity with transformers, the balance loss, counting, errors."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.experts import check_active_parameters_and_flops
from support.parity import ParityTests, batch, by_expert, positions, reference_of, spread_out

from scratch_llm.layers.mixture_of_experts import Experts
from scratch_llm.models import MODELS, Qwen3Moe, Qwen3MoeConfig, build_model
from scratch_llm.models.qwen3_moe import qwen3_moe_preset

CONFIGS = {
    "tied": Qwen3MoeConfig(
        vocab_size=97, context_length=40, n_layers=2, n_heads=4, n_kv_heads=2, d_model=32, head_dim=10,
        n_experts=5, n_experts_per_token=2, expert_d_ff=13,
    ),
    "untied-dense-layers": Qwen3MoeConfig(
        vocab_size=101, context_length=40, n_layers=5, n_heads=3, n_kv_heads=1, d_model=33, head_dim=14, d_ff=37,
        n_experts=7, n_experts_per_token=3, expert_d_ff=9, norm_topk_prob=False, sparse_step=2, dense_layers=(3,),
        rope_theta=500.0, tie_embeddings=False, balance_loss=True, balance_loss_coef=0.3,
    ),
    "many-experts": Qwen3MoeConfig(
        vocab_size=53, context_length=40, n_layers=1, n_heads=2, d_model=20, n_experts=31, n_experts_per_token=1,
        expert_d_ff=5, bos_token_id=1, eos_token_id=(2, 3), pad_token_id=0,
    ),
}  # fmt: skip


# transformers' default, the grouped product, takes no widths that are not multiples of 16 bytes.
LOOP = {"experts_implementation": "eager"}


class TestParity(ParityTests):
    CONFIGS = CONFIGS
    REFERENCE_OPTIONS = LOOP

    def reference_grads(self, theirs):
        return by_expert(super().reference_grads(theirs))

    def reference_tokens(self, theirs, *arguments):
        # With it transformers 5.23 computes the balance loss of a step with the mask of the whole text, and fails.
        theirs.config.output_router_logits = False
        return super().reference_tokens(theirs, *arguments)


@pytest.mark.parametrize("padded", [False, True], ids=["full", "left-padded"])
def test_training_loss_with_balance_is_theirs(padded, tmp_path):
    config = CONFIGS["untied-dense-layers"]
    ours = spread_out(build_model(config, seed=0))
    theirs = reference_of(ours, tmp_path, **LOOP)
    tokens, real = batch(config, padded)
    # The first real token would be predicted from padding, where the two models may differ.
    labels = tokens.masked_fill(~(real & real.roll(1, 1)), -100)
    result = theirs(tokens, attention_mask=real.long(), position_ids=positions(real), labels=labels)
    result.loss.backward()
    assert result.aux_loss > 3.0

    targets = torch.cat((labels[:, 1:], torch.full((3, 1), -100)), dim=1)
    mask = real if padded else None
    evaluation_loss = ours(tokens, padding_mask=mask, targets=targets)
    torch.testing.assert_close(evaluation_loss, result.loss - 0.3 * result.aux_loss, atol=1e-5, rtol=1e-5)
    loss = ours.train()(tokens, padding_mask=mask, targets=targets)
    torch.testing.assert_close(loss, result.loss, atol=1e-5, rtol=1e-5)
    loss.backward()
    grad, mine = theirs.model.layers[1].mlp.gate.weight.grad, ours.blocks[1].mlp.router.gate.weight.grad
    assert (mine - grad).abs().max() <= 1e-5 * max(1, grad.abs().max())
    quiet = build_model(dataclasses.replace(config, balance_loss=False))
    quiet.load_state_dict(ours.state_dict())
    torch.testing.assert_close(quiet.train()(tokens, padding_mask=mask, targets=targets), evaluation_loss)


def test_which_layers_have_experts():
    model = build_model(CONFIGS["untied-dense-layers"])
    assert [hasattr(block.mlp, "experts") for block in model.blocks] == [False, True, False, False, False]


@pytest.mark.parametrize("name", CONFIGS)
def test_active_parameters_and_flops(name, monkeypatch):
    config = CONFIGS[name]
    check_active_parameters_and_flops(build_model(config), sum(config.has_experts(layer) for layer in range(config.n_layers)), monkeypatch)


@pytest.mark.parametrize(
    "size, total, active",
    [("30B-A3B", 30_532_122_624, 3_353_032_704), ("235B-A22B", 235_093_634_560, 22_190_763_520)],
)
def test_presets_have_the_sizes_in_their_names(size, total, active):
    with torch.device("meta"):
        model = Qwen3Moe(qwen3_moe_preset(size))
    assert (model.n_parameters(), model.n_parameters(active=True)) == (total, active)
    assert qwen3_moe_preset(size, n_layers=2).n_layers == 2
    with pytest.raises(ValueError, match="size '7B' is no known Qwen3 MoE: use one of 30B-A3B, 235B-A22B"):
        qwen3_moe_preset("7B")


def test_clear_and_fast_paths_give_the_same_model(monkeypatch):
    model = spread_out(build_model(CONFIGS["tied"], seed=0))
    tokens, _ = batch(model.config, False)
    model(tokens, targets=tokens).backward()
    fast = {name: p.grad.clone() for name, p in model.named_parameters()}
    logits = model(tokens)
    model.zero_grad()
    monkeypatch.setattr(Experts, "forward", Experts.clear_forward)
    torch.testing.assert_close(model(tokens), logits, atol=1e-5, rtol=1e-5)
    model(tokens, targets=tokens).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(fast[name], parameter.grad, atol=1e-5, rtol=1e-5)


def test_initialisation_of_experts():
    config = dataclasses.replace(CONFIGS["tied"], d_model=128, expert_d_ff=96, n_layers=8, init_std=0.03)
    model = build_model(config, seed=0)
    for block in model.blocks:
        assert block.mlp.experts.gate_up.std().item() == pytest.approx(0.03, rel=0.03)
        assert block.mlp.experts.down.std().item() == pytest.approx(0.03 / 4, rel=0.03)
        assert block.mlp.router.gate.weight.std().item() == pytest.approx(0.03, rel=0.1)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_experts_per_token": 6}, "n_experts_per_token is 6: it must be from 1 to n_experts, 5"),
        ({"n_experts": 0}, "n_experts is 0: it must be a whole number of at least 1"),
        ({"expert_d_ff": 1.5}, "expert_d_ff is 1.5"),
        ({"sparse_step": 0}, "sparse_step is 0"),
        ({"dense_layers": (2,)}, r"dense_layers has 2: it must be in 0\.\.1"),
        ({"balance_loss_coef": -1.0}, "balance_loss_coef is -1.0: it must be at least 0"),
    ],
)
def test_impossible_configurations(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        dataclasses.replace(CONFIGS["tied"], **changes)
    assert "\n" not in str(caught.value)


def test_registered():
    assert MODELS["qwen3_moe"] is Qwen3Moe
    assert type(build_model(CONFIGS["tied"])) is Qwen3Moe


def test_sliding_window_is_refused():
    values = Qwen3Moe.config_to_huggingface(CONFIGS["tied"])
    with pytest.raises(ValueError, match="use_sliding_window = True"):
        Qwen3Moe.config_from_huggingface(values | {"use_sliding_window": True})
