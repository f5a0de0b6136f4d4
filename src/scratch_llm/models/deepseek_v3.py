"""DeepSeek-V3 (2024): latent attention, and many small experts beside a shared one, balanced without a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scratch_llm.layers.feed_forward import SwiGLU
from scratch_llm.layers.latent_attention import LatentAttention
from scratch_llm.layers.latent_cache import LatentCache
from scratch_llm.layers.mixture_of_experts import Experts, MixtureOfExperts
from scratch_llm.layers.norms import RMSNorm
from scratch_llm.layers.rope_scaling import YarnScaling
from scratch_llm.layers.rotary import rotary_tables
from scratch_llm.layers.routing import Routing, SigmoidRouter, check_groups
from scratch_llm.models.config import (
    TransformerConfig,
    check_above_zero,
    check_positive,
    transformer_from_huggingface,
    transformer_to_huggingface,
)
from scratch_llm.models.llama import norm_rules, outer_rules, swiglu_rules
from scratch_llm.models.presets import Sizes, preset
from scratch_llm.models.sparse import SparseModel, expert_rules
from scratch_llm.models.transformer import Block, Rotary, Transformer
from scratch_llm.weights.rules import Rule, refuse_unless, rope_of


@dataclass(frozen=True, kw_only=True)
class DeepseekV3Config(TransformerConfig):
    """Shape of a DeepSeek-V3 model; ``d_ff`` is the width of the layers without experts."""

    norm_eps: float = 1e-6
    """Added to the mean square in the norms of the residual stream; inside attention it is always 1e-6."""
    tie_embeddings: bool = False
    """One matrix for the token embedding and the output layer."""
    q_lora_rank: int | None = None
    """Width of the latent that queries are made from; None: they are made from the residual stream."""
    kv_lora_rank: int
    """Width of the latent that keys and values are made from: what the cache keeps, with the rotated key."""
    qk_nope_head_dim: int
    """Width of the part of a head's query and key that is not rotated."""
    qk_rope_head_dim: int
    """Width of the rotated part, even; its key is shared by all heads."""
    v_head_dim: int
    """Width of a head's value."""
    n_dense_layers: int = 0
    """So many first layers have no experts."""
    n_experts: int
    """Routed experts per layer."""
    n_experts_per_token: int
    """Routed experts that each token visits."""
    n_shared_experts: int = 1
    """Experts that every token visits beside them."""
    expert_d_ff: int
    """Inner width of one expert."""
    n_groups: int = 1
    """Groups that the routed experts are divided into."""
    n_groups_per_token: int = 1
    """Groups that a token may choose its experts from."""
    norm_topk_prob: bool = True
    """Divide the affinities of the visited experts by their sum."""
    routed_scaling_factor: float = 1.0
    """What they are multiplied by then."""
    rope_interleave: bool = True
    """Rotated dimensions lie as pairs of neighbours in the checkpoint (here always as halves; see ``layers.rotary``)."""

    def __post_init__(self):
        # In this architecture the head_dim of a config.json is the width that is rotated.
        self._derive("head_dim", self.qk_rope_head_dim)
        super().__post_init__()
        if self.n_kv_heads != self.n_heads:
            raise ValueError(
                f"n_kv_heads is {self.n_kv_heads}: latent attention has no groups, so it must be n_heads, {self.n_heads}"
            )
        check_positive(
            self, "kv_lora_rank", "qk_nope_head_dim", "v_head_dim", "n_experts", "n_experts_per_token",
            "n_shared_experts", "expert_d_ff", "n_groups", "n_groups_per_token",
        )  # fmt: skip
        if self.q_lora_rank is not None:
            check_positive(self, "q_lora_rank")
        if not 0 <= self.n_dense_layers <= self.n_layers:
            raise ValueError(
                f"n_dense_layers is {self.n_dense_layers}: it must be from 0 to n_layers, {self.n_layers}"
            )
        check_groups(self.n_experts, self.n_experts_per_token, self.n_groups, self.n_groups_per_token)
        check_above_zero(self, "routed_scaling_factor")

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim


