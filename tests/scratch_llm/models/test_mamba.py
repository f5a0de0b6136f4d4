"""Mamba: parity with transformers, padding, state, generation without end, starting weights, sizes as published."""

from __future__ import annotations

import pytest
import torch
from support.parity import WIDTH, ParityTests, batch, reference_of, spread_out

from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.generation.tokens import clear_generate_tokens
from scratch_llm.layers.selective_scan import clear_selective_scan
from scratch_llm.models import MAMBA_SIZES, Mamba, MambaConfig, build_model, mamba_preset
from scratch_llm.training import parameter_groups

CONFIGS = {
    "tied": MambaConfig(vocab_size=97, context_length=40, n_layers=3, d_model=33, d_state=5, dt_rank=3),
    "untied-wide-kernel": MambaConfig(
        vocab_size=59, context_length=40, n_layers=2, d_model=28, expand=3, conv_width=7, norm_eps=1e-4,
        tie_embeddings=False, conv_bias=False, bos_token_id=1, eos_token_id=(2, 3),
    ),
    "biased": MambaConfig(
        vocab_size=53, context_length=40, n_layers=2, d_model=17, d_state=3, expand=1, conv_width=2, bias=True,
        residual_in_float32=False, pad_token_id=0,
    ),
}  # fmt: skip


class StateSpaceParity(ParityTests):
    """transformers zeroes padding before the projection in: right as long as that projection has no bias.  With one,
    the bias gets into the convolution of a row's first tokens, so there each row is compared with itself alone."""

    def same_config(self, loaded, ours):
        return loaded == ours

    def reference_logits(self, theirs, tokens, real):
        if not theirs.config.use_bias:
            return theirs(tokens, attention_mask=real.long(), use_cache=False).logits
        rows = [theirs(row[mask][None], use_cache=False).logits[0] for row, mask in zip(tokens, real)]
        return torch.stack([torch.cat((row.new_zeros(WIDTH - len(row), row.shape[1]), row)) for row in rows])

    def reference_tokens(self, theirs, tokens, real, n_new):
        if not theirs.config.use_bias:
            return super().reference_tokens(theirs, tokens, real, n_new)
        ones = torch.ones(1, WIDTH, dtype=torch.bool)
        rows = [row[mask][None] for row, mask in zip(tokens, real)]
        return [
            theirs.generate(
                row, attention_mask=ones[:, : row.shape[1]].long(), max_new_tokens=n_new, min_new_tokens=n_new,
                do_sample=False, pad_token_id=0, eos_token_id=None,
            )[0, row.shape[1] :].tolist()
            for row in rows
        ]  # fmt: skip


class TestParity(StateSpaceParity):
    CONFIGS = CONFIGS


