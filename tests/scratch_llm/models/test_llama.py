"""Llama beyond the shapes of ``weights/test_huggingface.py``: stretched contexts, published sizes, refused variants."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from support.parity import ParityTests, reference_of, spread_out

from scratch_llm.layers import LinearScaling, Llama3Scaling, YarnScaling
from scratch_llm.models import (
    LLAMA_SIZES,
    QWEN3_SIZES,
    Llama,
    LlamaConfig,
    build_model,
    llama_preset,
    load_model,
    qwen3_preset,
)

transformers = pytest.importorskip("transformers")
SHAPE = {"vocab_size": 53, "n_layers": 2, "n_heads": 3, "d_model": 33, "head_dim": 12, "d_ff": 47}

# The parity tests' 23 tokens and 17 generated ones go beyond the original context, and ramps lie inside the heads.
CONFIGS = {
    "llama3": LlamaConfig(
        **SHAPE, context_length=48, rope_theta=100.0, n_kv_heads=1,
        rope_scaling=Llama3Scaling(factor=8.0, original_context_length=16, low_freq_factor=0.5, high_freq_factor=2.0),
    ),
    "linear": LlamaConfig(**SHAPE, context_length=48, rope_scaling=LinearScaling(factor=4.0), tie_embeddings=False),
    "yarn": LlamaConfig(
        **SHAPE, context_length=48, rope_theta=50.0,
        rope_scaling=YarnScaling(factor=4.0, original_context_length=12, beta_fast=2.0, beta_slow=0.25),
    ),
    "yarn-mscale": LlamaConfig(
        **SHAPE, context_length=48,
        rope_scaling=YarnScaling(
            factor=4.0, original_context_length=12, mscale=1.0, mscale_all_dim=0.7, truncate=False, beta_fast=8.0),
    ),
    "yarn-factor": LlamaConfig(
        **SHAPE, context_length=48,
        rope_scaling=YarnScaling(factor=2.0, original_context_length=24, attention_factor=1.25),
    ),
}  # fmt: skip


class TestParity(ParityTests):
    CONFIGS = CONFIGS

    def test_scaling_matters(self, name):
        """What the parity above would not notice: that the configuration stretches nothing."""
        ours = spread_out(build_model(self.CONFIGS[name], seed=0))
        plain = build_model(dataclasses.replace(self.CONFIGS[name], rope_scaling=None), seed=0)
        plain.load_state_dict(ours.state_dict())
        tokens = torch.arange(40)[None]
        assert (ours(tokens) - plain.eval()(tokens)).abs().max() > 1e-2

    def test_old_spelling(self, name, tmp_path):
        """``type`` and ``rope_scaling`` beside ``rope_theta``, as checkpoints up to transformers 4 have it."""
        ours = spread_out(build_model(self.CONFIGS[name], seed=0))
        ours.save_pretrained(tmp_path)
        values = json.loads((tmp_path / "config.json").read_text())
        del values["rope_parameters"]
        values["rope_scaling"]["type"] = values["rope_scaling"].pop("rope_type")
        (tmp_path / "config.json").write_text(json.dumps(values))
        assert load_model(tmp_path).config == ours.config


def test_a_long_context(tmp_path):
    """Some thousand positions past the original context, with Llama 3.1's own base and factors."""
    config = LlamaConfig(
        **SHAPE, context_length=4096, rope_theta=500_000.0,
        rope_scaling=Llama3Scaling(factor=8.0, original_context_length=512),
    )  # fmt: skip
    ours = spread_out(build_model(config, seed=0))
    theirs = reference_of(ours, tmp_path)
    tokens = torch.randint(53, (1, 2500), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        # Their angles are float32: at position 2500 that is an error of 1e-4 radians.
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=5e-4, rtol=1e-4)


# -- published sizes -----------------------------------------------------------------------------------------------

# Weights of the checkpoints, a tied matrix counted once.
N_PARAMETERS = {
    "2-7b": 6_738_415_616,
    "2-13b": 13_015_864_320,
    "2-70b": 68_976_648_192,
    "3-8b": 8_030_261_248,
    "3-70b": 70_553_706_496,
    "3.1-8b": 8_030_261_248,
    "3.1-70b": 70_553_706_496,
    "3.1-405b": 405_853_388_800,
    "3.2-1b": 1_235_814_400,
    "3.2-3b": 3_212_749_824,
    "0.6b": 596_049_920,
    "1.7b": 1_720_574_976,
    "4b": 4_022_468_096,
    "8b": 8_190_735_360,
    "14b": 14_768_307_200,
    "32b": 32_762_123_264,
}


@pytest.mark.parametrize("size", [*LLAMA_SIZES, *QWEN3_SIZES])
def test_published_sizes_have_their_number_of_weights(size):
    preset = llama_preset if size in LLAMA_SIZES else qwen3_preset
    with torch.device("meta"):
        model = build_model(preset(size, context_length=16))
    assert model.n_parameters() == N_PARAMETERS[size]


@pytest.mark.parametrize("size", ["2-7b", "3.1-8b", "3.2-1b", "0.6b"])
def test_presets_open_in_the_reference_unchanged(size, tmp_path):
    """Through ``config.json``: rotary fields included, no field is lost on the way there and back."""
    config = (llama_preset if size in LLAMA_SIZES else qwen3_preset)(size)
    with torch.device("meta"):
        kind = type(build_model(config))
    values = kind.config_to_huggingface(config)
    theirs = transformers.AutoConfig.for_model(**values)
    theirs.save_pretrained(tmp_path)
    assert kind.config_from_huggingface(json.loads((tmp_path / "config.json").read_text())) == config


def test_llama_3_1_as_published():
    """The rotary part of the released ``config.json``, in the spelling it has there."""
    released = {
        "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0, "tie_word_embeddings": False, "vocab_size": 128256, "attention_bias": False,
    }  # fmt: skip
    assert Llama.config_from_huggingface(released) == llama_preset("3.1-8b")


def test_presets_name_what_there_is():
    assert llama_preset("3.2-1b", n_layers=2).n_layers == 2
    with pytest.raises(ValueError, match=r"size '9b' is no known Llama: use one of 2-7b, .*3\.2-3b"):
        llama_preset("9b")
    with pytest.raises(ValueError, match=r"size '9b' is no known dense Qwen3: use one of 0\.6b, .*32b"):
        qwen3_preset("9b")


@pytest.mark.parametrize("field", ["attention_bias", "mlp_bias"])
def test_biases_are_refused(field):
    values = Llama.config_to_huggingface(CONFIGS["linear"])
    with pytest.raises(ValueError, match=f"{field} = True: only False is implemented"):
        Llama.config_from_huggingface(values | {field: True})
