"""Prefix tuning: against PEFT with the same prefix, as real tokens before the text, and through the cache."""

import json

import pytest
import torch
from support.parity import reference_of, spread_out
from support.tiny_configs import TINY

from scratch_llm.generation import ContinuousBatch, SamplingConfig, clear_generate_tokens, generate_tokens
from scratch_llm.models import build_model
from scratch_llm.peft import (
    LoRAConfig,
    PrefixTuned,
    inject,
    load_adapter,
    load_prefix,
    quantize_base,
    save_adapter,
    save_prefix,
    trainable_parameters,
)

peft = pytest.importorskip("peft")

TOKENS = torch.randint(1, 61, (3, 20), generator=torch.Generator().manual_seed(4))
MODELS = ("llama", "llama-untied-mqa", "gpt2", "qwen3", "qwen3_moe")
GREEDY = SamplingConfig(max_new_tokens=15, temperature=0)


def base(name="llama", seed=0):
    return spread_out(build_model(TINY[name], seed=seed))


def tuned(name="llama", n_tokens=5, **options):
    model = base(name)
    torch.manual_seed(1)
    return PrefixTuned(model, n_tokens, **options).eval()


def their_prefix(name, folder, **options):
    """PEFT's model with a random prefix of 5."""
    config = peft.PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM", **options)
    reference = reference_of(base(name), folder)
    torch.manual_seed(2)
    return peft.get_peft_model(reference, config)


def relative(ours, theirs):
    return (ours - theirs).abs().max().item() / max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_equal_pefts(name, tmp_path):
    theirs = their_prefix(name, tmp_path).eval()
    ours = tuned(name)
    with torch.no_grad():
        ours.prefix.copy_(theirs.prompt_encoder["default"].embedding.weight)
    our_logits, their_logits = ours(TOKENS), theirs(TOKENS).logits
    assert relative(our_logits, their_logits) < 1e-5
    assert relative(our_logits, ours.model(TOKENS)) > 0.01
    weights = torch.randn(our_logits.shape, generator=torch.Generator().manual_seed(5))
    (our_logits * weights).mean().backward()
    (their_logits * weights).mean().backward()
    their_grad = theirs.prompt_encoder["default"].embedding.weight.grad
    assert their_grad.abs().max() > 1e-5
    assert (ours.prefix.grad - their_grad).abs().max() < 1e-5 * max(1, their_grad.abs().max())
    assert set(trainable_parameters(ours)) == {"prefix"}
    assert all(parameter.grad is None for parameter in ours.model.parameters())


