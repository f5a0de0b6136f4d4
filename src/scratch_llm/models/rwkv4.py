"""RWKV-4 (Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era"): a recurrent network that trains like a
Transformer.

**Rescaling.**  So that float16 does not overflow, Hugging Face's model halves the residual stream after every
``rescale_every`` layers at inference, and halves what later layers add to it as often.  The final norm undoes it, so in
exact arithmetic all that is left is that the norms' epsilon is added to a smaller variance: a norm behind n halvings
works like one with ``4^n eps`` on the stream as it was.  This is how it is done here, in evaluation mode alone, so that
logits agree to the last digit and no weight is ever changed; float32 and bfloat16 have no need of the smaller numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.norms import LayerNorm
from scratch_llm.layers.rwkv_time_mix import TIME_MIX_START, ChannelMix, State, TimeMix
from scratch_llm.layers.token_shift import Padding
from scratch_llm.layers.wkv import WKVState
from scratch_llm.models.base import init_linear_and_embedding
from scratch_llm.models.config import (
    ModelConfig,
    check_positive,
    common_from_huggingface,
    common_to_huggingface,
)
from scratch_llm.models.presets import Sizes, preset, size_table
from scratch_llm.models.recurrent import RecurrentModel
from scratch_llm.weights.rules import Rule


@dataclass(frozen=True, kw_only=True)
class RWKV4Config(ModelConfig):
    """Shape of an RWKV-4 model.  ``context_length`` is the length it was trained on; the state has no limit."""

    tie_embeddings: bool = False
    """One matrix for the token embedding and the output layer."""
    d_attention: int | None = None
    """Width inside time mixing.  None: d_model."""
    d_ff: int | None = None
    """Inner width of channel mixing.  None: 4 d_model."""
    rescale_every: int = 6
    """Layers between two halvings of the residual stream at inference (see above); 0: none."""

    def __post_init__(self):
        super().__post_init__()
        if self.d_attention is None:
            self._derive("d_attention", self.d_model)
        if self.d_ff is None:
            self._derive("d_ff", 4 * self.d_model)
        check_positive(self, "d_attention", "d_ff")
        if self.rescale_every < 0:
            raise ValueError(f"rescale_every is {self.rescale_every}: it must be 0 (never) or a number of layers")

    def n_halvings(self, layer: int) -> int:
        """How often the stream was halved before ``layer``."""
        return layer // self.rescale_every if self.rescale_every else 0


RWKV4_SIZES: Sizes = size_table(
    "n_layers d_model",
    {
        "169m": (12, 768),
        "430m": (24, 1024),
        "1b5": (24, 2048),
        "3b": (32, 2560),
        "7b": (32, 4096),
        "14b": (40, 5120),
    },
    vocab_size=50277,
    context_length=1024,
    bos_token_id=0,
    eos_token_id=0,
)
"""Models published with the paper, trained on the Pile: (layers, width).  Peng et al. 2023, table 2."""


def rwkv4_preset(size: str, **changes: Any) -> RWKV4Config:
    """The configuration of a published RWKV-4, a name in ``RWKV4_SIZES``, with some fields changed."""
    return preset("RWKV-4", RWKV4Config, RWKV4_SIZES, size, changes)


class StreamNorm(LayerNorm):
    """LayerNorm on a stream that was halved ``n_halvings`` times in evaluation mode (see the module's text)."""

    def __init__(self, d_model: int, eps: float, n_halvings: int):
        super().__init__(d_model, eps)
        self.scaled_eps = eps * 4.0**n_halvings

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), same dtype."""
        eps = self.eps if self.training else self.scaled_eps
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), self.bias.to(x.dtype), eps)


class RWKV4Block(nn.Module):
    """``x + time_mix(norm(x))``, then ``x + channel_mix(norm(x))``; the first block has a norm before all (``input_norm``)."""

    def __init__(self, config: RWKV4Config, layer: int):
        super().__init__()
        c, n_halvings = config, config.n_halvings(layer)
        self.input_norm = LayerNorm(c.d_model, c.norm_eps) if layer == 0 else None
        self.time_norm = StreamNorm(c.d_model, c.norm_eps, n_halvings)
        self.time_mix = TimeMix(c.d_model, c.d_attention)
        self.channel_norm = StreamNorm(c.d_model, c.norm_eps, n_halvings)
        self.channel_mix = ChannelMix(c.d_model, c.d_ff)

    def forward(self, x_BTD: Tensor, state: State, padding: Padding | None) -> Tensor:
        """(B, T, D) -> (B, T, D); ``state`` as in ``TimeMix`` and ``ChannelMix``."""
        if self.input_norm is not None:
            x_BTD = self.input_norm(x_BTD)
        x_BTD = x_BTD + self.time_mix(self.time_norm(x_BTD), state, padding)
        return x_BTD + self.channel_mix(self.channel_norm(x_BTD), state, padding)


class RWKV4(RecurrentModel):
    """An RWKV-4 language model; see ``LanguageModel.forward`` for its use."""

    model_type = "rwkv"
    config_class = RWKV4Config
    no_decay = ("mix_31D", "mix_21D")
    state_start = TIME_MIX_START
    float_states = WKVState._fields

    def make_block(self, config: RWKV4Config, layer: int) -> RWKV4Block:
        return RWKV4Block(config, layer)

    def make_norm(self, config: RWKV4Config) -> StreamNorm:
        # The reference's final norm has an epsilon of its own, whatever the configuration says.
        return StreamNorm(config.d_model, 1e-5, config.n_halvings(config.n_layers))

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        c = self.config
        shifts = {"time_shift": (c.d_model,), "channel_shift": (c.d_model,)}
        return shifts | dict.fromkeys(WKVState._fields, (c.d_attention,))

    def context_flops_per_token(self, context_length: int) -> int:
        """18 per channel and layer, whatever the context: the WKV recurrence is element-wise (``wkv_step``: exponents 8
        sums and maxima, output 5 and new state 5 products and sums; the 4 powers are not counted).  Counters of
        matrix products see none of them."""
        return 18 * self.config.n_layers * self.config.d_attention

    @torch.no_grad()
    def init_weights(self) -> None:
        """Decay, bonus and mixes as in Peng et al. 2023, appendix on initialisation: channels remember over spans from one token to
        hundreds, longer in higher layers.  The embedding is uniform in +-1e-4 ("small init", section 3.4; the norm
        behind it makes it large again, and so it changes fast), unless the output layer shares it.  Matrices: see
        ``init_linear_and_embedding``."""
        c = self.config
        init_linear_and_embedding(self, c.init_std, c.n_layers)
        if not c.tie_embeddings:
            nn.init.uniform_(self.embedding.weight, -1e-4, 1e-4)
        share_D = torch.arange(c.d_model, device=self.device) / c.d_model
        channel_A = torch.arange(c.d_attention, device=self.device)
        for layer, block in enumerate(self.blocks):
            height = layer / max(1, c.n_layers - 1)
            power = 1 - layer / c.n_layers
            time_mix = block.time_mix
            time_mix.log_decay_A.copy_(
                8 * (channel_A / max(1, c.d_attention - 1)) ** (0.7 + 1.3 * height) - 5
            )
            time_mix.bonus_A.copy_(0.5 * ((channel_A + 1) % 3 - 1) + math.log(0.3))
            key = share_D**power
            time_mix.mix_31D[:, 0].copy_(torch.stack((key, key + 0.3 * height, share_D ** (power / 2))))
            block.channel_mix.mix_21D.copy_(key)

    @classmethod
    def weight_rules(cls, config: RWKV4Config) -> list[Rule]:
        rules = [Rule("embedding.weight", ["rwkv.embeddings.weight"])]
        rules += _norm_rules("final_norm", "rwkv.ln_out")
        rules += _norm_rules("blocks.0.input_norm", "rwkv.blocks.0.pre_ln")
        if not config.tie_embeddings:
            rules.append(Rule("lm_head.weight", ["head.weight"]))
        for i in range(config.n_layers):
            rules += _block_rules(f"blocks.{i}.", f"rwkv.blocks.{i}.")
        return rules

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> RWKV4Config:
        return RWKV4Config(
            **common_from_huggingface(values),
            context_length=values.get("context_length", 1024),
            d_attention=values.get("attention_hidden_size"),
            d_ff=values.get("intermediate_size"),
            norm_eps=values.get("layer_norm_epsilon", 1e-5),
            rescale_every=max(0, values.get("rescale_every", 6)),
        )

    @classmethod
    def config_to_huggingface(cls, config: RWKV4Config) -> dict[str, Any]:
        return common_to_huggingface(config) | {
            "architectures": ["RwkvForCausalLM"],
            "model_type": "rwkv",
            "context_length": config.context_length,
            "attention_hidden_size": config.d_attention,
            "intermediate_size": config.d_ff,
            "layer_norm_epsilon": config.norm_eps,
            "rescale_every": config.rescale_every,
        }


def _norm_rules(ours: str, theirs: str) -> list[Rule]:
    return [Rule(f"{ours}.{part}", [f"{theirs}.{part}"]) for part in ("weight", "bias")]


def _block_rules(ours: str, theirs: str) -> list[Rule]:
    """One block; ``ours`` and ``theirs`` are prefixes that end in a dot."""
    attention, feed_forward = f"{theirs}attention.", f"{theirs}feed_forward."
    mixes = [f"time_mix_{name}" for name in ("key", "value", "receptance")]
    rules = _norm_rules(f"{ours}time_norm", f"{theirs}ln1") + _norm_rules(f"{ours}channel_norm", f"{theirs}ln2")
    rules += [
        Rule(f"{ours}time_mix.mix_31D", [attention + name for name in mixes], rows=[1, 1, 1]),
        Rule(f"{ours}time_mix.log_decay_A", [f"{attention}time_decay"]),
        Rule(f"{ours}time_mix.bonus_A", [f"{attention}time_first"]),
        Rule(f"{ours}channel_mix.mix_21D", [feed_forward + mixes[0], feed_forward + mixes[2]], rows=[1, 1]),
    ]
    matrices = {
        "time_mix.key": f"{attention}key",
        "time_mix.value": f"{attention}value",
        "time_mix.receptance": f"{attention}receptance",
        "time_mix.out": f"{attention}output",
        "channel_mix.up": f"{feed_forward}key",
        "channel_mix.receptance": f"{feed_forward}receptance",
        "channel_mix.down": f"{feed_forward}value",
    }
    return rules + [Rule(f"{ours}{mine}.weight", [f"{name}.weight"]) for mine, name in matrices.items()]
