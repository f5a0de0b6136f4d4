"""How much memory weights, training and generation take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from scratch_llm.analysis.activations import count_activations
from scratch_llm.analysis.shapes import as_shapes
from scratch_llm.models import LanguageModel

_BITS = {"float32": 32, "float16": 16, "bfloat16": 16, "float8": 8, "int8": 8, "int4": 4}


def weight_bytes(model_or_config: LanguageModel | Any, dtype: torch.dtype | str = torch.bfloat16) -> int:
    """Memory of all weights in a dtype, or in "int8" or "int4" without the scales of quantisation."""
    name = str(dtype).removeprefix("torch.")
    if name not in _BITS:
        raise ValueError(f"dtype {name!r} is unknown: use one of {', '.join(_BITS)}")
    return as_shapes(model_or_config).n_parameters() * _BITS[name] // 8


def cache_bytes(
    model_or_config: LanguageModel | Any,
    length: int | None = None,
    batch_size: int = 1,
    dtype: torch.dtype = torch.bfloat16,
) -> int:
    """Memory of the cache for ``length`` tokens (default: the context): keys and values, latents or states.

    It is what ``model.init_cache`` makes, weighed on the meta device.  Multi-head and grouped-query attention keep
    ``2 L K d`` numbers per token, latent attention one latent, a window stops growing, a state never grows.
    """
    return as_shapes(model_or_config).init_cache(batch_size, length, dtype, "meta").n_bytes()


def kv_bytes_per_token(n_layers: int, n_kv_heads: int, head_dim: int, bytes_per_number: int = 2) -> int:
    """``2 L K d`` numbers: a key and a value per layer and key/value head (Shazeer 2019, section 2.4)."""
    return 2 * n_layers * n_kv_heads * head_dim * bytes_per_number


@dataclass(frozen=True)
class Recipe:
    """Bytes per weight that a way of training keeps beside the activations."""

    weights: int
    gradients: int
    optimizer: int
    activations: torch.dtype


RECIPES: dict[str, Recipe] = {
    # AdamW keeps two running means per weight (Kingma and Ba 2015), both float32.
    "float32": Recipe(4, 4, 8, torch.float32),
    # bfloat16 weights and gradients; the optimiser also keeps a float32 master copy: 16 bytes in all
    # (Rajbhandari et al. 2020, ZeRO, section 3.1).
    "mixed": Recipe(2, 2, 12, torch.bfloat16),
    # Everything bfloat16: small updates are lost in 8 bits of precision.  Here to compare, not to use.
    "bfloat16": Recipe(2, 2, 4, torch.bfloat16),
}


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on one device that holds the whole model."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it; kernels' workspaces and the allocator's gaps (commonly 5 to 10 %) come on top."""
        return self.weights + self.gradients + self.optimizer + self.activations


def training_memory(
    model_or_config: LanguageModel | Any,
    micro_batch_size: int,
    context_length: int | None = None,
    *,
    recipe: str = "mixed",
    checkpointing: bool = False,
    trainable: int | None = None,
) -> TrainingMemory:
    """Memory of a training step with AdamW.

    Args:
        micro_batch_size: rows that go forward and backward at once; accumulating more costs nothing more.
        recipe: a key of ``RECIPES``.
        checkpointing: keep only the inputs of the blocks and compute the rest again.
        trainable: number of weights that have gradients and optimiser state; None: all.  The others are frozen (LoRA).
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe {recipe!r} is unknown: use one of {', '.join(RECIPES)}")
    bytes_per, model = RECIPES[recipe], as_shapes(model_or_config)
    total = model.n_parameters()
    trained = total if trainable is None else trainable
    if not 0 < trained <= total:
        raise ValueError(f"trainable is {trained}: it must be from 1 to the model's {total:,} weights")
    counted = count_activations(model.config, micro_batch_size, context_length, dtype=bytes_per.activations)
    return TrainingMemory(
        weights=total * bytes_per.weights,
        gradients=trained * bytes_per.gradients,
        optimizer=trained * bytes_per.optimizer,
        activations=counted.with_checkpointing if checkpointing else counted.total,
    )


def block_activation_bytes(config: Any, bytes_per_number: int = 2) -> int:
    """Activations per token of one block of Llama or GPT-2 with fused kernels, from the shapes alone.

    Llama: the two norms keep their inputs (2 D), the projections theirs (2 D), attention q and k before and after
    rotation, v and its output (3 (H + K) d), SwiGLU gate, up, silu(gate) and their product (4 F).  GPT-2: 2 D + 2 D, q, k
    and v (3 D), the output (D), GELU's input and output (2 F).  To these come float32 statistics: one number per head
    (softmax), one per RMSNorm, two per LayerNorm.

    With F = 4 D GPT-2's block keeps 32 D bytes per token in 16 bits; the 34 of Korthikanti et al. 2022 (section 4.1, without
    the attention matrix) hold two dropout masks besides.

    Raises ValueError for other configurations: count those with ``count_activations``.
    """
    D, F, H, K, d = (getattr(config, name, 0) for name in ("d_model", "d_ff", "n_heads", "n_kv_heads", "head_dim"))
    kind = type(config).__name__
    if kind == "LlamaConfig":
        return bytes_per_number * (4 * D + 3 * (H + K) * d + 4 * F) + 4 * (H + 2)
    if kind == "GPT2Config":
        return bytes_per_number * (8 * D + 2 * F) + 4 * (H + 4)
    raise ValueError(f"there is no closed form for {kind}: use count_activations")

