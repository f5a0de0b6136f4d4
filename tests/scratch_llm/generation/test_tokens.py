"""Generation of token ids: the cache, its sliding window, batches, packing and stopping."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from scratch_llm.generation import (
    Decoder,
    SamplingConfig,
    TokenStream,
    clear_generate_tokens,
    generate_tokens,
    pack,
    window_start,
)
from scratch_llm.generation.packing import FastRMSNorm, PackedLinear, can_pack
from scratch_llm.layers import RMSNorm
from scratch_llm.models import GPT2Config, LlamaConfig, build_model

# Large weights, so that the model says something else at every step.
CONFIGS = {
    "llama-gqa": LlamaConfig(
        vocab_size=97, context_length=24, n_layers=3, n_heads=6, n_kv_heads=2, d_model=48, d_ff=100,
        tie_embeddings=False, init_std=0.2,
    ),
    "gpt2": GPT2Config(vocab_size=97, context_length=24, n_layers=2, n_heads=6, d_model=48, init_std=0.3),
}  # fmt: skip
GREEDY = SamplingConfig(max_new_tokens=70, temperature=0)
# Shorter than the context, as long, longer; of a batch each slides at another step.
PROMPTS = [[3, 4, 5], list(range(20)), list(range(24)), list(range(40)), [7]]


@pytest.fixture(params=CONFIGS, scope="module")
def model(request):
    return build_model(CONFIGS[request.param], seed=0).eval()


@pytest.mark.filterwarnings("ignore:the prompt has 40 tokens")
class TestPastTheContext:
    @pytest.mark.parametrize("stride", [None, 1, 7, 24])
    def test_every_row_equals_recomputing_its_window(self, model, stride):
        """Three contexts long, in a ragged batch: token for token what a model without a cache gives for each alone."""
        batch = generate_tokens(model, PROMPTS, GREEDY, stride=stride)
        for row, prompt in zip(batch, PROMPTS):
            assert row == clear_generate_tokens(model, prompt, GREEDY, stride=stride)
            assert len(set(row)) > 3

    def test_sampling_too(self, model):
        sampling = SamplingConfig(max_new_tokens=60, temperature=1.0, top_k=30, top_p=0.95, seed=5)
        batch = generate_tokens(model, PROMPTS, sampling)
        for number, (row, prompt) in enumerate(zip(batch, PROMPTS)):
            alone = dataclasses.replace(sampling, seed=5 + number)
            assert row == clear_generate_tokens(model, prompt, alone)

    @pytest.mark.parametrize("stride", [1, 6])
    def test_logits_equal_those_of_the_window(self, model, stride):
        """Not only the same token: the same numbers, at every step."""
        rows = [list(prompt) for prompt in PROMPTS]
        tokens = torch.randint(0, 97, (60, len(rows)), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            decoder = Decoder(model, rows, 61, stride=stride)
            logits = decoder.prefill()
            for step in range(60):
                for row, got in zip(rows, logits):
                    window = torch.tensor([row[window_start(len(row), 24, stride) :]])
                    torch.testing.assert_close(got, model(window)[0, -1], atol=1e-4, rtol=1e-4)
                for row, token in zip(rows, tokens[step].tolist()):
                    row.append(token)
                logits = decoder.step(tokens[step], tokens[step].tolist())

    def test_stride_one_is_the_last_context_length_tokens(self, model):
        tokens = list(range(20))
        with torch.inference_mode():
            for _ in range(30):
                tokens.append(int(model(torch.tensor([tokens[-24:]]))[0, -1].argmax()))
        greedy = dataclasses.replace(GREEDY, max_new_tokens=30)
        assert generate_tokens(model, list(range(20)), greedy, stride=1) == tokens[20:]

    def test_a_long_prompt_warns(self, model):
        with pytest.warns(UserWarning, match="the prompt has 40 tokens, more than the context_length of 24"):
            generate_tokens(model, list(range(40)), SamplingConfig(max_new_tokens=1))

    def test_bad_stride(self, model):
        for stride in (0, 25):
            with pytest.raises(ValueError, match=f"window stride is {stride}: it must be from 1 to"):
                generate_tokens(model, [1], GREEDY, stride=stride)


@pytest.mark.parametrize("n_tokens, start", [(1, 0), (24, 0), (25, 6), (30, 6), (31, 12), (100, 78)])
def test_window_start(n_tokens, start):
    assert window_start(n_tokens, 24, 6) == start
    assert 24 - 6 < n_tokens - start <= 24 or start == 0


def test_packed_model_equals_the_model(model):
    tokens = torch.randint(0, 97, (3, 20), generator=torch.Generator().manual_seed(0))
    packed = pack(model, 3)
    assert packed is not model and any(isinstance(module, PackedLinear) for module in packed.modules())
    with torch.inference_mode():
        expected = model(tokens)
        got = packed.logits(packed.hidden_states(tokens, None, None))
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        # The original is untouched, and both ways of decoding say the same.
        torch.testing.assert_close(model(tokens), expected)
    assert generate_tokens(model, PROMPTS[:3], GREEDY, packed=False) == generate_tokens(
        model, PROMPTS[:3], GREEDY
    )


def test_packed_bfloat16(model):
    if not can_pack(torch.bfloat16):
        pytest.skip("this CPU has no bfloat16 products in oneDNN")
    half = build_model(model.config, seed=0).bfloat16().eval()
    tokens = torch.randint(0, 97, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        packed = pack(half, 3)
        difference = (packed.logits(packed.hidden_states(tokens, None, None)) - half(tokens)).float().abs()
        assert difference.mean() < 0.02 * half(tokens).float().abs().mean()
    assert len(generate_tokens(half, PROMPTS[:3], GREEDY)[1]) == 70


def test_packing_follows_the_weights():
    model = build_model(CONFIGS["llama-gqa"], seed=0)
    first = pack(model, 1)
    assert pack(model, 1) is first
    before = generate_tokens(model, [1], GREEDY)
    other = build_model(CONFIGS["llama-gqa"], seed=1)
    model.load_state_dict(other.state_dict())
    assert pack(model, 1) is not first
    assert generate_tokens(model, [1], GREEDY) == generate_tokens(other, [1], GREEDY) != before


def test_fast_rms_norm_is_rms_norm():
    norm = RMSNorm(37, eps=1e-3)
    torch.nn.init.normal_(norm.weight)
    for scale in (1e-6, 1.0, 1e4):
        x = torch.randn(4, 37) * scale
        torch.testing.assert_close(FastRMSNorm(norm)(x), norm(x))
    assert not FastRMSNorm(norm)(torch.zeros(1, 37)).any()


def test_a_row_that_stops_leaves_the_others_alone(model):
    full = generate_tokens(model, PROMPTS[:3], GREEDY)
    stop = full[0][10]
    stopped = generate_tokens(model, PROMPTS[:3], GREEDY, stop_ids={stop})
    for row, whole in zip(stopped, full):
        assert row == (whole[: whole.index(stop)] if stop in whole else whole)
    assert stop not in stopped[0] and len(stopped[0]) <= 10


def test_eos_of_the_configuration_is_the_default(model):
    full = generate_tokens(model, [1, 2], GREEDY)
    config = dataclasses.replace(model.config, eos_token_id=(full[5], 96))
    twin = build_model(config, seed=0)
    assert generate_tokens(twin, [1, 2], GREEDY) == full[: full.index(full[5])]
    assert generate_tokens(twin, [1, 2], GREEDY, stop_ids=()) == full


def test_stream_ends_when_every_row_is_finished_from_outside(model):
    stream = TokenStream(model, [[1], [2]], GREEDY)
    seen = []
    for tokens in stream:
        seen.append(tokens)
        stream.finish(0)
        if len(seen) == 4:
            stream.finish(1)
    assert len(seen) == 4
    assert [row[0] is None for row in seen] == [False, True, True, True]
    assert all(row[1] is not None for row in seen)


def test_training_mode_comes_back():
    model = build_model(dataclasses.replace(CONFIGS["gpt2"], dropout=0.5), seed=0).train()
    one, two = (generate_tokens(model, [1, 2], GREEDY) for _ in range(2))
    assert one == two and model.training
    stream = iter(TokenStream(model, [1], GREEDY))
    next(stream)
    stream.close()
    assert model.training


def test_seeded_generation_draws_nothing_from_the_global_state():
    """Samples during training must not change the training."""
    can_pack.cache_clear()
    model = build_model(CONFIGS["gpt2"], seed=0)
    state = torch.get_rng_state()
    generate_tokens(model, [1], SamplingConfig(max_new_tokens=3, seed=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_generation_leaves_gradients_on():
    model = build_model(CONFIGS["gpt2"], seed=0)
    for _ in TokenStream(model, [1], GREEDY):
        assert not torch.is_inference_mode_enabled()
        model(torch.tensor([[1, 2]]), targets=torch.tensor([[2, 3]])).backward()
        break


def test_shapes_of_prompts_and_answers(model):
    two = dataclasses.replace(GREEDY, max_new_tokens=2)
    assert isinstance(generate_tokens(model, [1, 2], two)[0], int)
    assert generate_tokens(model, torch.tensor([1, 2]), two) == generate_tokens(model, [1, 2], two)
    batch = generate_tokens(model, torch.tensor([[1, 2], [3, 4]]), two)
    assert batch == [generate_tokens(model, [1, 2], two), generate_tokens(model, [3, 4], two)]
    assert generate_tokens(model, [[1, 2]], two) == batch[:1]
    assert generate_tokens(model, np.array([[1, 2], [3, 4]]), two) == batch
    assert generate_tokens(model, list(np.array([1, 2])), two) == batch[0]


def test_ids_beyond_the_tokenizer_are_never_chosen(model):
    full = generate_tokens(model, [1], GREEDY, stop_ids=())
    assert max(full) >= 40
    assert max(generate_tokens(model, [1], GREEDY, stop_ids=(), n_ids=40)) < 40


@pytest.mark.parametrize(
    "prompt, message",
    [
        ([], "the prompt is empty.*bos_token_id"),
        ([[1], []], "the prompt is empty"),
        ([1, 97], r"token id 97 is not in the vocabulary 0\.\.96"),
        ([[1], [-2]], "token id -2 is not"),
    ],
)
def test_bad_prompts(model, prompt, message):
    with pytest.raises(ValueError, match=message):
        generate_tokens(model, prompt, GREEDY)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the GPU path is not tested here")
def test_cuda_says_the_same(model):
    expected = generate_tokens(model, PROMPTS[:3], GREEDY)
    cuda = build_model(model.config, seed=0).cuda()
    assert generate_tokens(cuda, PROMPTS[:3], GREEDY) == expected


@pytest.mark.parametrize("fused", [True, False])
def test_training_between_two_generations_shows_in_the_second(fused):
    """Fused AdamW changes weights without counting a version: the packed copy must be made anew all the same."""
    model = build_model(CONFIGS["llama-gqa"], seed=0)
    generate_tokens(model, PROMPTS[:2], GREEDY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=fused)
    tokens = torch.tensor([PROMPTS[0]])
    for _ in range(3):
        model(tokens, targets=tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert generate_tokens(model, PROMPTS[:2], GREEDY) == generate_tokens(model, PROMPTS[:2], GREEDY, packed=False)
