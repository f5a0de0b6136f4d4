"""RWKV-7 "Goose" (Peng et al. 2025): a recurrent network whose state is a memory that corrects itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scratch_llm.layers.norms import LayerNorm
from scratch_llm.layers.rwkv7_time_mix import ChannelMix7, TimeMix7
from scratch_llm.layers.rwkv_time_mix import State
from scratch_llm.layers.state_cache import StateCache
from scratch_llm.layers.token_shift import Padding
from scratch_llm.models.config import (
    ModelConfig,
    check_divides,
    check_positive,
    common_from_huggingface,
    common_to_huggingface,
)
from scratch_llm.models.presets import Sizes, preset, size_table
from scratch_llm.models.recurrent import RecurrentModel
from scratch_llm.weights.rules import Rule


@dataclass(frozen=True, kw_only=True)
class RWKV7Config(ModelConfig):
    """Shape of an RWKV-7 model.  ``context_length`` is the length it was trained on; the state has no limit."""

    tie_embeddings: bool = False
    """One matrix for the token embedding and the output layer."""
    head_dim: int = 64
    """Width of one head; divides d_model."""
    d_ff: int | None = None
    """Inner width of channel mixing.  None: 4 d_model."""
    decay_rank: int | None = None
    """Middle width of the low-rank network that gives the decay.  None, here and below: as the authors suggest, a multiple
    of 32 that grows with the square root of d_model."""
    rate_rank: int | None = None
    """The same for the in-context learning rate."""
    value_rank: int | None = None
    """The same for the share of the first layer's value."""
    gate_rank: int | None = None
    """The same for the output gate."""

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "head_dim")
        check_divides(self, "d_model", "head_dim")
        if self.d_ff is None:
            self._derive("d_ff", 4 * self.d_model)
        for name, factor in (("decay_rank", 2.5), ("rate_rank", 2.5), ("value_rank", 1.7), ("gate_rank", 5)):
            if getattr(self, name) is None:
                self._derive(name, max(32, round(factor * self.d_model**0.5 / 32) * 32))
        check_positive(self, "d_ff", "decay_rank", "rate_rank", "value_rank", "gate_rank")

    @property
    def n_heads(self) -> int:
        """Heads per block."""
        return self.d_model // self.head_dim


RWKV7_SIZES: Sizes = size_table(
    "n_layers d_model decay_rank rate_rank value_rank gate_rank",
    {
        "0.1b": (12, 768, 64, 64, 32, 128),
        "0.4b": (24, 1024, 64, 64, 32, 128),
        "1.5b": (24, 2048, 96, 96, 64, 256),
        "2.9b": (32, 2560, 96, 96, 64, 320),
    },
    vocab_size=65536,
    context_length=4096,
    bos_token_id=0,
    eos_token_id=0,
)
"""The World models published with the paper: (layers, width, ranks of decay, rate, value and gate)."""


def rwkv7_preset(size: str, **changes: Any) -> RWKV7Config:
    """The configuration of a published RWKV-7, a name in ``RWKV7_SIZES``, with some fields changed."""
    return preset("RWKV-7", RWKV7Config, RWKV7_SIZES, size, changes)


_RANKS = ("decay_rank", "rate_rank", "value_rank", "gate_rank")


class RWKV7Block(nn.Module):
    """``x + time_mix(norm(x))``, then ``x + channel_mix(norm(x))``; the first block has a norm before all (``input_norm``)."""

    def __init__(self, config: RWKV7Config, layer: int):
        super().__init__()
        c, ranks = config, tuple(getattr(config, name) for name in _RANKS)
        self.input_norm = LayerNorm(c.d_model, c.norm_eps) if layer == 0 else None
        self.time_norm = LayerNorm(c.d_model, c.norm_eps)
        # The released models' heads of 64 have 64e-5 here.
        self.time_mix = TimeMix7(c.d_model, c.n_heads, ranks, c.norm_eps * c.head_dim, first=layer == 0)
        self.channel_norm = LayerNorm(c.d_model, c.norm_eps)
        self.channel_mix = ChannelMix7(c.d_model, c.d_ff)

    def forward(
        self, x_BTD: Tensor, first_value_BTD: Tensor | None, state: State, padding: Padding | None
    ) -> tuple[Tensor, Tensor]:
        """(B, T, D) -> (B, T, D), and the first layer's values; arguments as in ``TimeMix7``."""
        if self.input_norm is not None:
            x_BTD = self.input_norm(x_BTD)
        mixed_BTD, first_value_BTD = self.time_mix(self.time_norm(x_BTD), first_value_BTD, state, padding)
        x_BTD = x_BTD + mixed_BTD
        return x_BTD + self.channel_mix(self.channel_norm(x_BTD), state, padding), first_value_BTD