class DeepseekV3(SparseModel, Transformer):
    """A DeepSeek-V3-shaped language model; see ``LanguageModel.forward`` for its use.

    In training mode a forward pass with targets counts the load of each expert; ``after_step``, which the training loop
    calls, moves the routers' biases by it.
    """

    model_type = "deepseek_v3"
    config_class = DeepseekV3Config
    cache_class = LatentCache

    def make_block(self, config: DeepseekV3Config, layer: int) -> Block:
        c = config
        attention = LatentAttention(
            c.d_model, c.n_heads,
            q_lora_rank=c.q_lora_rank, kv_lora_rank=c.kv_lora_rank,
            nope_dim=c.qk_nope_head_dim, rope_dim=c.qk_rope_head_dim, v_dim=c.v_head_dim,
            dropout=c.dropout, score_factor=getattr(c.rope_scaling, "score_factor", 1.0),
        )  # fmt: skip
        norms = RMSNorm(c.d_model, c.norm_eps), RMSNorm(c.d_model, c.norm_eps)
        return Block(norms[0], attention, norms[1], self.make_mlp(c, layer))

    def make_mlp(self, config: DeepseekV3Config, layer: int) -> nn.Module:
        """The feed-forward network of a block."""
        c = config
        if layer < c.n_dense_layers:
            return SwiGLU(c.d_model, c.d_ff)
        router = SigmoidRouter(
            c.d_model, c.n_experts, c.n_experts_per_token,
            n_groups=c.n_groups, n_groups_per_token=c.n_groups_per_token,
            renormalise=c.norm_topk_prob, scale=c.routed_scaling_factor,
        )  # fmt: skip
        experts = Experts(c.n_experts, c.n_experts_per_token, c.d_model, c.expert_d_ff)
        return MixtureOfExperts(router, experts, SwiGLU(c.d_model, c.n_shared_experts * c.expert_d_ff))

    def make_norm(self, config: DeepseekV3Config) -> RMSNorm:
        return RMSNorm(config.d_model, config.norm_eps)

    def rotary_tables(self) -> Rotary:
        c = self.config
        return rotary_tables(c.qk_rope_head_dim, c.context_length, c.rope_theta, c.rope_scaling)

    def init_cache(
        self,
        batch_size: int,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> LatentCache:
        c = self.config
        return LatentCache(
            c.n_layers, batch_size, max_length or c.context_length, c.kv_lora_rank, c.qk_rope_head_dim,
            dtype or self.dtype, device or self.device,
        )  # fmt: skip

    def context_flops_per_token(self, context_length: int) -> int:
        """As in ``Transformer``, in the expanded form: keys are n + r wide and values v."""
        c = self.config
        return c.n_layers * 2 * context_length * c.n_heads * (c.qk_head_dim + c.v_head_dim)

    def decode_context_flops(self, length: int) -> int:
        """In the absorbed form: keys are the latent and the shared rotated key, c + r wide, values the latent, c."""
        c = self.config
        return c.n_layers * 2 * length * c.n_heads * (2 * c.kv_lora_rank + c.qk_rope_head_dim)

    def balance(self, loss: Tensor, taken: list[tuple[Any, Routing]], real_N: Tensor | None) -> Tensor:
        for router, routing in taken:
            router.count(routing, real_N)
        return loss

    def after_step(self) -> None:
        self.update_router_biases()

    def update_router_biases(self, rate: float = 0.001) -> None:
        """``SigmoidRouter.update_bias`` in each layer; 0.001 is DeepSeek-V3's rate (section 4.2)."""
        for module in self.modules():
            if isinstance(module, SigmoidRouter):
                module.update_bias(rate)

    @classmethod
    def weight_rules(cls, config: DeepseekV3Config) -> list[Rule]:
        c, rules = config, outer_rules(config)
        for i in range(c.n_layers):
            ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
            rules += norm_rules(ours, theirs) + latent_attention_rules(c, ours, theirs)
            if i < c.n_dense_layers:
                rules += swiglu_rules(c, ours, theirs)
            else:
                rules += expert_rules(c.n_experts, c.d_model, c.expert_d_ff, ours, theirs)
                rules += shared_expert_rules(c, ours, theirs)
        return rules

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> DeepseekV3Config:
        for field, allowed in (
            ("hidden_act", "silu"), ("attention_bias", False), ("scoring_func", "sigmoid"), ("topk_method", "noaux_tc"),
            ("quantization_config", None),
        ):  # fmt: skip
            refuse_unless(values, field, allowed)
        values = {"rope_interleave": True} | values
        same = {name: values[name] for name in SAME_NAMES}
        renamed = {ours: values[theirs] for ours, theirs in NAMES.items()}
        return DeepseekV3Config(**transformer_from_huggingface(values), **rope_of(values), **same, **renamed)

    @classmethod
    def config_to_huggingface(cls, config: DeepseekV3Config) -> dict[str, Any]:
        return transformer_to_huggingface(config) | {
            "architectures": ["DeepseekV3ForCausalLM"],
            "model_type": "deepseek_v3",
            "hidden_act": "silu",
            "attention_bias": False,
            # No layers that predict further tokens: transformers reads over them, too.
            "num_nextn_predict_layers": 0,
            **{name: getattr(config, name) for name in SAME_NAMES},
            **{theirs: getattr(config, ours) for ours, theirs in NAMES.items()},
        }


SAME_NAMES = (
    "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "n_shared_experts",
    "norm_topk_prob", "routed_scaling_factor", "rope_interleave",
)  # fmt: skip
NAMES = {
    "n_dense_layers": "first_k_dense_replace",
    "n_experts": "n_routed_experts",
    "n_experts_per_token": "num_experts_per_tok",
    "expert_d_ff": "moe_intermediate_size",
    "n_groups": "n_group",
    "n_groups_per_token": "topk_group",
}


def latent_attention_rules(config: DeepseekV3Config, ours: str, theirs: str) -> list[Rule]:
    """Latent attention; rows of rotated dimensions are put in halves."""
    c, ours, theirs = config, ours + "attention.", theirs + "self_attn."
    q_rows, kv_rows = c.n_heads * c.qk_head_dim, c.kv_lora_rank + c.qk_rope_head_dim
    kv = theirs + "kv_a_proj_with_mqa.weight"
    rules = [
        Rule(ours + "kv_norm.weight", [theirs + "kv_a_layernorm.weight"]),
        Rule(ours + "kv_expand.weight", [theirs + "kv_b_proj.weight"]),
        Rule(ours + "out.weight", [theirs + "o_proj.weight"]),
    ]
    heads = _order(c, [(c.qk_nope_head_dim, False), (c.qk_rope_head_dim, True)] * c.n_heads)
    if c.q_lora_rank is None:
        order = _order(c, [(c.kv_lora_rank, False), (c.qk_rope_head_dim, True)], heads)
        return [
            *rules,
            Rule(
                ours + "compress.weight", [theirs + "q_proj.weight", kv], rows=[q_rows, kv_rows], order=order
            ),
        ]
    order = _order(c, [(c.q_lora_rank + c.kv_lora_rank, False), (c.qk_rope_head_dim, True)])
    q_down = theirs + "q_a_proj.weight"
    return [
        *rules,
        Rule(ours + "compress.weight", [q_down, kv], rows=[c.q_lora_rank, kv_rows], order=order),
        Rule(ours + "q_norm.weight", [theirs + "q_a_layernorm.weight"]),
        Rule(ours + "q_expand.weight", [theirs + "q_b_proj.weight"], order=heads),
    ]


def _order(
    config: DeepseekV3Config, parts: list[tuple[int, bool]], first: list[int] | None = None
) -> list[int] | None:
    """``Rule.order`` for parts of so many rows, rotated or not, after those of ``first``; None: all stay where they are."""
    if not config.rope_interleave:
        return None
    order = list(first or ())
    for n_rows, is_rotated in parts:
        rows = range(len(order), len(order) + n_rows)
        order += [*rows[0::2], *rows[1::2]] if is_rotated else rows
    return order


def shared_expert_rules(config: DeepseekV3Config, ours: str, theirs: str) -> list[Rule]:
    """The shared experts, and the bias of the router."""
    width, theirs = config.n_shared_experts * config.expert_d_ff, theirs + "mlp."
    gate_up = [f"{theirs}shared_experts.{name}_proj.weight" for name in ("gate", "up")]
    return [
        Rule(ours + "mlp.shared.gate_up.weight", gate_up, rows=[width, width]),
        Rule(ours + "mlp.shared.down.weight", [theirs + "shared_experts.down_proj.weight"]),
        Rule(ours + "mlp.router.bias", [theirs + "gate.e_score_correction_bias"], dtype=torch.float32),
    ]


DEEPSEEK_V3_SIZES: Sizes = {
    "671B": {
        "vocab_size": 129_280, "context_length": 163_840, "n_layers": 61, "d_model": 7168, "n_heads": 128, "d_ff": 18_432,
        "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "n_dense_layers": 3, "n_experts": 256, "n_experts_per_token": 8, "expert_d_ff": 2048,
        "n_groups": 8, "n_groups_per_token": 4, "routed_scaling_factor": 2.5, "bos_token_id": 0, "eos_token_id": 1,
        "rope_scaling": YarnScaling(factor=40.0, original_context_length=4096, mscale=1.0, mscale_all_dim=1.0),
    },
    # Ours: every part of the large one, for a laptop.
    "tiny": {
        "vocab_size": 4096, "context_length": 256, "n_layers": 6, "d_model": 256, "n_heads": 4, "d_ff": 704,
        "q_lora_rank": 96, "kv_lora_rank": 64, "qk_nope_head_dim": 48, "qk_rope_head_dim": 16, "v_head_dim": 64,
        "n_dense_layers": 1, "n_experts": 16, "n_experts_per_token": 4, "expert_d_ff": 192,
        "n_groups": 4, "n_groups_per_token": 2, "routed_scaling_factor": 1.0, "tie_embeddings": True,
    },
}  # fmt: skip


def deepseek_v3_preset(size: str, **changes: Any) -> DeepseekV3Config:
    """The configuration of a size in ``DEEPSEEK_V3_SIZES``, with some fields changed."""
    return preset("DeepSeek-V3", DeepseekV3Config, DEEPSEEK_V3_SIZES, size, changes)