@pytest.fixture(scope="module")
def model():
    return spread_out(build_model(CONFIGS["tied"], seed=0))


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_padding_anywhere_is_as_if_it_were_not_there(name):
    """On the left, on the right, in the middle, whole rows of a piece; with tokens before and after in the state."""
    ours = spread_out(build_model(CONFIGS[name], seed=0))
    tokens, _ = batch(ours.config, False)
    real = torch.ones_like(tokens, dtype=torch.bool)
    real[0, :5], real[0, 9:12], real[1, 2:8], real[2, 17:] = False, False, False, False
    logits, cache, pieces = ours(tokens, padding_mask=real), ours.init_cache(3), []
    for start, end in ((0, 3), (3, 8), (8, WIDTH)):
        pieces.append(ours(tokens[:, start:end], cache=cache, padding_mask=real[:, start:end]))
    for row, (row_tokens, mask) in enumerate(zip(tokens, real)):
        alone_cache = ours.init_cache(1)
        alone = ours(row_tokens[mask][None], cache=alone_cache)[0]
        torch.testing.assert_close(logits[row, mask], alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(torch.cat(pieces, 1)[row, mask], alone, atol=1e-5, rtol=1e-5)
        for layer, alone_layer in zip(cache.states, alone_cache.states):
            for state in layer:
                torch.testing.assert_close(layer[state][row], alone_layer[state][0], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_decoding_steps_give_the_logits_of_one_pass(model):
    tokens, _ = batch(model.config, False)
    cache = model.init_cache(3)
    steps = torch.stack([model.step(column, cache) for column in tokens.unbind(1)], dim=1)
    torch.testing.assert_close(steps, model(tokens), atol=1e-5, rtol=1e-5)


def test_the_state_has_one_size_and_generation_no_end(model):
    """Far past the trained length, token for token what the whole text without a cache says."""
    new = generate_tokens(model, [5, 6, 7], SamplingConfig(max_new_tokens=120, temperature=0), stop_ids=())
    assert new == clear_generate_tokens(model, [5, 6, 7], SamplingConfig(max_new_tokens=120, temperature=0), stop_ids=())
    cache, c = model.init_cache(2), model.config
    before = cache.n_bytes()
    assert before == 4 * 2 * c.n_layers * c.d_inner * (c.conv_width - 1 + c.d_state)
    with torch.inference_mode():
        model(torch.randint(0, 97, (2, 500)), cache=cache)
    assert cache.n_bytes() == before and cache.length == 500


@torch.inference_mode()
def test_bfloat16_keeps_the_scan_state_in_float32(model):
    half = build_model(CONFIGS["tied"]).to(torch.bfloat16)
    half.load_state_dict(model.state_dict())
    state = half.init_cache(1).states[0]
    assert state["scan"].dtype == torch.float32 and state["conv"].dtype == torch.bfloat16
    tokens, _ = batch(model.config, False)
    logits, exact = half(tokens), model(tokens)
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - exact).abs().max() < 0.05 * exact.abs().max()
    cache = half.init_cache(3)
    steps = torch.stack([half.step(column, cache) for column in tokens.unbind(1)], dim=1)
    assert (steps.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_bfloat16_agrees_with_the_reference(model, tmp_path):
    theirs = reference_of(model, tmp_path, dtype=torch.bfloat16)
    ours = Mamba.from_pretrained(tmp_path, dtype=torch.bfloat16)
    tokens, _ = batch(model.config, False)
    with torch.inference_mode():
        exact = model(tokens)
        mine, reference = ours(tokens).float(), theirs(tokens, use_cache=False).logits.float()
    # Closer to the exact logits than theirs is, or nearly.
    assert (mine - exact).abs().mean() < 1.1 * (reference - exact).abs().mean()


def test_flops_of_the_scan_are_counted_from_its_definition():
    """Every element that the clear scan computes, one operation each; but for the sum over the state, of N."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            if name in ("mul", "exp", "add"):
                self.n += result.numel()
            elif name == "sum":
                self.n += args[0].numel()
            return result

    T, c = 6, CONFIGS["tied"]
    E, N = c.d_inner, c.d_state
    with Counter() as counter:
        clear_selective_scan(
            torch.rand(1, T, E), torch.rand(1, T, E), -torch.rand(E, N), torch.rand(1, T, N), torch.rand(1, T, N)
        )
    model = build_model(c)
    assert counter.n * c.n_layers == T * model.context_flops_per_token(40)
    assert model.context_flops_per_token(40) == model.context_flops_per_token(4000)


def test_starting_weights():
    c = MambaConfig(vocab_size=50, context_length=8, n_layers=4, d_model=256)
    model = build_model(c, seed=1)
    for block in model.blocks:
        mixer = block.mixer
        dt = torch.nn.functional.softplus(mixer.dt_bias)
        assert 0.001 <= dt.min() < 0.002 and 0.05 < dt.max() <= 0.1001
        # Log-uniform: as many below 0.01 as above.
        assert abs((dt < 0.01).float().mean() - 0.5) < 0.1
        torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 17.0).expand(512, 16))
        assert mixer.D.eq(1).all() and mixer.conv.bias.eq(0).all()
        assert mixer.out.weight.std().item() == pytest.approx((3 * 512 * 4) ** -0.5, rel=0.05)
    assert model.embedding.weight.std().item() == pytest.approx(c.init_std, rel=0.05)
    assert model(torch.randint(0, 50, (2, 8))).std() > 0


def test_decay_rates_are_left_alone_by_weight_decay():
    model = build_model(CONFIGS["tied"])
    _, kept = parameter_groups(model, 0.1)
    kept = {id(parameter) for parameter in kept["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in kept) == (name.endswith(("A_log", ".D", "bias")) or "norm" in name), name


@pytest.mark.parametrize("name, millions", zip(MAMBA_SIZES, (129.1, 371.5, 793.2, 1372.2, 2768.3)))
def test_published_sizes(name, millions):
    with torch.device("meta"):
        model = Mamba(mamba_preset(name))
    assert model.n_parameters() / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"conv_width": 1}, "conv_width is 1: it must be at least 2"),
        ({"d_state": 0}, "d_state is 0"),
        ({"dt_rank": -1}, "dt_rank is -1"),
        ({"dt_min": 0.5}, "dt_min is 0.5: it must not be above dt_max, 0.1"),
        ({"dt_floor": 0.0}, "dt_floor is 0.0: it must be above 0"),
    ],
)
def test_impossible_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        MambaConfig(**{"vocab_size": 50, "context_length": 8, "n_layers": 1, "d_model": 8} | changes)


def test_bad_input():
    model = build_model(CONFIGS["tied"])
    with pytest.raises(ValueError, match="size '7b' is no published Mamba: use one of 130m"):
        mamba_preset("7b")
    with pytest.raises(ValueError, match="hidden_act = 'relu'"):
        Mamba.config_from_huggingface(Mamba.config_to_huggingface(model.config) | {"hidden_act": "relu"})
    with pytest.raises(ValueError, match="tokens have 3 rows but the cache was made for 2"):
        model(torch.zeros(3, 4, dtype=torch.long), cache=model.init_cache(2))
    with pytest.raises(ValueError, match="token id 97 is not in the vocabulary"):
        model(torch.tensor([[97]]))
