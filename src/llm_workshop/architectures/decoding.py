"""What one more token costs, and what the cache weighs, as the context grows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import torch

from scratch_llm.generation import pack
from scratch_llm.models import LanguageModel

CHUNK = 512


@torch.inference_mode()
def decode_cost(
    model: LanguageModel, contexts: Sequence[int], steps: int = 12, rounds: int = 3
) -> list[dict[str, Any]]:
    """Rows {context, milliseconds, cache_bytes}: time per token and cache size after ``context`` tokens of one row.

    The same weights, shape and cache are used throughout; positions beyond the trained context cost what they would in
    a model trained on them (the text it would write is of no interest here).  The time is the fastest quarter's slowest
    of ``steps``, in the best of ``rounds`` that each go through all contexts: what else runs on the machine only ever adds
    to it, and a busy second should not hit one context alone.
    """
    contexts = sorted(contexts)
    n_slots = contexts[-1] + steps * len(contexts)
    model = longer(model, n_slots)
    packed = pack(model, 1)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.config.vocab_size, (1, contexts[-1]), generator=generator).to(model.device)
    cache = model.init_cache(1, n_slots)
    fastest = dict.fromkeys(contexts, float("inf"))
    for _ in range(rounds):
        cache.reset()
        for context in contexts:
            while cache.length < context:
                end = min(context, cache.length + CHUNK)
                packed.hidden_states(tokens[:, cache.length : end], cache, None)
            seconds = sorted(_one_step(packed, tokens[:, 0], cache) for _ in range(steps))
            fastest[context] = min(fastest[context], seconds[steps // 4])
    return [
        {"context": context, "milliseconds": seconds * 1e3, "cache_bytes": cache_bytes(model, context)}
        for context, seconds in fastest.items()
    ]


def _one_step(model: LanguageModel, tokens_B: torch.Tensor, cache: Any) -> float:
    start = time.perf_counter()
    model.logits(model.hidden_states(tokens_B[:, None], cache, None)[:, 0])
    if tokens_B.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def cache_bytes(model: LanguageModel, context: int) -> int:
    """Bytes that one row of ``context`` tokens takes."""
    return model.init_cache(1, context, device="meta").n_bytes()


def longer(model: LanguageModel, context_length: int) -> LanguageModel:
    """The same weights with room for more positions; a recurrent model needs none."""
    if model.recurrent or model.config.context_length >= context_length:
        return model
    with torch.device("meta"):
        twin = type(model)(dataclasses.replace(model.config, context_length=context_length))
    twin.load_state_dict(model.state_dict(), assign=True)
    twin.init_buffers()
    return twin.eval()
