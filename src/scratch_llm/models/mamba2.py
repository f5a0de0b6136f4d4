"""Mamba-2 (Dao & Gu 2024): Mamba with one decay per head, so that training is matrix products and states can be larger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from scratch_llm.layers.mamba2_mixer import Mamba2Mixer
from scratch_llm.models.config import check_divides, check_positive
from scratch_llm.models.mamba import (
    StateSpaceConfig,
    StateSpaceModel,
    state_space_from_huggingface,
    state_space_to_huggingface,
)
from scratch_llm.models.presets import Sizes, preset, size_table


@dataclass(frozen=True, kw_only=True)
class Mamba2Config(StateSpaceConfig):
    """Shape of a Mamba-2 model."""

    d_state: int = 128
    """Numbers of state per channel inside."""
    head_dim: int = 64
    """Channels that share one decay; divides expand * d_model."""
    n_groups: int = 1
    """Sets of B and C, each shared by equally many heads; divides n_heads."""
    chunk_size: int = 256
    """Tokens per block of matrix products; changes speed, not results (``layers.state_space_duality``)."""
    dt_limit: tuple[float, float] = (0.0, math.inf)
    """What the step sizes are clamped to."""

    def __post_init__(self):
        super().__post_init__()
        self._derive("dt_limit", tuple(float(bound) for bound in self.dt_limit))
        check_positive(self, "head_dim", "n_groups", "chunk_size")
        check_divides(self, "d_inner", "head_dim")
        check_divides(self, "n_heads", "n_groups")
        if len(self.dt_limit) != 2 or not 0.0 <= self.dt_limit[0] < self.dt_limit[1]:
            raise ValueError(f"dt_limit is {self.dt_limit}: it must be a lower bound of at least 0 and an upper one above it")

    @property
    def n_heads(self) -> int:
        """Heads of a layer."""
        return self.d_inner // self.head_dim


MAMBA2_SIZES: Sizes = size_table(
    "n_layers d_model",
    {
        "130m": (24, 768),
        "370m": (48, 1024),
        "780m": (48, 1536),
        "1.3b": (48, 2048),
        "2.7b": (64, 2560),
    },
    vocab_size=50288,
    context_length=2048,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
)
"""Models published with the paper, trained on the Pile: (layers, width).  Dao & Gu 2024, section 9.2 and appendix D."""


def mamba2_preset(size: str, **changes: Any) -> Mamba2Config:
    """The configuration of a published Mamba-2, a name in ``MAMBA2_SIZES``, with some fields changed."""
    return preset("Mamba-2", Mamba2Config, MAMBA2_SIZES, size, changes)


class Mamba2(StateSpaceModel):
    """A Mamba-2 language model; see ``LanguageModel.forward`` for its use."""

    model_type = "mamba2"
    config_class = Mamba2Config

    def make_mixer(self, config: Mamba2Config) -> Mamba2Mixer:
        c = config
        return Mamba2Mixer(
            c.d_model, c.n_heads, c.head_dim, c.n_groups, c.d_state, c.conv_width,
            chunk_size=c.chunk_size, dt_limit=c.dt_limit, norm_eps=c.norm_eps, bias=c.bias, conv_bias=c.conv_bias,
        )  # fmt: skip

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        c = self.config
        channels = c.d_inner + 2 * c.n_groups * c.d_state
        return {"conv": (c.conv_width - 1, channels), "scan": (c.n_heads, c.head_dim, c.d_state)}

    def context_flops_per_token(self, context_length: int) -> int:
        """The recurrence, whatever the context: per number of state 3 for its new value and 2 for the output, 1 per
        channel for delta x and 2 per head for the decay (``clear_ssd``).  The chunks of matrix products by which ``ssd``
        computes the same cost more operations, the more the longer they are; a model's work is counted here, not that."""
        c = self.config
        return c.n_layers * (c.d_inner * (5 * c.d_state + 1) + 2 * c.n_heads)

    def init_mixer(self, mixer: Mamba2Mixer) -> None:
        """Decay rates uniform in [1, 16], as the published models began; norm weights 1."""
        mixer.A_log.copy_(mixer.A_log.new_empty(mixer.n_heads).uniform_(1, 16).log())
        nn.init.ones_(mixer.norm.weight)

    @classmethod
    def mixer_names(cls, config: Mamba2Config) -> dict[str, str]:
        return super().mixer_names(config) | {"dt_bias": "dt_bias", "norm.weight": "norm.weight"}

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> Mamba2Config:
        config = Mamba2Config(
            **state_space_from_huggingface(values, tied=False),
            d_state=values.get("state_size", 128),
            head_dim=values.get("head_dim", 64),
            n_groups=values.get("n_groups", 8),
            chunk_size=values.get("chunk_size", 256),
            dt_limit=tuple(_number(bound) for bound in values.get("time_step_limit") or (0.0, math.inf)),
        )
        if values.get("num_heads", config.n_heads) != config.n_heads:
            raise ValueError(
                f"config.json has num_heads = {values['num_heads']}: expand * hidden_size / head_dim is {config.n_heads}; "
                "copy the checkpoint's config.json again"
            )
        return config

    @classmethod
    def config_to_huggingface(cls, config: Mamba2Config) -> dict[str, Any]:
        # No limit is the reference's default too; it is left out, since JSON has no infinity.
        limit = {} if config.dt_limit == (0.0, math.inf) else {"time_step_limit": [_json(b) for b in config.dt_limit]}
        return state_space_to_huggingface(config) | limit | {
            "architectures": ["Mamba2ForCausalLM"],
            "model_type": "mamba2",
            "num_heads": config.n_heads,
            "head_dim": config.head_dim,
            "n_groups": config.n_groups,
            "chunk_size": config.chunk_size,
        }


# transformers writes {"__float__": "Infinity"}, and before version 5 a bare Infinity.


def _number(bound: Any) -> float:
    return float(bound["__float__"] if isinstance(bound, dict) else bound)


def _json(bound: float) -> Any:
    return {"__float__": "Infinity"} if math.isinf(bound) else bound
