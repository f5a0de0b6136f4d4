"""Mamba (Gu & Dao 2023): no attention and no feed-forward network, but one kind of layer around a selective scan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scratch_llm.layers.mamba_mixer import MambaMixer
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.layers.state_cache import StateCache
from scratch_llm.layers.token_shift import Padding
from scratch_llm.models.config import (
    ModelConfig,
    check_above_zero,
    check_positive,
    common_from_huggingface,
    common_to_huggingface,
)
from scratch_llm.models.presets import Sizes, preset, size_table
from scratch_llm.models.recurrent import RecurrentModel
from scratch_llm.weights.rules import Rule, refuse_unless


@dataclass(frozen=True, kw_only=True)
class StateSpaceConfig(ModelConfig):
    """Fields that Mamba and Mamba-2 share.  ``context_length`` is the length trained on; the state has no limit."""

    d_state: int
    """Numbers of state per channel inside."""
    expand: int = 2
    """Channels inside a layer, as a multiple of d_model."""
    conv_width: int = 4
    """Tokens that the causal convolution sees."""
    bias: bool = False
    """Biases in the projections into and out of a layer."""
    conv_bias: bool = True
    """Bias in the convolution."""
    residual_in_float32: bool = True
    """Sum up the residual stream in float32 whatever the dtype of the weights."""
    dt_min: float = 0.001
    """Step sizes begin log-uniform between this ..."""
    dt_max: float = 0.1
    """... and this,"""
    dt_floor: float = 1e-4
    """but no smaller than this."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "d_state", "expand", "conv_width")
        check_above_zero(self, "dt_min", "dt_max", "dt_floor")
        if self.conv_width < 2:
            raise ValueError(f"conv_width is {self.conv_width}: it must be at least 2 to see a token before the current one")
        if self.dt_min > self.dt_max:
            raise ValueError(f"dt_min is {self.dt_min}: it must not be above dt_max, {self.dt_max}")

    @property
    def d_inner(self) -> int:
        """Channels inside a layer."""
        return self.expand * self.d_model


