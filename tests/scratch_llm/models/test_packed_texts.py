"""Rows packed with several texts: every model of the family computes as if each text stood alone."""

from __future__ import annotations

import pytest
import torch
from support.tiny_configs import TINY

from scratch_llm.layers.block_attention import block_attention
from scratch_llm.layers.segments import SegmentMask
from scratch_llm.models import build_model
from scratch_llm.peft import PrefixTuned

#: Lengths of the texts in each row; 0s at the end of a row are padding.
ROWS = ((5, 17, 1, 9), (30,), (2, 2, 20))
TRANSFORMERS = sorted(name for name in TINY if name.split("-")[0] not in ("rwkv", "rwkv7", "mamba", "mamba2", "lstm"))


def packed(n_tokens: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    tokens, segments = torch.randint(0, 61, (len(ROWS), n_tokens)), torch.zeros(len(ROWS), n_tokens, dtype=torch.long)
    for row, lengths in enumerate(ROWS):
        at = 0
        for number, length in enumerate(lengths, 1):
            segments[row, at : at + length] = number
            at += length
    return tokens, segments


def pieces(segments: torch.Tensor):
    for row, numbers in enumerate(segments.tolist()):
        for number in range(1, max(numbers) + 1):
            places = [place for place, n in enumerate(numbers) if n == number]
            yield row, slice(places[0], places[-1] + 1)


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("gradients", [True, False])
def test_logits_are_those_of_the_texts_alone(name: str, gradients: bool):
    torch.manual_seed(0)
    model, (tokens, segments) = build_model(TINY[name]).eval(), packed()
    with torch.set_grad_enabled(gradients):
        together = model(tokens, padding_mask=segments)
        for row, place in pieces(segments):
            alone = model(tokens[row : row + 1, place])
            assert torch.allclose(together[row, place], alone[0], atol=2e-5), (name, row, place)
        # A text that moves its neighbours' logits would be seen here: without segments it does.
        assert not torch.allclose(model(tokens)[0, 5:22], together[0, 5:22], atol=1e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text", "deepseek_v3"])
def test_gradients_are_the_sum_of_the_texts(name: str):
    torch.manual_seed(0)
    model, (tokens, segments) = build_model(TINY[name]).eval(), packed()
    targets = torch.where(segments > 0, tokens.roll(-1, 1), -100)
    n_targets = int((targets != -100).sum())
    model(tokens, padding_mask=segments, targets=targets).backward()
    together = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row, place in pieces(segments):
        loss = model(tokens[row : row + 1, place], targets=targets[row : row + 1, place])
        (loss * (place.stop - place.start) / n_targets).backward()
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(together[key], parameter.grad, atol=2e-5), key


def test_zeros_and_ones_of_any_type_mean_padding():
    model, (tokens, segments) = build_model(TINY["llama"]).eval(), packed()
    real = segments[1:2] > 0
    assert torch.allclose(model(tokens[1:2], padding_mask=real.long())[0, :30], model(tokens[1:2], padding_mask=real)[0, :30], atol=1e-5)


@pytest.mark.parametrize("window", [None, 40])
def test_blocks_read_only_their_own_texts(window: int | None):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, heads, 300, 8, requires_grad=True) for heads in (4, 2, 2))
    segments = torch.zeros(2, 300, dtype=torch.long)
    segments[0, 100:] = 1
    segments[1, 120:] = 1
    segments[1, 290:] = 2
    mask = SegmentMask.of(segments)
    assert mask.earliest[128] == 100 and mask.earliest[99] == 0 and mask.earliest[299] == 100
    y = block_attention(q, k, v, window=window, segments=mask)
    keys, values = (part.repeat_interleave(2, dim=1) for part in (k, v))
    scores = (q @ keys.transpose(-1, -2) / 8**0.5).masked_fill(~mask.dense(window), float("-inf"))
    clear = scores.softmax(-1) @ values
    assert torch.allclose(y, clear, atol=1e-5)
    weights = torch.randn_like(y)
    for mine, theirs in zip(torch.autograd.grad((y * weights).sum(), (q, k, v)), torch.autograd.grad((clear * weights).sum(), (q, k, v))):
        assert torch.allclose(mine, theirs, atol=1e-4)


def test_numbers_that_return_are_new_texts():
    mask = SegmentMask.of(torch.tensor([[1, 1, 2, 1, 1]]))
    assert mask.positions_BT.tolist() == [[0, 1, 0, 0, 1]]
    assert mask.dense()[0, 0].long().tolist() == [
        [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["mamba", "rwkv", "lstm"])
def test_a_recurrent_model_says_that_it_cannot(name: str):
    tokens, segments = packed()
    with pytest.raises(ValueError, match="a row of its own"):
        build_model(TINY[name])(tokens, padding_mask=segments)


def test_neither_with_a_prefix_nor_with_a_cache():
    tokens, segments = packed()
    model = build_model(TINY["llama"])
    with pytest.raises(ValueError, match="a row of its own"):
        model(tokens, padding_mask=segments, cache=model.init_cache(len(tokens)))
    with pytest.raises(ValueError, match="a row of its own"):
        PrefixTuned(model, 3)(tokens, padding_mask=segments)


def test_one_token_a_row():
    model = build_model(TINY["llama"]).eval()
    token = torch.tensor([[7]])
    assert torch.equal(model(token, padding_mask=torch.tensor([[3]])), model(token))
