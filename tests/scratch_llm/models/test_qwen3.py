"""Qwen3 against transformers, and what is its own: norms of queries and keys, heads wider than d_model / n_heads."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.parity import ParityTests, check_bfloat16_error, reference_of, spread_out
from torch.utils.flop_counter import FlopCounterMode

from scratch_llm.layers import YarnScaling
from scratch_llm.models import Qwen3, Qwen3Config, build_model, load_model

transformers = pytest.importorskip("transformers")

# Odd on purpose: heads times their width is never d_model, d_model is not divisible by the number of heads.
CONFIGS = {
    "qwen3-gqa-tied": Qwen3Config(
        vocab_size=97, context_length=40, n_layers=2, n_heads=6, n_kv_heads=2, d_model=33, head_dim=14, d_ff=45,
    ),
    "qwen3-mha-untied": Qwen3Config(
        vocab_size=61, context_length=40, n_layers=3, n_heads=3, d_model=50, head_dim=10, d_ff=37, norm_eps=1e-4,
        rope_theta=300.0, tie_embeddings=False, bos_token_id=1, eos_token_id=(2, 3), pad_token_id=0,
    ),
    "qwen3-mqa-yarn": Qwen3Config(
        vocab_size=53, context_length=48, n_layers=2, n_heads=5, n_kv_heads=1, d_model=24, head_dim=16, d_ff=30,
        rope_theta=10_000.0, rope_scaling=YarnScaling(factor=4.0, original_context_length=12),
    ),
}  # fmt: skip


class TestParity(ParityTests):
    CONFIGS = CONFIGS


def model_of(name="qwen3-gqa-tied", **changes):
    return spread_out(build_model(dataclasses.replace(CONFIGS[name], **changes), seed=0))


def test_the_norms_make_scores_blind_to_the_size_of_the_projections():
    """What they are for (Dehghani et al. 2023): ten times the weights of queries and keys, the same attention."""
    model = model_of(norm_eps=1e-12)
    tokens = torch.arange(20)[None]
    before = model(tokens)
    attention = model.blocks[0].attention
    n_qk = (attention.n_heads + attention.n_kv_heads) * attention.head_dim
    with torch.no_grad():
        attention.qkv.weight[:n_qk] *= 10
    torch.testing.assert_close(model(tokens), before, atol=1e-5, rtol=1e-5)


def test_bfloat16_is_as_close_to_float32_as_the_reference(tmp_path):
    ours = model_of("qwen3-mha-untied")
    check_bfloat16_error(ours, reference_of(ours, tmp_path))


def test_flops_are_those_torch_counts():
    model = build_model(CONFIGS["qwen3-gqa-tied"]).to("meta")
    tokens = torch.zeros(2, 40, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(tokens)
    assert counter.get_total_flops() == 2 * 40 * model.flops_per_token(40, training=False)


@pytest.fixture
def values():
    return Qwen3.config_to_huggingface(CONFIGS["qwen3-gqa-tied"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu': only 'silu'"),
        ({"use_sliding_window": True}, "use_sliding_window = True: only False"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types with sliding_attention"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "rotary scaling of type 'longrope'"),
        ({"head_dim": 13}, "head_dim is 13"),
        ({"num_key_value_heads": 4}, "n_kv_heads is 4: it must divide n_heads, 6"),
    ],
)
def test_variants_we_do_not_have_are_named(values, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        Qwen3.config_from_huggingface(values | changes)
    assert "\n" not in str(caught.value)


def test_defaults_of_a_sparse_file_are_those_of_the_reference(values):
    """``config.json`` may leave out what the reference has defaults for."""
    for name in ("head_dim", "rms_norm_eps", "tie_word_embeddings", "attention_dropout"):
        del values[name]
    config, theirs = Qwen3.config_from_huggingface(values), transformers.Qwen3Config(**values)
    assert (config.head_dim, config.norm_eps) == (theirs.head_dim, theirs.rms_norm_eps)
    assert config.tie_embeddings == theirs.tie_word_embeddings


def test_from_pretrained(tmp_path):
    model = model_of()
    model.save_pretrained(tmp_path)
    assert isinstance(load_model(tmp_path), Qwen3) and isinstance(Qwen3.from_pretrained(tmp_path), Qwen3)
