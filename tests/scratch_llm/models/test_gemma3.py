"""Gemma 3 against transformers, and what is its own: windows, two rotary bases, norms around norms."""

from __future__ import annotations

import pytest
from support.parity import ParityTests

from scratch_llm.generation import SamplingConfig
from scratch_llm.layers import LinearScaling
from scratch_llm.models import Gemma3Config

transformers = pytest.importorskip("transformers")

LOCAL, GLOBAL = "sliding_attention", "full_attention"

# Odd on purpose.  The batch of the parity tests is 23 wide, so all these windows are shorter than a sequence.
CONFIGS = {
    "six-layers": Gemma3Config(
        vocab_size=97, context_length=48, n_layers=6, n_heads=4, n_kv_heads=2, d_model=36, head_dim=10, d_ff=45,
        window=7, query_scalar=12,
    ),
    "untied-linear": Gemma3Config(
        vocab_size=61, context_length=40, n_layers=3, n_heads=3, n_kv_heads=1, d_model=33, head_dim=14, d_ff=37,
        window=5, layer_types=(LOCAL, GLOBAL, LOCAL), rope_theta=500.0, local_rope_theta=90.0, norm_eps=1e-4,
        rope_scaling=LinearScaling(factor=4.0), tie_embeddings=False, bos_token_id=1, eos_token_id=(2, 3), pad_token_id=0,
    ),
    "capped-odd": Gemma3Config(
        vocab_size=53, context_length=40, n_layers=2, n_heads=5, n_kv_heads=5, d_model=25, head_dim=6, d_ff=41,
        window=2, layer_types=(GLOBAL, LOCAL), final_softcap=3.0,
    ),
    "windows-only": Gemma3Config(
        vocab_size=59, context_length=44, n_layers=2, n_heads=2, n_kv_heads=1, d_model=20, d_ff=30, window=20,
    ),
}  # fmt: skip
GREEDY = SamplingConfig(max_new_tokens=70, temperature=0)


class TestParity(ParityTests):
    CONFIGS = CONFIGS