@pytest.mark.parametrize("projection", [None, 7])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_files_pass_both_ways(name, projection, tmp_path):
    ours = tuned(name, projection=projection)
    save_prefix(ours, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(reference_of(base(name), tmp_path / "base"), str(tmp_path / "ours")).eval()
    again = load_prefix(base(name), tmp_path / "ours").eval()
    with torch.no_grad():
        assert relative(ours(TOKENS), theirs(TOKENS).logits) < 1e-5
        assert relative(again(TOKENS), ours(TOKENS)) < 1e-6
    options = {} if projection is None else {"prefix_projection": True, "encoder_hidden_size": projection}
    theirs = their_prefix(name, tmp_path / "base", **options).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    with pytest.warns(UserWarning, match=r"has no base_model.json"):
        again = load_prefix(base(name), tmp_path / "theirs").eval()
    with torch.no_grad():
        assert relative(again(TOKENS), theirs(TOKENS).logits) < 1e-5
        assert relative(again(TOKENS), ours(TOKENS)) > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_a_prefix_of_real_tokens_is_as_if_they_stood_there(name):
    before = [7, 3, 44, 9]
    model = base(name)
    ours = PrefixTuned.from_tokens(model, before).eval()
    whole = torch.cat([torch.tensor([before] * 3), TOKENS], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(ours(TOKENS), model(whole)[:, len(before) :], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_padding_and_the_cache_change_nothing(name):
    ours = tuned(name)
    real = torch.ones(3, 20, dtype=torch.bool)
    real[1, :6] = False
    with torch.no_grad():
        alone = ours(TOKENS[1:2, 6:])
        torch.testing.assert_close(ours(TOKENS, padding_mask=real)[1:2, 6:], alone, rtol=1e-4, atol=1e-5)
        cache = ours.init_cache(3, 20)
        pieces = [ours(TOKENS[:, :8], cache=cache), ours(TOKENS[:, 8:9], cache=cache), ours(TOKENS[:, 9:], cache=cache)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), ours(TOKENS), rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="more do not fit"):
            ours(TOKENS[:, :1], cache=cache)


@pytest.mark.parametrize("name", MODELS)
def test_generation_with_and_without_the_cache_and_past_the_context(name):
    ours = tuned(name, n_tokens=6)
    prompts = [[5, 9, 3, 8, 20], [7, 2]]
    expected = [clear_generate_tokens(ours, prompt, GREEDY) for prompt in prompts]
    assert generate_tokens(ours, prompts, GREEDY) == expected
    assert generate_tokens(ours, prompts, GREEDY) != generate_tokens(ours.model, prompts, GREEDY)
    long = SamplingConfig(max_new_tokens=80, temperature=0)
    assert generate_tokens(ours, prompts, long) == [clear_generate_tokens(ours, prompt, long) for prompt in prompts]


@pytest.mark.parametrize("n_tokens", [1, 6, 30])
def test_continuous_batching_gives_every_text_the_prefix(n_tokens):
    ours = tuned(n_tokens=n_tokens)
    batch = ContinuousBatch(ours, max_rows=3)
    prompts = [[5, 9, 3], [7], [30, 2, 8, 4, 11, 60, 1, 17], [9, 9], [44], [5, 6, 7, 8]]
    requests = []
    for number, prompt in enumerate(prompts):
        requests.append(batch.submit(prompt, SamplingConfig(max_new_tokens=9 + 4 * (number % 4), temperature=0)))
        for _ in range(3):
            batch.step()
    while not batch.idle:
        batch.step()
    for number, (prompt, request) in enumerate(zip(prompts, requests)):
        alone = clear_generate_tokens(ours, prompt, SamplingConfig(max_new_tokens=9 + 4 * (number % 4), temperature=0))
        assert request.tokens == alone


@pytest.mark.parametrize("projection", [None, 16])
def test_it_learns_beside_a_base_that_stays(projection):
    ours = tuned(projection=projection).train()
    before = {key: value.clone() for key, value in ours.model.state_dict().items()}
    optimiser = torch.optim.Adam(trainable_parameters(ours).values(), lr=0.05)
    losses = []
    for _ in range(15):
        losses.append(ours(TOKENS, targets=TOKENS.roll(-1, 1)))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.equal(value, before[key]) for key, value in ours.model.state_dict().items())


def test_it_lies_before_a_base_of_four_bits_and_in_bfloat16():
    model = quantize_base(base())
    ours = PrefixTuned(model, 3)
    ours(TOKENS, targets=TOKENS).backward()
    assert ours.prefix.grad.abs().sum() > 0
    ours = PrefixTuned(base().bfloat16(), 3)
    loss = ours(TOKENS, targets=TOKENS)
    loss.backward()
    assert ours(TOKENS).dtype == torch.bfloat16 and ours.prefix.dtype == torch.float32 == ours.prefix.grad.dtype


def test_the_context_is_shorter():
    ours = tuned(n_tokens=60)
    assert ours.config.context_length == 4 and ours.model.config.context_length == 64
    ours(TOKENS[:, :4])
    assert ours.n_matrix_parameters() == ours.model.n_matrix_parameters()
    # Of the frozen matrices no gradient is computed; of attention, over prefix and text, all are.
    attention = ours.model.context_flops_per_token(4 + 60)
    assert ours.flops_per_token(4) == 4 * ours.model.n_matrix_parameters() + 3 * attention
    with pytest.raises(ValueError, match="5 tokens are more than the model's context_length of 4"):
        ours(TOKENS[:, :5])


@pytest.mark.parametrize("name", ["gemma3_text", "deepseek_v3", "mamba", "rwkv7", "lstm"])
def test_models_without_plain_keys_and_values_are_refused(name):
    model = base(name)
    with pytest.raises(ValueError, match="no cache of plain keys and values"):
        PrefixTuned(model, 3)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_tokens": 0}, "n_tokens is 0: it must be a whole number"),
        ({"n_tokens": 64}, "a prefix of 64 positions leaves none of the context of 64"),
        ({"n_tokens": 2.5}, "n_tokens is 2.5"),
        ({"projection": 0}, "projection is 0"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        PrefixTuned(base(), **options)


def test_files_that_do_not_fit_are_refused(tmp_path):
    folder = tmp_path / "prefix"
    save_prefix(tuned(), folder)
    with pytest.raises(ValueError, match="trained beside other weights"):
        load_prefix(base(seed=1), folder)
    with pytest.raises(ValueError, match=r"prompt_embeddings has shape \(5, 48\)"):
        load_prefix(base("gpt2"), folder, check_base=False)
    with pytest.raises(ValueError, match="is for a llama model"):
        load_prefix(base("gpt2"), folder)
    with pytest.raises(ValueError, match="a prefix is no part of a model's weights"):
        tuned().save_pretrained(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"holds a prefix: open it with load_prefix"):
        load_adapter(base(), folder)
    model = base()
    inject(model, LoRAConfig())
    save_adapter(model, tmp_path / "lora")
    with pytest.raises(ValueError, match="type 'LORA', no prefix: open it with load_adapter"):
        load_prefix(base(), tmp_path / "lora")
    values = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(values | {"num_transformer_submodules": 2}))
    with pytest.raises(ValueError, match="an encoder and a decoder"):
        load_prefix(base(), folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_model.safetensors is missing"):
        load_prefix(base(), folder)
