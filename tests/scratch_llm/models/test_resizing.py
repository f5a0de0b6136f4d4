"""More tokens for a model: old logits stay, new rows are the mean of the old, files and training go on working."""

from __future__ import annotations

import json
import math

import pytest
import torch
import transformers
from support.parity import spread_out

from scratch_llm.models import MODELS, GPT2Config, LlamaConfig, build_model, load_model, resize_embeddings
from scratch_llm.tokenizers import ByteLevelBPE

SMALL = {"vocab_size": 97, "context_length": 32, "n_layers": 2, "d_model": 32}


def config_of(kind, **changes):
    """A tiny configuration of any architecture."""
    heads = {"n_heads": 4} if "n_heads" in kind.config_class.__dataclass_fields__ else {}
    return kind.config_class(**SMALL | heads | changes)


def small_models() -> list:
    """Every architecture with and without a tied output layer, where its configuration allows either."""
    found = []
    for name, kind in sorted(MODELS.items()):
        for tied in (True, False):
            try:
                found.append(pytest.param(config_of(kind, tie_embeddings=tied), id=f"{name}-{'tied' if tied else 'untied'}"))
            except (ValueError, TypeError):
                continue  # needs more fields than these, or is always one of the two
    return found


TOKENS = torch.randint(0, 97, (2, 20), generator=torch.Generator().manual_seed(0))


def test_most_architectures_are_here():
    names = {parameter.id.rsplit("-", 1)[0] for parameter in small_models()}
    assert {"llama", "gpt2", "qwen3"} <= names and len(names) >= 6, names


@pytest.mark.parametrize("config", small_models())
def test_old_logits_stay(config):
    model = spread_out(build_model(config, seed=0))
    before = model(TOKENS)
    n_parameters, old_head = model.n_parameters(), model.head_weight.detach().clone()
    assert resize_embeddings(model, 103) is model and model.config.vocab_size == 103
    after = model(TOKENS)
    assert after.shape == (2, 20, 103)
    torch.testing.assert_close(after[..., :97], before, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(after[..., 97:], before.mean(-1, keepdim=True).expand(-1, -1, 6), atol=1e-4, rtol=1e-4)
    assert model.embedding.num_embeddings == 103 and torch.equal(model.head_weight[:97], old_head)
    n_tables = 1 if model.lm_head is None else 2
    assert model.n_parameters() == n_parameters + 6 * 32 * n_tables
    assert (model.lm_head is None) == config.tie_embeddings
    # New tokens are read, learnt and generated like the others.
    loss = model(torch.full((1, 5), 102), targets=torch.full((1, 5), 101))
    loss.backward()
    assert math.isfinite(loss.detach()) and model.embedding.weight.grad[102].abs().sum() > 0
    assert resize_embeddings(model, 97, allow_shrinking=True).config.vocab_size == 97
    assert torch.equal(model(TOKENS), before)


def test_the_new_tokens_take_hardly_any_probability():
    """Hewitt 2021: where all logits are far below 0, small random rows win, mean rows do not."""
    model = build_model(LlamaConfig(n_heads=4, tie_embeddings=False, **SMALL), seed=0).eval()
    with torch.no_grad():
        model.final_norm.weight.copy_(torch.linspace(-1, 1, 32))
        # All rows share a direction, against which every hidden state points.
        model.lm_head.weight.copy_(torch.randn(97, 32, generator=torch.Generator().manual_seed(1)) * 0.1)
        hidden = model.hidden_states(TOKENS[:1, -1:], None, None)[0, 0]
        model.lm_head.weight.sub_(20 * hidden / hidden.norm() ** 2)
        before = model(TOKENS[:1, -1:])[0, 0].softmax(-1)
        resize_embeddings(model, 98)
        after = model(TOKENS[:1, -1:])[0, 0].softmax(-1)
        assert after[97] <= 1 / 98 and torch.dist(after[:97], before, 1) < 0.02
        model.lm_head.weight[97] = torch.randn(32, generator=torch.Generator().manual_seed(2)) * 0.02
        assert model(TOKENS[:1, -1:])[0, 0].softmax(-1)[97] > 0.99


def test_noise_tells_new_tokens_apart():
    rows = {}
    for noise in (0.0, 0.1):
        model = spread_out(build_model(GPT2Config(n_heads=4, **SMALL), seed=0))
        spread = model.embedding.weight.std(0, correction=0)
        rows[noise] = resize_embeddings(model, 2097, noise=noise, seed=3).embedding.weight[97:]
    assert torch.equal(rows[0.0][0], rows[0.0][1])
    deviation = (rows[0.1] - rows[0.0]) / spread
    assert abs(deviation.mean()) < 0.01 and abs(deviation.std() - 0.1) < 0.005
    again = resize_embeddings(spread_out(build_model(GPT2Config(n_heads=4, **SMALL), seed=0)), 2097, noise=0.1, seed=3)
    assert torch.equal(again.embedding.weight[97:], rows[0.1])


def test_dtype_and_what_is_frozen_stay():
    model = spread_out(build_model(LlamaConfig(n_heads=4, tie_embeddings=False, **SMALL), seed=0)).bfloat16()
    model.embedding.weight.requires_grad_(False)
    mean = model.embedding.weight.float().mean(0).bfloat16()
    resize_embeddings(model, 99)
    assert model.dtype == torch.bfloat16 and torch.equal(model.embedding.weight[98], mean)
    assert not model.embedding.weight.requires_grad and model.lm_head.weight.requires_grad


@pytest.mark.parametrize("tied", [True, False])
def test_saved_and_opened_in_transformers(tied, tmp_path):
    model = spread_out(build_model(LlamaConfig(n_heads=4, tie_embeddings=tied, **SMALL), seed=0))
    resize_embeddings(model, 103, noise=0.1).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 103
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    torch.testing.assert_close(theirs(TOKENS).logits, model(TOKENS), atol=1e-5, rtol=1e-5)
    assert torch.equal(load_model(tmp_path)(TOKENS), model(TOKENS))


def test_together_with_an_extended_tokenizer():
    tokenizer = ByteLevelBPE.train(["가나다 라마바 가나다"], 265, ["<|endoftext|>"])
    config = LlamaConfig(**SMALL | {"vocab_size": tokenizer.vocab_size}, n_heads=4)
    model = build_model(config, seed=0)
    new = tokenizer.extend(["<|tool|>"])
    resize_embeddings(model, new.vocab_size)
    assert model(torch.tensor([new.encode("가나다<|tool|>")])).shape[-1] == new.vocab_size


def test_refusals():
    model = build_model(LlamaConfig(n_heads=4, eos_token_id=96, **SMALL), seed=0)
    before = model.embedding.weight
    for arguments, options, message in [
        ((96,), {}, "would drop 1 tokens: pass allow_shrinking=True"),
        ((96,), {"allow_shrinking": True}, "eos_token_id is 96"),
        ((0,), {"allow_shrinking": True}, "vocab_size is 0: it must be a whole number"),
        ((98.0,), {}, "vocab_size is 98.0"),
        ((99,), {"noise": -1.0}, r"noise is -1.0: it must be at least 0"),
        ((99,), {"noise": math.nan}, "noise is nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            resize_embeddings(model, *arguments, **options)
    assert model.embedding.weight is before and model.config.vocab_size == 97
