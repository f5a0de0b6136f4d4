"""Building blocks of the models.

Shape suffixes, used for tensor names in all rooms that hold a model:

    B  batch            T  time (positions fed now)     S  positions attended to (cache and now)
    D  d_model          F  d_ff                         V  vocab_size
    H  n_heads          K  n_kv_heads                   G  query heads per key/value head (H = K * G)
    d  head_dim         N  B * T, rows flattened
"""

from scratch_llm.layers.attention import GroupedQueryAttention
from scratch_llm.layers.block_attention import block_attention
from scratch_llm.layers.cache import Cache
from scratch_llm.layers.feed_forward import GeGLU, GELUFeedForward, SwiGLU
from scratch_llm.layers.kv_cache import GrowingKVCache, KVCache
from scratch_llm.layers.latent_attention import LatentAttention
from scratch_llm.layers.latent_cache import LatentCache
from scratch_llm.layers.loss import linear_cross_entropy
from scratch_llm.layers.mixture_of_experts import Experts, MixtureOfExperts
from scratch_llm.layers.norms import LayerNorm, RMSNorm
from scratch_llm.layers.rope_scaling import LinearScaling, Llama3Scaling, RopeScaling, YarnScaling
from scratch_llm.layers.rotary import apply_rotary, half_to_interleaved, interleaved_to_half, rotary_tables
from scratch_llm.layers.routing import SigmoidRouter, SoftmaxRouter
from scratch_llm.layers.sliding_cache import SlidingKVCache
from scratch_llm.layers.state_cache import StateCache

__all__ = [
    "Cache",
    "Experts",
    "GELUFeedForward",
    "GeGLU",
    "GroupedQueryAttention",
    "GrowingKVCache",
    "KVCache",
    "LatentAttention",
    "LatentCache",
    "LayerNorm",
    "LinearScaling",
    "Llama3Scaling",
    "MixtureOfExperts",
    "RMSNorm",
    "RopeScaling",
    "SigmoidRouter",
    "SlidingKVCache",
    "SoftmaxRouter",
    "StateCache",
    "SwiGLU",
    "YarnScaling",
    "apply_rotary",
    "block_attention",
    "half_to_interleaved",
    "interleaved_to_half",
    "linear_cross_entropy",
    "rotary_tables",
]
