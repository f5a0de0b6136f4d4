"""RWKV-4: parity with transformers, padding, states, presets."""

from __future__ import annotations

import pytest
import torch
from support.parity import TOLERANCE, WIDTH, batch, rows_alone, spread_out
from support.recurrent import RecurrentTests

from scratch_llm.models import RWKV4, RWKV4_SIZES, RWKV4Config, build_model, rwkv4_preset
from scratch_llm.models.config import replace

CONFIGS = {
    "untied": RWKV4Config(vocab_size=97, context_length=40, n_layers=3, d_model=33, d_ff=52, rescale_every=1),
    "tied-no-rescale": RWKV4Config(
        vocab_size=59, context_length=40, n_layers=2, d_model=28, tie_embeddings=True, rescale_every=0,
        bos_token_id=1, eos_token_id=2,
    ),
    "wide-attention": RWKV4Config(
        vocab_size=53, context_length=40, n_layers=5, d_model=24, d_attention=31, d_ff=37, rescale_every=2, norm_eps=1e-4
    ),
}  # fmt: skip


class TestParity(RecurrentTests):
    """transformers' model ignores the attention mask, so padded rows are compared with the same rows alone."""

    CONFIGS = CONFIGS

    def reference_logits(self, theirs, tokens, real):
        return rows_alone(lambda row: theirs(row, use_cache=False).logits, tokens, real)

    def reference_grads(self, theirs):
        """transformers halves these weights in place before its first evaluation, so its gradients are larger."""
        grads, every = super().reference_grads(theirs), theirs.config.rescale_every
        for name, grad in grads.items():
            if every and name.endswith(("attention.output.weight", "feed_forward.value.weight")):
                grads[name] = grad / 2 ** (int(name.split(".")[2]) // every)
        return grads

    def reference_tokens(self, theirs, tokens, real, n_new):
        """Row by row; its state has d_model channels, so with a wider attention it cannot use one."""
        c = theirs.config
        return [
            theirs.generate(
                row[mask][None], max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False, pad_token_id=0,
                eos_token_id=None, use_cache=c.attention_hidden_size == c.hidden_size,
            )[0, int(mask.sum()):].tolist()
            for row, mask in zip(tokens, real)
        ]  # fmt: skip

    def state_size(self, config):
        return 2 * config.d_model + 3 * config.d_attention


def model(name="untied", **changes):
    return spread_out(build_model(replace(CONFIGS[name], **changes), seed=0))


def test_the_halved_stream_matters():
    """Without ``rescale_every`` logits differ by more than the tolerance above, and training never rescales."""
    halved, plain = model(), model(rescale_every=0)
    tokens, _ = batch(halved.config, False)
    assert (halved(tokens) - plain(tokens)).abs().max() > 2 * TOLERANCE
    assert torch.equal(halved.train()(tokens), plain(tokens))


def test_training_in_pieces_ends_gradients_at_the_piece():
    """The loss of a second piece has the gradient that it has when the state is simply given."""
    ours = model()
    tokens, _ = batch(ours.config, False)
    cache = ours.init_cache(3)
    ours(tokens[:, :11], cache=cache, targets=tokens[:, 1:12]).backward()
    given = [state.clone() for state in cache.tensors()]
    ours.zero_grad()
    ours(tokens[:, 11:], cache=cache, targets=tokens[:, 11:]).backward()
    grads = [weight.grad.clone() for weight in ours.parameters()]
    fresh = ours.init_cache(3)
    for state, value in zip(fresh.tensors(), given):
        state.copy_(value)
    ours.zero_grad()
    ours(tokens[:, 11:], cache=fresh, targets=tokens[:, 11:]).backward()
    assert all(torch.equal(grad, weight.grad) for grad, weight in zip(grads, ours.parameters()))


def test_flops_against_the_counter():
    """The counter sees the matrix products; ``context_flops_per_token`` is the rest, and the same for any context."""
    from torch.utils.flop_counter import FlopCounterMode

    ours = model("wide-attention")
    tokens, _ = batch(ours.config, False)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        ours(tokens)
    elementwise = ours.context_flops_per_token(WIDTH)
    assert counter.get_total_flops() == tokens.numel() * (ours.flops_per_token(WIDTH, training=False) - elementwise)
    assert elementwise == 18 * 5 * 31 == ours.context_flops_per_token(8192)


def test_bfloat16_decodes_like_float32_on_the_same_weights():
    ours = model().bfloat16()
    tokens, _ = batch(ours.config, False)
    with torch.inference_mode():
        cache = ours.init_cache(3)
        assert cache.states[0]["numerator"].dtype == torch.float32
        assert cache.states[0]["time_shift"].dtype == torch.bfloat16
        pieces = [ours.step(tokens[:, t], cache) for t in range(WIDTH)]
        expected = ours.float()(tokens)
    assert (torch.stack(pieces, 1).float() - expected).abs().mean() < 0.02 * expected.abs().mean()


@pytest.mark.parametrize(
    "size, n_parameters",
    [
        ("169m", 169_342_464), ("430m", 430_397_440), ("1b5", 1_515_106_304), ("3b", 2_984_627_200),
        ("7b", 7_392_649_216), ("14b", 14_148_597_760),
    ],
)  # fmt: skip
def test_presets_have_the_published_numbers_of_parameters(size, n_parameters):
    assert size in RWKV4_SIZES
    with torch.device("meta"):
        assert RWKV4(rwkv4_preset(size)).n_parameters() == n_parameters


def test_impossible_configurations():
    shape = {"vocab_size": 97, "context_length": 40, "n_layers": 1, "d_model": 36}
    with pytest.raises(ValueError, match="is no known RWKV-4: use one of 169m"):
        rwkv4_preset("2b")
    with pytest.raises(ValueError, match="rescale_every is -1"):
        RWKV4Config(**shape, rescale_every=-1)
    with pytest.raises(ValueError, match="d_attention is 0"):
        RWKV4Config(**shape, d_attention=0)


def test_starting_weights():
    """Decays spread from e^-5 to e^3, and a model fresh from its configuration knows nothing yet."""
    ours = build_model(CONFIGS["untied"], seed=0)
    for block in ours.blocks:
        decay = block.time_mix.log_decay_A
        assert decay[0] == -5 and decay[-1] == 3 and (decay.diff() > 0).all()
    tokens, _ = batch(ours.config, False)
    assert ours(tokens, targets=tokens).item() == pytest.approx(4.57, abs=0.05)
