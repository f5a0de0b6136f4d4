"""Gemma 3 against transformers, and what is its own: windows, two rotary bases, norms around norms."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.parity import ParityTests, check_bfloat16_error, reference_of, spread_out
from torch.utils.flop_counter import FlopCounterMode

from scratch_llm.layers import LinearScaling
from scratch_llm.models import Gemma3, Gemma3Config, build_model, gemma3_preset, load_model

transformers = pytest.importorskip("transformers")

LOCAL, GLOBAL = "sliding_attention", "full_attention"

# Odd on purpose.  The batch of the parity tests is 23 wide, so all these windows are shorter than a sequence.
CONFIGS = {
    "six-layers": Gemma3Config(
        vocab_size=97, context_length=48, n_layers=6, n_heads=4, n_kv_heads=2, d_model=36, head_dim=10, d_ff=45,
        window=7, query_scalar=12,
    ),
    "untied-linear": Gemma3Config(
        vocab_size=61, context_length=40, n_layers=3, n_heads=3, n_kv_heads=1, d_model=33, head_dim=14, d_ff=37,
        window=5, layer_types=(LOCAL, GLOBAL, LOCAL), rope_theta=500.0, local_rope_theta=90.0, norm_eps=1e-4,
        rope_scaling=LinearScaling(factor=4.0), tie_embeddings=False, bos_token_id=1, eos_token_id=(2, 3), pad_token_id=0,
    ),
    "capped-odd": Gemma3Config(
        vocab_size=53, context_length=40, n_layers=2, n_heads=5, n_kv_heads=5, d_model=25, head_dim=6, d_ff=41,
        window=2, layer_types=(GLOBAL, LOCAL), final_softcap=3.0,
    ),
    "windows-only": Gemma3Config(
        vocab_size=59, context_length=44, n_layers=2, n_heads=2, n_kv_heads=1, d_model=20, d_ff=30, window=20,
    ),
}  # fmt: skip


class TestParity(ParityTests):
    CONFIGS = CONFIGS

    @pytest.mark.parametrize("side", ["right", "both"])
    def test_padding_elsewhere_changes_nothing(self, pair, side):
        """Padding after the text, or inside a batch of pieces: a row gives the logits it gives alone."""
        ours, _ = pair
        tokens, real = torch.randint(1, ours.config.vocab_size, (2, 23)), torch.ones(2, 23, dtype=torch.bool)
        real[0, 14:], real[1, :3] = False, side == "right"
        together = ours(tokens, padding_mask=real)
        for row in range(2):
            alone = ours(tokens[row, real[row]][None])[0]
            torch.testing.assert_close(together[row, real[row]], alone, atol=1e-5, rtol=1e-5)


def model_of(name="untied-linear", **changes):
    return spread_out(build_model(dataclasses.replace(CONFIGS[name], **changes), seed=0))


def tokens_of(model, *shape):
    return torch.randint(model.config.vocab_size, shape, generator=torch.Generator().manual_seed(0))


def test_a_token_reaches_one_window_further_per_layer():
    """With windows of W only, L layers see L (W - 1) tokens back: what has slid out is out."""
    model = model_of("windows-only", window=4)
    tokens = tokens_of(model, 1, 30)
    other = tokens.clone()
    other[0, 10] = (other[0, 10] + 1) % 59
    changed = (model(tokens) - model(other)).abs().amax(-1)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == list(range(10, 10 + 2 * 3 + 1))


def test_window_of_one_without_a_cache(tmp_path):
    """transformers' own cache keeps everything at a window of 1 (its slice from -0), so it is asked without."""
    model = model_of(window=1)
    theirs = reference_of(model, tmp_path)
    tokens = tokens_of(model, 2, 20)
    torch.testing.assert_close(model(tokens), theirs(tokens).logits, atol=1e-5, rtol=1e-5)


def test_capped_logits_stay_in_bounds_and_their_loss_is_the_plain_one():
    model = model_of("capped-odd", final_softcap=1.0)
    tokens = tokens_of(model, 2, 20)
    logits, free = model(tokens), build_model(dataclasses.replace(model.config, final_softcap=None))
    free.load_state_dict(model.state_dict())
    assert logits.abs().max() < 1 < free(tokens).abs().max()
    torch.testing.assert_close(logits, free(tokens).tanh())
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    targets = tokens.roll(-1, 1)
    targets[:, -1] = -100
    torch.testing.assert_close(model(tokens, targets=targets), expected)


