"""Caches of keys and values: three kinds, each the same function as no cache, and what each of them costs."""

from __future__ import annotations

import sys

import pytest
import torch
from support.parity import spread_out

from scratch_llm.generation import Decoder, SamplingConfig, clear_generate_tokens, generate_tokens
from scratch_llm.layers import GrowingKVCache, KVCache, SlidingKVCache
from scratch_llm.layers.sliding_cache import MIN_SPARE
from scratch_llm.models import Gemma3Config, LlamaConfig, build_model

LENGTH = 96
SHAPE = {"vocab_size": 61, "context_length": LENGTH, "n_heads": 4, "d_model": 24, "d_ff": 40}
LOCAL, GLOBAL = "sliding_attention", "full_attention"
CONFIGS = {
    "multi-head": LlamaConfig(**SHAPE, n_layers=2),
    "multi-query": LlamaConfig(**SHAPE, n_layers=2, n_kv_heads=1),
    "windows": Gemma3Config(**SHAPE, n_layers=3, n_kv_heads=2, window=9, layer_types=(LOCAL, GLOBAL, LOCAL)),
    "window of 1": Gemma3Config(**SHAPE, n_layers=2, n_kv_heads=2, window=1),
    "long window": Gemma3Config(**SHAPE, n_layers=2, n_kv_heads=1, window=40, layer_types=(GLOBAL, LOCAL)),
    "window beyond the cache": Gemma3Config(**SHAPE, n_layers=2, n_kv_heads=1, window=200),
}
KINDS = ("growing", "preallocated", "sliding")


@pytest.fixture(params=CONFIGS, scope="module")
def model(request):
    return spread_out(build_model(CONFIGS[request.param], seed=0))


def cache_of(kind: str, model, batch_size: int = 3, max_length: int = LENGTH, **options):
    c = model.config
    windows = getattr(c, "windows", (None,) * c.n_layers)
    if kind == "sliding":
        return SlidingKVCache(windows, batch_size, c.n_kv_heads, max_length, c.head_dim, **options)
    cache = {"growing": GrowingKVCache, "preallocated": KVCache}[kind]
    return cache(c.n_layers, batch_size, c.n_kv_heads, max_length, c.head_dim, **options)


