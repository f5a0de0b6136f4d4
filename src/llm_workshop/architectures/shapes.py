"""One configuration of each architecture, all with the same number of parameters."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from scratch_llm.models import (
    DeepseekV3Config,
    LlamaConfig,
    LSTMConfig,
    MambaConfig,
    RWKV4Config,
    build_model,
)

HEAD_DIM = 32


@dataclass(frozen=True)
class Architecture:
    """How an architecture is scaled."""

    title: str
    """Name in tables and plots."""
    make: Callable[..., Any]
    """(width, inner width or None, fields that all share) -> configuration."""
    width_step: int
    """Widths are multiples of it."""
    inner_step: int | None = None
    """Inner widths are multiples of it; None: the architecture has no inner width to turn."""


def _transformer(width: int, inner: int | None, shared: dict) -> LlamaConfig:
    heads = width // HEAD_DIM
    return LlamaConfig(**shared, d_model=width, d_ff=inner, n_heads=heads, n_kv_heads=heads // 2 if heads % 2 == 0 else heads)


def _lstm(width: int, inner: int | None, shared: dict) -> LSTMConfig:
    # Depth helps an LSTM less than width: two layers, as in Merity et al. 2018, whatever the others have.
    return LSTMConfig(**shared | {"n_layers": min(2, shared["n_layers"])}, d_model=width, output_norm=True)


def _mamba(width: int, inner: int | None, shared: dict) -> MambaConfig:
    # A block has no feed-forward network, so two stand where a Transformer has one (Gu and Dao 2023, section 3.4).
    return MambaConfig(**shared | {"n_layers": 2 * shared["n_layers"]}, d_model=width)


def _rwkv(width: int, inner: int | None, shared: dict) -> RWKV4Config:
    return RWKV4Config(**shared, d_model=width, d_ff=inner, tie_embeddings=True)


def _moe_mla(width: int, inner: int | None, shared: dict) -> DeepseekV3Config:
    return DeepseekV3Config(
        **shared, d_model=width, n_heads=max(1, width // HEAD_DIM), d_ff=4 * (inner or width // 2), expert_d_ff=inner or width // 2,
        n_experts=8, n_experts_per_token=2, n_shared_experts=1, n_dense_layers=1, tie_embeddings=True,
        kv_lora_rank=max(16, width // 4), qk_nope_head_dim=HEAD_DIM, qk_rope_head_dim=HEAD_DIM // 2, v_head_dim=HEAD_DIM)


ARCHITECTURES = {
    "transformer": Architecture("Transformer", _transformer, HEAD_DIM, 8),
    "lstm": Architecture("LSTM", _lstm, 4),
    "mamba": Architecture("Mamba", _mamba, 4),
    "rwkv": Architecture("RWKV-4", _rwkv, 16, 16),
    "moe-mla": Architecture("MoE + MLA", _moe_mla, HEAD_DIM, 8),
}


def check_architectures(names: tuple[str, ...]) -> None:
    """ValueError for no name, a name twice, or one that is not in the table."""
    if not names or len(set(names)) < len(names):
        raise ValueError(f"compare.models is '{','.join(names)}': name each architecture once, of {', '.join(ARCHITECTURES)}")
    for name in names:
        if name not in ARCHITECTURES:
            raise ValueError(f"unknown architecture '{name}' in compare.models: use {', '.join(ARCHITECTURES)}")


def report_name(names: Sequence[str]) -> str:
    """``week04-compare`` for all architectures; a comparison of some has a report of its own and leaves that one as it is."""
    if set(names) == set(ARCHITECTURES):
        return "week04-compare"
    return "-".join(("week04-compare", *names))


def equal_config(name: str, n_parameters: int, **shared: Any) -> Any:
    """The configuration of an architecture whose model has the number of parameters nearest to ``n_parameters``.

    ``shared``: vocab_size, context_length, n_layers and the like.  First the width is chosen, then, where there is
    one, the inner width.  Models are built on the meta device, so nothing is allocated.
    ValueError where even the narrowest model is more than a tenth too large.
    """
    kind = ARCHITECTURES[name]

    def nearest(configure: Callable[[int], Any], step: int) -> int:
        """The multiple of ``step`` that comes nearest; the count grows with it."""
        sizes = range(step, 2**20 * step, step)
        place = bisect.bisect_left(sizes, n_parameters, key=lambda size: count(configure(size)))
        return min(sizes[max(0, place - 1)], sizes[place], key=lambda size: abs(count(configure(size)) - n_parameters))

    width = nearest(lambda size: kind.make(size, None, shared), kind.width_step)
    config = kind.make(width, None, shared)
    if kind.inner_step:
        inner = nearest(lambda size: kind.make(width, size, shared), kind.inner_step)
        config = kind.make(width, inner, shared)
    if count(config) > 1.1 * n_parameters:
        raise ValueError(
            f"the narrowest {kind.title} with this vocabulary has {count(config):,} parameters: compare.parameters of "
            f"{n_parameters:,} is too few; give at least {count(config):,}, or a smaller tokenizer.vocab_size")
    return config


def count(config: Any) -> int:
    """Parameters of a configuration's model."""
    with torch.device("meta"):
        return build_model(config).n_parameters()