def test_fresh_norms_do_nothing_but_normalise():
    """Weights start at 0, the factor is 1 + weight."""
    model = build_model(CONFIGS["six-layers"], seed=0)
    norms = [module for module in model.modules() if getattr(module, "zero_centred", False)]
    assert len(norms) == 6 * 6 + 1 and all((norm.weight == 0).all() for norm in norms)
    x = torch.randn(2, 3, 36)
    torch.testing.assert_close(model.final_norm(x).square().mean(-1), torch.ones(2, 3), atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        model.final_norm.weight.normal_()
    torch.testing.assert_close(model.final_norm(x), model.final_norm.clear_forward(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("d_model", [24, 3072])
def test_the_factor_of_the_embedding_has_the_precision_of_the_model(d_model):
    """sqrt(3072) = 55.4256 is 55.5 in bfloat16."""
    config = Gemma3Config(
        vocab_size=11, context_length=4, n_layers=1, n_heads=2, d_model=d_model, head_dim=4, d_ff=2, window=2
    )
    model = build_model(config)
    tokens = torch.arange(4)[None]
    for dtype in (torch.float32, torch.bfloat16):
        model.to(dtype)
        factor = torch.tensor(d_model**0.5, dtype=dtype)
        assert torch.equal(model.embed(tokens, slice(0, 4)), model.embedding(tokens) * factor)
    assert d_model != 3072 or factor == 55.5


def test_bfloat16_is_as_close_to_float32_as_the_reference(tmp_path):
    ours = model_of("six-layers")
    check_bfloat16_error(ours, reference_of(ours, tmp_path))


def test_flops_are_those_torch_counts_and_windows_cost_less():
    model = build_model(CONFIGS["six-layers"]).to("meta")
    tokens = torch.zeros(2, 40, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(tokens)
    # On the meta device the kernel gets a mask, and the counter counts what the mask hides.
    hidden = 5 * 4 * (40 - 7) * 4 * 10
    assert counter.get_total_flops() == 2 * 40 * (model.flops_per_token(40, training=False) + hidden)
    assert model.context_flops_per_token(7) == 6 * 4 * 7 * 4 * 10


# -- published sizes and configuration files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, n_million, n_global", [("270m", 268, 3), ("1b", 1000, 4), ("4b", 3880, 5), ("12b", 11766, 8), ("27b", 27009, 10)]
)
def test_published_sizes(size, n_million, n_global):
    """Parameters as in the model cards and in transformers' class, counted without memory."""
    config = gemma3_preset(size, context_length=64)
    with torch.device("meta"):
        model = Gemma3(config)
        theirs = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**Gemma3.config_to_huggingface(config))
        )
    assert model.n_parameters() == sum(p.numel() for p in theirs.parameters())
    assert round(model.n_parameters() / 1e6) == n_million
    assert config.windows.count(None) == n_global and config.windows[5] is None
    assert gemma3_preset(size).windows[0] == (512 if size in ("270m", "1b") else 1024)


def test_unknown_size():
    with pytest.raises(ValueError, match="size '2b' is no known Gemma 3: use one of 270m, 1b"):
        gemma3_preset("2b")


@pytest.fixture
def values():
    return Gemma3.config_to_huggingface(CONFIGS["untied-linear"])


def test_older_spelling(values):
    """Of the files on the hub: one rotary base per field, the pattern as a number."""
    old = {name: value for name, value in values.items() if name not in ("rope_parameters", "layer_types")}
    old |= {"rope_theta": 500.0, "rope_local_base_freq": 90.0, "sliding_window_pattern": 2}
    old |= {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}
    config = Gemma3.config_from_huggingface(old)
    assert config == CONFIGS["untied-linear"]
    theirs = transformers.AutoConfig.for_model(**old)
    assert list(config.layer_types) == theirs.layer_types
    assert theirs.rope_parameters[GLOBAL] == {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}
    assert theirs.rope_parameters[LOCAL]["rope_theta"] == config.local_rope_theta


def test_new_spelling(values):
    new = {name: value for name, value in values.items() if name not in ("rope_theta", "rope_scaling", "rope_local_base_freq")}
    assert Gemma3.config_from_huggingface(new) == CONFIGS["untied-linear"]


def test_defaults_of_a_sparse_file_are_those_of_the_reference():
    sparse = {"model_type": "gemma3_text", "vocab_size": 99, "num_hidden_layers": 8, "hidden_size": 64, "intermediate_size": 96}
    ours, theirs = Gemma3.config_from_huggingface(sparse), transformers.AutoConfig.for_model(**sparse)
    back = Gemma3.config_to_huggingface(ours)
    for name in (
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings",
        "sliding_window", "query_pre_attn_scalar", "layer_types", "rope_parameters", "final_logit_softcapping",
    ):  # fmt: skip
        assert back[name] == getattr(theirs, name), name


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hidden_activation": "silu"}, "hidden_activation = 'silu': only 'gelu_pytorch_tanh'"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"attn_logit_softcapping": 50.0}, r"attn_logit_softcapping = 50\.0: only None"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention = True"),
        ({"sliding_window": 0}, "window is 0: it must be a whole number of at least 1"),
        ({"sliding_window": None}, "window is None"),
        ({"layer_types": [LOCAL, GLOBAL]}, "layer_types is .*each of the 3 layers"),
        ({"layer_types": [LOCAL, GLOBAL, "chunked_attention"]}, "layer_types is .*chunked_attention"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "rotary scaling of type 'longrope'"),
        ({"rope_parameters": {LOCAL: {"rope_type": "linear", "factor": 2.0}}}, "stretches the rotary positions of sliding"),
        ({"query_pre_attn_scalar": 0}, "query_scalar is 0: it must be above 0"),
        ({"final_logit_softcapping": -1.0}, r"final_softcap is -1\.0: it must be above 0"),
        ({"num_attention_heads": 6}, "d_model 33 is not divisible by n_heads 6"),
    ],
)
def test_variants_we_do_not_have_are_named(values, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        Gemma3.config_from_huggingface(values | changes)
    assert "\n" not in str(caught.value)


def test_prompt_longer_than_the_context_and_cache_of_another_batch():
    model = model_of()
    with pytest.raises(ValueError, match="41 tokens are more than the model's context_length of 40"):
        model(tokens_of(model, 1, 41))
    with pytest.raises(ValueError, match="3 rows but the cache was made for 2"):
        model(tokens_of(model, 3, 4), cache=model.init_cache(2))


def test_round_trip_in_bfloat16(tmp_path):
    model = model_of("capped-odd")
    model.save_pretrained(tmp_path, dtype=torch.bfloat16)
    loaded = load_model(tmp_path)
    assert loaded.dtype == torch.bfloat16 and loaded.config == model.config and loaded.logit_softcap == 3.0
