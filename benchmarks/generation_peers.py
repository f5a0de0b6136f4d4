"""How the peers of ``generation.py`` beside transformers generate: by their own cached generation, greedy.

Their weights are random: speed depends on the shape alone.  What is measured is their own code:

litgpt             ``generate`` for one prompt, ``batched_generate_fn`` for several
llms-from-scratch  ``kv_cache.generate.generate_text_simple``, which takes prompts of equal length together, faster than
                   its ``kv_cache_batched``; no GPT-2: version 1.0.19 masks the wrong dimension once there is a cache
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from contenders import OURS, Contender, contenders, fill, llms_from_scratch_values
from shapes import config_of
from torch import Tensor, nn

# prompts (B, T), number of new tokens N -> new tokens (B, N)
Generate = Callable[[Tensor, int], Tensor]
LEFT_OUT = (OURS, "transformers")  # generation.py runs these itself
WITHOUT_CACHE = (("llms-from-scratch", "gpt2"),)


def generation_peers(family: str, size: str) -> tuple[list[Contender], list[Contender]]:
    """(those that can run, those whose package is not installed)."""
    there, missing = ([one for one in side if one.who not in LEFT_OUT and (one.who, family) not in WITHOUT_CACHE]
                      for side in contenders([family], [size]))
    return there, missing


def generator_of(contender: Contender, dtype: torch.dtype) -> Generate:
    """A new model of litgpt or llms-from-scratch, and how it generates."""
    if contender.who == "litgpt":
        return partial(litgpt_generate, contender.build()[0].to(dtype).eval())
    model = cached_model(contender.family, config_of(contender.family, contender.size), dtype)
    return partial(llms_from_scratch_generate, model)


@torch.inference_mode()
def litgpt_generate(model: nn.Module, prompts: Tensor, n_tokens: int) -> Tensor:
    from litgpt.generate.base import batched_generate_fn, generate

    batch_size, length = prompts.shape
    cache = model.transformer.h[0].attn.kv_cache
    if cache is None or cache.k.shape[0] != batch_size or model.max_seq_length != length + n_tokens:
        model.max_seq_length = length + n_tokens
        model.set_kv_cache(batch_size, dtype=model.lm_head.weight.dtype)
    if batch_size == 1:
        return generate(model, prompts[0], length + n_tokens, temperature=0.0, include_prompt=False)[None]
    steps = batched_generate_fn(model, prompts, length + n_tokens, sample_args={"temperature": 0.0},
                                include_prompt=False, include_eos=True)
    return torch.stack([torch.cat(step) for step in steps], dim=1)


@torch.inference_mode()
def llms_from_scratch_generate(model: nn.Module, prompts: Tensor, n_tokens: int) -> Tensor:
    from llms_from_scratch.kv_cache.generate import generate_text_simple

    return generate_text_simple(model, prompts, n_tokens)[:, prompts.shape[1]:]


def cached_model(family: str, config, dtype: torch.dtype) -> nn.Module:
    """The model of llms-from-scratch that keeps keys and values."""
    if family == "llama":
        from llms_from_scratch.kv_cache.llama3 import Llama3Model as Model
    else:
        from llms_from_scratch.kv_cache.qwen3 import Qwen3Model as Model
    return fill(Model(llms_from_scratch_values(family, config, dtype))).eval()
