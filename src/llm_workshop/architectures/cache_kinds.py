"""The caches of the attention lab, built for real and held against the formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from scratch_llm.layers import KVCache, SlidingKVCache
from scratch_llm.layers.latent_cache import LatentCache


def built_bytes(L: int, H: int, K: int, d: int, W: int, c: int, r: int, n_tokens: int) -> list[int]:
    """Bytes that our caches take for one text of ``n_tokens`` in bfloat16: MHA, GQA, MQA, GQA with a window W, MLA.

    L layers, H query heads, K key/value heads of width d; c and r are MLA's latent and rotary widths.
    """
    options = {"dtype": torch.bfloat16, "device": "meta"}
    caches = [KVCache(L, 1, heads, n_tokens, d, **options) for heads in (H, K, 1)]
    caches.append(SlidingKVCache([W] * L, 1, K, n_tokens, d, **options))
    caches.append(LatentCache(L, 1, n_tokens, c, r, **options))
    return [cache.n_bytes() for cache in caches]


def cache_rows(
    kinds: Iterable[str], formula: Callable[[str, int], int], built: Iterable[int], n_tokens: int
) -> list[dict[str, Any]]:
    """A table row per kind: ``formula(kind, tokens)`` in bytes, and how much ``built`` at ``n_tokens`` is of it."""
    return [
        {"방식": kind, "토큰 하나 (KiB)": formula(kind, 1) / 1024, "8천 토큰 (GiB)": round(formula(kind, 8192) / 2**30, 3),
         "12만 8천 토큰 (GiB)": round(formula(kind, 131_072) / 2**30, 3), "우리 캐시 / 식": round(n_bytes / formula(kind, n_tokens), 2)}
        for kind, n_bytes in zip(kinds, built, strict=True)
    ]
