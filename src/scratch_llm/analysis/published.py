"""Shapes of published models, to be counted without downloading them, and the sizes that their makers state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from scratch_llm.models import (
    deepseek_v3_preset,
    gemma3_preset,
    gpt2_preset,
    llama_preset,
    mamba_preset,
    qwen3_moe_preset,
    qwen3_preset,
)


@dataclass(frozen=True)
class Published:
    """A model's shape, and what its makers say of its size."""

    make_config: Callable[[], Any]
    """Gives our configuration."""
    parameters: int
    """Weights in the checkpoint, tied ones once."""
    active: float | None = None
    """Weights per token as published, where not all work on each token."""


PUBLISHED: dict[str, Published] = {
    "GPT-2 124M": Published(partial(gpt2_preset, "124M"), 124_439_808),
    "GPT-2 355M": Published(partial(gpt2_preset, "355M"), 354_823_168),
    "GPT-2 774M": Published(partial(gpt2_preset, "774M"), 774_030_080),
    "GPT-2 1558M": Published(partial(gpt2_preset, "1558M"), 1_557_611_200),
    "Llama 2 7B": Published(partial(llama_preset, "2-7b"), 6_738_415_616),
    "Llama 2 70B": Published(partial(llama_preset, "2-70b"), 68_976_648_192),
    "Llama 3.1 8B": Published(partial(llama_preset, "3.1-8b"), 8_030_261_248),
    "Llama 3.1 70B": Published(partial(llama_preset, "3.1-70b"), 70_553_706_496),
    "Llama 3.2 1B": Published(partial(llama_preset, "3.2-1b"), 1_235_814_400),
    "Llama 3.2 3B": Published(partial(llama_preset, "3.2-3b"), 3_212_749_824),
    "Qwen3 0.6B": Published(partial(qwen3_preset, "0.6b"), 596_049_920),
    "Qwen3 8B": Published(partial(qwen3_preset, "8b"), 8_190_735_360),
    "Qwen3 30B-A3B": Published(partial(qwen3_moe_preset, "30B-A3B"), 30_532_122_624, 3.3e9),
    "Gemma 3 1B": Published(partial(gemma3_preset, "1b"), 999_885_952),
    "Mamba 130M": Published(partial(mamba_preset, "130m"), 129_135_360),
    # The model itself.  The checkpoint also holds a layer that predicts the token after the next, about 14 B more, and the
    # routers' biases (58 x 256), which no gradient learns.
    "DeepSeek-V3": Published(partial(deepseek_v3_preset, "671B"), 671_026_404_352, 37e9),
}


def published_config(name: str) -> Any:
    """Our configuration of a published model, a name in ``PUBLISHED``."""
    if name not in PUBLISHED:
        raise ValueError(f"no published model {name!r}: use one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name].make_config()