class RWKV7(RecurrentModel):
    """An RWKV-7 language model; see ``LanguageModel.forward`` for its use.

    Its folders are ours: Hugging Face's ``config.json`` around the tensors as the authors name them.
    """

    model_type = "rwkv7"
    config_class = RWKV7Config
    no_decay = ("mix_61D", "mix_11D", "bias_11D", "removed_11D", "key_rate_11D", "bonus_Hd")
    float_states = ("memory",)

    def make_block(self, config: RWKV7Config, layer: int) -> RWKV7Block:
        return RWKV7Block(config, layer)

    def make_norm(self, config: RWKV7Config) -> LayerNorm:
        return LayerNorm(config.d_model, config.norm_eps)

    def run_blocks(self, x_BTD: Tensor, cache: StateCache, padding: Padding | None) -> Tensor:
        first_value_BTD = None
        for block, state in zip(self.blocks, cache.states):
            x_BTD, first_value_BTD = self.run_block(block, x_BTD, first_value_BTD, state, padding)
        return x_BTD

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        c = self.config
        shifts = {"time_shift": (c.d_model,), "channel_shift": (c.d_model,)}
        return shifts | {"memory": (c.n_heads, c.head_dim, c.head_dim)}

    def context_flops_per_token(self, context_length: int) -> int:
        """``8 H d^2`` per layer, whatever the context: the four products with the d x d state (``wkv7_step``: what is
        found under a key, what is taken out and put in, what is read).  The chunked form does the same work in other
        products; how many depends on the length of a chunk."""
        c = self.config
        return c.n_layers * 8 * c.n_heads * c.head_dim**2

    @torch.no_grad()
    def init_weights(self) -> None:
        """As the authors' training code (BlinkDL/RWKV-LM, RWKV-v7) begins: what writes into the residual stream and the
        low-rank networks start at 0, decays spread over the channels.  Where it draws orthogonal matrices, numbers of
        the same size are drawn here: a QR decomposition of a large vocabulary takes minutes."""
        c = self.config
        scale = c.d_model**-0.5
        nn.init.normal_(self.head_weight, 0.0, 0.5 * scale)
        if not c.tie_embeddings:
            nn.init.uniform_(self.embedding.weight, -1e-4, 1e-4)
        for layer, block in enumerate(self.blocks):
            _init_time_mix(block.time_mix, layer, c)
            share_D = torch.arange(c.d_model, device=self.device) / c.d_model
            block.channel_mix.mix_11D.copy_(1 - share_D ** ((1 - layer / c.n_layers) ** 4))
            nn.init.uniform_(block.channel_mix.up.weight, -0.5 * scale, 0.5 * scale)
            nn.init.zeros_(block.channel_mix.down.weight)

    @classmethod
    def weight_rules(cls, config: RWKV7Config) -> list[Rule]:
        rules = [Rule("embedding.weight", ["emb.weight"])]
        rules += _norm_rules("final_norm", "ln_out") + _norm_rules("blocks.0.input_norm", "blocks.0.ln0")
        if not config.tie_embeddings:
            rules.append(Rule("lm_head.weight", ["head.weight"]))
        for layer in range(config.n_layers):
            rules += _block_rules(layer)
        return rules

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> RWKV7Config:
        return RWKV7Config(
            **common_from_huggingface(values),
            context_length=values.get("max_position_embeddings", 4096),
            head_dim=values.get("head_dim", 64),
            d_ff=values.get("intermediate_size"),
            norm_eps=values.get("norm_eps", 1e-5),
            **{ours: values.get(theirs) for ours, theirs in _THEIR_RANKS.items()},
        )

    @classmethod
    def config_to_huggingface(cls, config: RWKV7Config) -> dict[str, Any]:
        return common_to_huggingface(config) | {
            "architectures": ["RWKV7ForCausalLM"],
            "model_type": "rwkv7",
            "max_position_embeddings": config.context_length,
            "head_dim": config.head_dim,
            "intermediate_size": config.d_ff,
            "norm_eps": config.norm_eps,
            **{theirs: getattr(config, ours) for ours, theirs in _THEIR_RANKS.items()},
        }