def tokens_and_padding(side: str):
    """Tokens (3, 96); real ones begin late, end early, or have holes in the middle of some rows."""
    tokens = torch.randint(0, 61, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    real = torch.ones(3, LENGTH, dtype=torch.bool)
    if side == "left":
        real[1, :5], real[2, :31] = False, False
    if side == "right":
        real[1, 80:], real[2, 33:] = False, False
    if side == "holes":
        real[0, 30:34], real[1, 4:30], real[2, 12:14], real[2, 40:75] = False, False, False, False
    return tokens, None if side == "none" else real


PIECES = {
    "one by one": [1] * LENGTH,
    "all at once": [LENGTH],
    "prompt, then steps": [34, *[1] * (LENGTH - 34)],
    "pieces": [3, 1, 1, 28, 1, 7, 2, 1, 1, 40, 5, 1, 5],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["none", "left", "right", "holes"])
@pytest.mark.parametrize("pieces", PIECES)
@torch.inference_mode()
def test_every_cache_equals_no_cache(model, kind, side, pieces):
    """Logits of all real tokens, and those of a padded row are the ones it gives alone."""
    tokens, real = tokens_and_padding(side)
    expected = model(tokens, padding_mask=real)
    cache, got, start = cache_of(kind, model), [], 0
    for length in PIECES[pieces]:
        part = slice(start, start + length)
        mask = None if real is None or real[:, part].all() else real[:, part]
        got.append(model(tokens[:, part], cache=cache, padding_mask=mask))
        start += length
    assert sum(PIECES[pieces]) == cache.length == LENGTH
    keep = torch.ones(3, LENGTH, dtype=torch.bool) if real is None else real
    torch.testing.assert_close(torch.cat(got, 1)[keep], expected[keep], atol=1e-5, rtol=1e-5)
    if real is not None:
        for row in range(3):
            alone = model(tokens[row, real[row]][None])[0]
            torch.testing.assert_close(torch.cat(got, 1)[row, real[row]], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_cache_can_be_used_again(model, kind):
    tokens, real = tokens_and_padding("holes")
    cache = cache_of(kind, model)
    model(tokens, cache=cache, padding_mask=real)
    cache.reset()
    assert cache.length == 0
    whole = model(tokens)
    got = [model(tokens[:, :40], cache=cache), *(model.step(tokens[:, t], cache)[:, None] for t in range(40, 70))]
    torch.testing.assert_close(torch.cat(got, 1), whole[:, :70], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_replaced_rows_go_on_from_what_the_other_cache_holds(model, kind):
    """A row gets another text, computed apart; the others go on; then what nobody needs any more is given up."""
    tokens, real = tokens_and_padding("left")
    new = torch.randint(0, 61, (2, 20), generator=torch.Generator().manual_seed(2))
    cache, fresh = cache_of(kind, model, max_length=60), cache_of(kind, model, 2, 20)
    model(tokens[:, :40], cache=cache, padding_mask=real[:, :40])
    model(new, cache=fresh)
    cache.replace_rows([0, 1], fresh)
    texts = [new[0], new[1], tokens[2, 31:40]]
    n_slots = cache.length
    cache.compact()
    assert cache.length == 20 < n_slots
    for step in range(40, 70):
        logits = model.step(tokens[:, step], cache)
        texts = [torch.cat((text, tokens[row, step : step + 1])) for row, text in enumerate(texts)]
        for row, text in enumerate(texts):
            torch.testing.assert_close(logits[row], model(text[None])[0, -1], atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:the prompt has")
@pytest.mark.parametrize("stride", [None, 1, 30])
def test_generation_past_the_context(stride):
    """Rows of different lengths slide at different steps, with windows that are shorter than what slides."""
    config = Gemma3Config(
        **SHAPE | {"context_length": 30}, n_layers=3, n_kv_heads=2, window=5, layer_types=(LOCAL, GLOBAL, LOCAL)
    )
    model = spread_out(build_model(config, seed=0))
    prompts = [[3, 4, 5], list(range(30)), list(range(40)), [7]]
    sampling = SamplingConfig(max_new_tokens=80, temperature=1.5, seed=5)
    batch = generate_tokens(model, prompts, sampling, stop_ids=(), stride=stride)
    for number, (row, prompt) in enumerate(zip(batch, prompts)):
        alone = SamplingConfig(max_new_tokens=80, temperature=1.5, seed=5 + number)
        assert row == clear_generate_tokens(model, prompt, alone, stop_ids=(), stride=stride)
        assert len(set(row)) > 9


# -- what they cost ---------------------------------------------------------------------------------------------------


def test_a_layer_with_a_window_takes_memory_for_its_window_only():
    config = Gemma3Config(**SHAPE | {"context_length": 4096}, n_layers=6, n_kv_heads=2, window=64)
    model = build_model(config).eval()
    sliding, whole = model.init_cache(2), cache_of("preallocated", model, 2, 4096)
    slot = 2 * 2 * config.n_kv_heads * config.head_dim * 4
    assert whole.n_bytes() == 6 * 4096 * slot
    # Five layers of 63 tokens and MIN_SPARE, one of 4096.
    assert sliding.n_bytes() == (5 * (64 - 1 + MIN_SPARE) + 4096) * slot < 0.2 * whole.n_bytes()
    assert sum(t.untyped_storage().nbytes() for t in sliding.tensors()) == sliding.n_bytes()
    with torch.inference_mode():
        model(torch.zeros(2, 3000, dtype=torch.long), cache=sliding)
    assert sliding.n_bytes() < 0.2 * whole.n_bytes()


def test_heads_that_share_keys_share_memory():
    sizes = {}
    for n_kv_heads in (4, 2, 1):
        model = build_model(LlamaConfig(**SHAPE, n_layers=2, n_kv_heads=n_kv_heads))
        sizes[n_kv_heads] = model.init_cache(3).n_bytes()
    assert sizes[4] == 2 * sizes[2] == 4 * sizes[1]


def test_the_growing_cache_holds_what_it_has_seen_and_no_more():
    model = build_model(CONFIGS["multi-head"]).eval()
    cache, per_token = cache_of("growing", model), 2 * 2 * 3 * 24 * 4
    assert cache.n_bytes() == 0
    with torch.inference_mode():
        for n_tokens in (5, 6, 7):
            model(torch.zeros(3, n_tokens - cache.length, dtype=torch.long), cache=cache)
            assert cache.n_bytes() == n_tokens * per_token


def test_a_step_reads_no_more_than_the_window():
    """What ``write`` returns is what attention reads: 9 keys, however long the text."""
    model = build_model(CONFIGS["windows"]).eval()
    cache = model.init_cache(1)
    k = torch.zeros(1, 2, 1, 6)
    for n_tokens in range(1, LENGTH + 1):
        cache.begin(1, 1, None)
        assert cache.window_mask(9, 1) is None
        lengths = [cache.write(layer, k, k)[0].shape[2] for layer in range(3)]
        cache.advance(1)
        assert lengths == [min(n_tokens, 9), n_tokens, min(n_tokens, 9)]


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_bfloat16_caches_stay_near(model, kind):
    tokens, real = tokens_and_padding("left")
    model = build_model(model.config, seed=0).bfloat16().eval()
    exact = model(tokens, padding_mask=real)
    for dtype in (torch.bfloat16, torch.float32):
        cache = cache_of(kind, model, dtype=dtype)
        assert {tensor.dtype for tensor in cache.tensors()} == {dtype}
        got = [model(tokens[:, :34], cache=cache, padding_mask=real[:, :34])]
        got += [model(tokens[:, t : t + 1], cache=cache) for t in range(34, LENGTH)]
        difference = (torch.cat(got, 1) - exact).float()[real].abs()
        assert difference.mean() < 0.02 * exact.float().abs().mean() + 0.005


@pytest.mark.parametrize("name", ["multi-head", "windows"])
@pytest.mark.parametrize("side", ["none", "left"])
@torch.inference_mode()
def test_rows_are_widened_in_groups(monkeypatch, name, side):
    """One query per row: the same logits for all rows at once and for two or one at a time, with padding and without."""
    model = build_model(CONFIGS[name], seed=0).bfloat16().eval()
    tokens, real = tokens_and_padding(side)
    logits, group_sizes = [], []
    in_groups = KVCache.in_groups

    def watch(cache, *keys_and_values):
        groups = list(in_groups(cache, *keys_and_values))
        group_sizes.append(len(groups))
        assert sum(len(keys) for _, keys, _ in groups) == len(tokens) and {k.dtype for _, k, _ in groups} == {torch.float32}
        return in_groups(cache, *keys_and_values)

    monkeypatch.setattr(KVCache, "in_groups", watch)
    for n_bytes in (1 << 22, 20_000, 1):
        monkeypatch.setattr(sys.modules[KVCache.__module__], "WIDENED_BYTES", n_bytes)
        cache = model.init_cache(len(tokens))
        model(tokens[:, :30], cache=cache, padding_mask=None if real is None else real[:, :30])
        logits.append(torch.cat([model(tokens[:, t : t + 1], cache=cache) for t in range(30, LENGTH)], 1))
    assert min(group_sizes) == 1 and max(group_sizes) == len(tokens) == 3
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


# -- what they refuse -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_errors(model, kind):
    with pytest.raises(ValueError, match="batch_size 0 and max_length 8"):
        cache_of(kind, model, 0, 8)
    with pytest.raises(ValueError, match="batch_size 2 and max_length 0"):
        cache_of(kind, model, 2, 0)
    cache, tokens = cache_of(kind, model, 2, 8), torch.zeros(2, 6, dtype=torch.long)
    with torch.inference_mode():
        before = model(tokens, cache=cache)
        with pytest.raises(ValueError, match=r"holds 8 positions, 6 are taken and 6 more do not fit.*init_cache"):
            model(tokens, cache=cache)
        with pytest.raises(ValueError, match=r"3 rows but the cache was made for 2: call init_cache\(batch_size=3\)"):
            model(torch.zeros(3, 1, dtype=torch.long), cache=cache)
        assert cache.length == 6
        # A refused call changes nothing.
        whole = model(torch.zeros(2, 7, dtype=torch.long))
        torch.testing.assert_close(model.step(tokens[:, 0], cache), whole[:, 6], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(before, whole[:, :6], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [0, -3, 2.5, True, "8"])
def test_windows_that_show_nothing(window):
    with pytest.raises(ValueError, match=r"window is .*: it must be a whole number of at least 1") as caught:
        SlidingKVCache([None, window], 1, 1, 8, 4)
    assert "\n" not in str(caught.value)


def test_the_decoder_takes_the_sliding_cache():
    model = build_model(CONFIGS["windows"]).eval()
    assert isinstance(Decoder(model, [[1, 2]], 8).cache, SlidingKVCache)