@dataclass(frozen=True, kw_only=True)
class MambaConfig(StateSpaceConfig):
    """Shape of a Mamba model."""

    d_state: int = 16
    """Numbers of state per channel inside."""
    dt_rank: int | None = None
    """Width of the bottleneck through which the step sizes are computed.  None: d_model / 16, rounded up."""

    def __post_init__(self):
        super().__post_init__()
        if self.dt_rank is None:
            self._derive("dt_rank", -(-self.d_model // 16))
        check_positive(self, "dt_rank")


MAMBA_SIZES: Sizes = size_table(
    "n_layers d_model",
    {
        "130m": (24, 768),
        "370m": (48, 1024),
        "790m": (48, 1536),
        "1.4b": (48, 2048),
        "2.8b": (64, 2560),
    },
    vocab_size=50280,
    context_length=2048,
    bos_token_id=0,
    eos_token_id=0,
    pad_token_id=0,
)
"""Models published with the paper, trained on the Pile: (layers, width).  Gu & Dao 2023, section 4.2 and appendix E.2."""


def mamba_preset(size: str, **changes: Any) -> MambaConfig:
    """The configuration of a published Mamba, a name in ``MAMBA_SIZES``, with some fields changed."""
    return preset("Mamba", MambaConfig, MAMBA_SIZES, size, changes)


class StateSpaceBlock(nn.Module):
    """``x + mixer(norm(x))``"""

    def __init__(self, norm: RMSNorm, mixer: nn.Module):
        super().__init__()
        self.norm, self.mixer = norm, mixer

    def forward(self, x_BTD: Tensor, state: dict[str, Tensor], padding: Padding | None) -> Tensor:
        """(B, T, D) -> (B, T, D); ``state`` as in the mixer."""
        return x_BTD + self.mixer(self.norm(x_BTD), state, None if padding is None else padding.real_BT)


class StateSpaceModel(RecurrentModel):
    """What Mamba and Mamba-2 share: everything but the mixer."""

    float_states = ("scan",)
    no_decay = ("A_log",)

    def make_mixer(self, config: Any) -> nn.Module:
        """The layer between norm and residual stream."""
        raise NotImplementedError

    def make_block(self, config: Any, layer: int) -> StateSpaceBlock:
        return StateSpaceBlock(RMSNorm(config.d_model, config.norm_eps), self.make_mixer(config))

    def make_norm(self, config: Any) -> RMSNorm:
        return RMSNorm(config.d_model, config.norm_eps)

    def run_blocks(self, x_BTD: Tensor, cache: StateCache, padding: Padding | None) -> Tensor:
        dtype = x_BTD.dtype
        if self.config.residual_in_float32:
            x_BTD = x_BTD.float()
        return super().run_blocks(x_BTD, cache, padding).to(dtype)

    @torch.no_grad()
    def init_weights(self) -> None:
        """As in Gu & Dao 2023, section 3.6 and appendix E: the bias of the step sizes such that they begin log-uniform
        in [dt_min, dt_max], projections uniform in +-1 / sqrt(width of the input), those into the residual stream smaller
        by sqrt(n_layers), embeddings N(0, init_std), D at 1.  The decay rates: ``init_mixer``."""
        c = self.config
        nn.init.normal_(self.embedding.weight, 0.0, c.init_std)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_uniform(module.weight, module.in_features)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks:
            block.mixer.conv.reset_parameters()
            block.mixer.out.weight.div_(math.sqrt(c.n_layers))
            block.mixer.dt_bias.copy_(start_of_dt_bias(c, len(block.mixer.dt_bias)))
            block.mixer.D.fill_(1.0)
            self.init_mixer(block.mixer)

    def init_mixer(self, mixer: nn.Module) -> None:
        """Starting weights that only this kind of mixer has."""
        raise NotImplementedError

    @classmethod
    def weight_rules(cls, config: Any) -> list[Rule]:
        rules = [Rule("embedding.weight", ["backbone.embeddings.weight"]), Rule("final_norm.weight", ["backbone.norm_f.weight"])]
        if not config.tie_embeddings:
            rules.append(Rule("lm_head.weight", ["lm_head.weight"]))
        names = cls.mixer_names(config)
        for i in range(config.n_layers):
            ours, theirs = f"blocks.{i}.", f"backbone.layers.{i}."
            rules.append(Rule(f"{ours}norm.weight", [f"{theirs}norm.weight"]))
            rules += [Rule(f"{ours}mixer.{mine}", [f"{theirs}mixer.{name}"]) for mine, name in names.items()]
        return rules

    @classmethod
    def mixer_names(cls, config: Any) -> dict[str, str]:
        """Names of a mixer's weights, ours and theirs."""
        names = {"A_log": "A_log", "D": "D", "conv.weight": "conv1d.weight"}
        names |= {"in_proj.weight": "in_proj.weight", "out.weight": "out_proj.weight"}
        if config.conv_bias:
            names["conv.bias"] = "conv1d.bias"
        if config.bias:
            names |= {"in_proj.bias": "in_proj.bias", "out.bias": "out_proj.bias"}
        return names


class Mamba(StateSpaceModel):
    """A Mamba language model; see ``LanguageModel.forward`` for its use."""

    model_type = "mamba"
    config_class = MambaConfig

    def make_mixer(self, config: MambaConfig) -> MambaMixer:
        c = config
        return MambaMixer(c.d_model, c.d_inner, c.d_state, c.dt_rank, c.conv_width, bias=c.bias, conv_bias=c.conv_bias)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        c = self.config
        return {"conv": (c.conv_width - 1, c.d_inner), "scan": (c.d_state, c.d_inner)}

    def context_flops_per_token(self, context_length: int) -> int:
        """The scan, whatever the context: per number of state 2 for its decay (product and power), 3 for its new value
        and 2 for the output, and 1 per channel for delta x (``clear_selective_scan``).  All element-wise, so counters of
        matrix products see none of them."""
        c = self.config
        return c.n_layers * c.d_inner * (7 * c.d_state + 1)

    def init_mixer(self, mixer: MambaMixer) -> None:
        """A = -1, ..., -N in every channel ("S4D-Real", Gu & Dao 2023, section 3.6)."""
        mixer.A_log.copy_(torch.arange(1, self.config.d_state + 1).log().expand_as(mixer.A_log))

    @classmethod
    def mixer_names(cls, config: MambaConfig) -> dict[str, str]:
        names = {"x_proj.weight": "x_proj.weight", "dt_proj.weight": "dt_proj.weight", "dt_bias": "dt_proj.bias"}
        return super().mixer_names(config) | names

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> MambaConfig:
        rank = values.get("time_step_rank", "auto")
        return MambaConfig(
            **state_space_from_huggingface(values, tied=True),
            d_state=values.get("state_size", 16),
            dt_rank=None if rank == "auto" else rank,
        )

    @classmethod
    def config_to_huggingface(cls, config: MambaConfig) -> dict[str, Any]:
        return state_space_to_huggingface(config) | {
            "architectures": ["MambaForCausalLM"],
            "model_type": "mamba",
            "intermediate_size": config.d_inner,
            "time_step_rank": config.dt_rank,
        }


def init_uniform(weight: Tensor, width: int) -> None:
    """U(-1 / sqrt(width), 1 / sqrt(width))"""
    nn.init.uniform_(weight, -1 / math.sqrt(width), 1 / math.sqrt(width))


def start_of_dt_bias(config: StateSpaceConfig, n: int) -> Tensor:
    """(n,): softplus of it is log-uniform in [dt_min, dt_max], but at least dt_floor."""
    low, high = math.log(config.dt_min), math.log(config.dt_max)
    dt = torch.exp(torch.rand(n) * (high - low) + low).clamp(min=config.dt_floor)
    # The inverse of softplus, log(e^dt - 1), without losing the digits of a small dt.
    return dt + torch.log(-torch.expm1(-dt))


def state_space_from_huggingface(values: dict[str, Any], tied: bool) -> dict[str, Any]:
    """Arguments for ``StateSpaceConfig`` but for d_state; ``tied``: what the architecture takes for granted."""
    refuse_unless(values, "hidden_act", "silu")
    return common_from_huggingface(values) | {
        # No position is encoded, so Hugging Face's file need not name a length.
        "context_length": values.get("max_position_embeddings", 2048),
        "norm_eps": values.get("layer_norm_epsilon", 1e-5),
        "tie_embeddings": values.get("tie_word_embeddings", tied),
        "init_std": values.get("initializer_range", 0.1),
        "expand": values.get("expand", 2),
        "conv_width": values.get("conv_kernel", 4),
        "bias": values.get("use_bias", False),
        "conv_bias": values.get("use_conv_bias", True),
        "residual_in_float32": values.get("residual_in_fp32", True),
        "dt_min": values.get("time_step_min", 0.001),
        "dt_max": values.get("time_step_max", 0.1),
        "dt_floor": values.get("time_step_floor", 1e-4),
    }


def state_space_to_huggingface(config: StateSpaceConfig) -> dict[str, Any]:
    """The reverse of ``state_space_from_huggingface``, with the state size."""
    return common_to_huggingface(config) | {
        "max_position_embeddings": config.context_length,
        "layer_norm_epsilon": config.norm_eps,
        "state_size": config.d_state,
        "expand": config.expand,
        "conv_kernel": config.conv_width,
        "use_bias": config.bias,
        "use_conv_bias": config.conv_bias,
        "residual_in_fp32": config.residual_in_float32,
        "time_step_min": config.dt_min,
        "time_step_max": config.dt_max,
        "time_step_floor": config.dt_floor,
        "hidden_act": "silu",
    }