_THEIR_RANKS = {
    "decay_rank": "decay_low_rank_dim",
    "rate_rank": "a_low_rank_dim",
    "value_rank": "v_low_rank_dim",
    "gate_rank": "gate_low_rank_dim",
}


def _init_time_mix(mix: TimeMix7, layer: int, config: RWKV7Config) -> None:
    D, d = config.d_model, config.head_dim
    device = mix.bonus_Hd.device
    height, power = layer / max(1, config.n_layers - 1), 1 - layer / config.n_layers
    channel_D = torch.arange(D, device=device)
    line_D = channel_D / max(1, D - 1) - 0.5
    within_D = 2 * (channel_D % d) / max(1, d - 1) - 1  # from -1 to 1 in each head
    wave_D = within_D * within_D.abs()
    # r, w, k, v, a, g; shares of the token before, so high layers look at the token itself.
    for row, factor in zip(mix.mix_61D, (0.2, 0.9, 0.7, 0.7, 0.9, 0.2)):
        row.copy_(1 - (channel_D / D) ** (factor * power))
    mix.decay.bias_11D.copy_(6 * (line_D + 0.5) ** (1 + height**0.3) - 5.5 + 2.5 * wave_D)
    mix.rate.bias_11D.copy_(-0.19 + 0.3 * wave_D + 0.4 * line_D)
    if mix.value_mix is not None:
        mix.value_mix.bias_11D.copy_(0.73 - 0.4 * line_D)
    mix.removed_11D.copy_(0.71 - 0.1 * line_D)
    mix.key_rate_11D.fill_(1.02)
    mix.bonus_Hd.fill_(-0.04)
    for low_rank in filter(None, (mix.decay, mix.rate, mix.value_mix, mix.gate)):
        nn.init.zeros_(low_rank.down.weight)
        nn.init.normal_(low_rank.up.weight, 0.0, 0.1 * D**-0.5)
    for linear, width in ((mix.receptance, 0.5), (mix.key, 0.05), (mix.value, 0.5), (mix.out, 0.0)):
        nn.init.uniform_(linear.weight, -width * D**-0.5, width * D**-0.5)


# -- the authors' names ------------------------------------------------------------------------------------------


def _norm_rules(ours: str, theirs: str) -> list[Rule]:
    return [Rule(f"{ours}.{part}", [f"{theirs}.{part}"]) for part in ("weight", "bias")]


def _block_rules(layer: int) -> list[Rule]:
    ours, theirs = f"blocks.{layer}.time_mix.", f"blocks.{layer}.att."
    rules = _norm_rules(f"blocks.{layer}.time_norm", f"blocks.{layer}.ln1")
    rules += _norm_rules(f"blocks.{layer}.channel_norm", f"blocks.{layer}.ln2") + _norm_rules(
        ours + "norm", theirs + "ln_x"
    )
    rules.append(Rule(ours + "mix_61D", [f"{theirs}x_{name}" for name in "rwkvag"], rows=[1] * 6))
    for mine, name in (("receptance", "receptance"), ("key", "key"), ("value", "value"), ("out", "output")):
        rules.append(Rule(f"{ours}{mine}.weight", [f"{theirs}{name}.weight"]))
    for mine, letter in (("decay", "w"), ("rate", "a"), ("value_mix", "v"), ("gate", "g")):
        if mine == "value_mix" and layer == 0:
            continue
        if mine != "gate":
            rules.append(Rule(f"{ours}{mine}.bias_11D", [f"{theirs}{letter}0"]))
        rules.append(Rule(f"{ours}{mine}.down.weight", [f"{theirs}{letter}1"], transpose=True))
        rules.append(Rule(f"{ours}{mine}.up.weight", [f"{theirs}{letter}2"], transpose=True))
    for mine, name in (("removed_11D", "k_k"), ("key_rate_11D", "k_a"), ("bonus_Hd", "r_k")):
        rules.append(Rule(ours + mine, [theirs + name]))
    ours, theirs = f"blocks.{layer}.channel_mix.", f"blocks.{layer}.ffn."
    rules.append(Rule(ours + "mix_11D", [theirs + "x_k"]))
    rules += [Rule(f"{ours}up.weight", [f"{theirs}key.weight"]), Rule(f"{ours}down.weight", [f"{theirs}value.weight"])]
    return rules
