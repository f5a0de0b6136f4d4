"""Qwen3 with experts (Yang et al. 2025, section 2): Qwen3's blocks, each token visiting a few of many small networks.

There are no shared experts, and the load is balanced by a loss over the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from scratch_llm.layers.mixture_of_experts import Experts, MixtureOfExperts
from scratch_llm.layers.routing import Routing, SoftmaxRouter, check_top_k, load_balancing_loss
from scratch_llm.models.config import check_positive, transformer_from_huggingface, transformer_to_huggingface
from scratch_llm.models.llama import swiglu_rules
from scratch_llm.models.presets import Sizes, preset, size_table
from scratch_llm.models.qwen3 import Qwen3, Qwen3Config, refuse_sliding_window
from scratch_llm.models.sparse import SparseModel, expert_rules
from scratch_llm.weights.rules import Rule, refuse_unless, rope_of


@dataclass(frozen=True, kw_only=True)
class Qwen3MoeConfig(Qwen3Config):
    """Shape of a Qwen3 model with experts; ``d_ff`` is the width of the layers without."""

    n_experts: int
    """Experts per layer."""
    n_experts_per_token: int
    """Experts that each token visits."""
    expert_d_ff: int
    """Inner width of one expert."""
    norm_topk_prob: bool = True
    """Divide the probabilities of the visited experts by their sum."""
    sparse_step: int = 1
    """Every so many layers has experts: those whose number, counted from 1, is a multiple."""
    dense_layers: tuple[int, ...] = ()
    """Layers, counted from 0, that have no experts in any case."""
    balance_loss: bool = False
    """Add the balance loss to the training loss."""
    balance_loss_coef: float = 0.001
    """What it is multiplied by."""

    def __post_init__(self):
        super().__post_init__()
        self._derive("dense_layers", tuple(self.dense_layers))
        check_positive(self, "n_experts", "n_experts_per_token", "expert_d_ff", "sparse_step")
        check_top_k(self.n_experts_per_token, self.n_experts)
        for layer in self.dense_layers:
            if not 0 <= layer < self.n_layers:
                raise ValueError(f"dense_layers has {layer}: it must be in 0..{self.n_layers - 1} (n_layers)")
        if self.balance_loss_coef < 0:
            raise ValueError(f"balance_loss_coef is {self.balance_loss_coef!r}: it must be at least 0")

    def has_experts(self, layer: int) -> bool:
        """Whether the layer of this number, from 0, has experts."""
        return layer not in self.dense_layers and (layer + 1) % self.sparse_step == 0


class Qwen3Moe(SparseModel, Qwen3):
    """A Qwen3-shaped language model with experts; see ``LanguageModel.forward`` for its use.

    In training mode the loss contains the balance loss where the configuration asks for it; in evaluation mode it is
    always the cross-entropy alone.
    """

    model_type = "qwen3_moe"
    config_class = Qwen3MoeConfig

    def make_mlp(self, config: Qwen3MoeConfig, layer: int) -> nn.Module:
        c = config
        if not c.has_experts(layer):
            return super().make_mlp(c, layer)
        return MixtureOfExperts(
            SoftmaxRouter(c.d_model, c.n_experts, c.n_experts_per_token, renormalise=c.norm_topk_prob),
            Experts(c.n_experts, c.n_experts_per_token, c.d_model, c.expert_d_ff),
        )

    def balance(self, loss: Tensor, taken: list[tuple[Any, Routing]], real_N: Tensor | None) -> Tensor:
        if not self.config.balance_loss:
            return loss
        return loss + self.config.balance_loss_coef * load_balancing_loss(
            [routing for _, routing in taken], real_N
        )

    @classmethod
    def mlp_rules(cls, config: Qwen3MoeConfig, layer: int, ours: str, theirs: str) -> list[Rule]:
        c = config
        if not c.has_experts(layer):
            return swiglu_rules(c, ours, theirs)
        return expert_rules(c.n_experts, c.d_model, c.expert_d_ff, ours, theirs)

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> Qwen3MoeConfig:
        refuse_unless(values, "hidden_act", "silu")
        refuse_unless(values, "attention_bias", False)
        refuse_sliding_window(values)
        return Qwen3MoeConfig(
            **transformer_from_huggingface(values),
            **rope_of(values),
            n_experts=values["num_experts"] if "num_experts" in values else values["num_local_experts"],
            n_experts_per_token=values["num_experts_per_tok"],
            expert_d_ff=values["moe_intermediate_size"],
            norm_topk_prob=values.get("norm_topk_prob", False),
            sparse_step=values.get("decoder_sparse_step", 1),
            dense_layers=tuple(values.get("mlp_only_layers") or ()),
            balance_loss=values.get("output_router_logits", False),
            balance_loss_coef=values.get("router_aux_loss_coef", 0.001),
        )

    @classmethod
    def config_to_huggingface(cls, config: Qwen3MoeConfig) -> dict[str, Any]:
        return transformer_to_huggingface(config) | {
            "architectures": ["Qwen3MoeForCausalLM"],
            "model_type": "qwen3_moe",
            "hidden_act": "silu",
            "attention_bias": False,
            "use_sliding_window": False,
            "num_experts": config.n_experts,
            "num_experts_per_tok": config.n_experts_per_token,
            "moe_intermediate_size": config.expert_d_ff,
            "norm_topk_prob": config.norm_topk_prob,
            "decoder_sparse_step": config.sparse_step,
            "mlp_only_layers": list(config.dense_layers),
            "output_router_logits": config.balance_loss,
            "router_aux_loss_coef": config.balance_loss_coef,
        }


QWEN3_MOE_SIZES: Sizes = size_table(
    "n_layers d_model n_heads d_ff expert_d_ff",
    {
        "30B-A3B": (48, 2048, 32, 6144, 768),
        "235B-A22B": (94, 4096, 64, 12_288, 1536),
    },
    vocab_size=151_936,
    context_length=40_960,
    n_kv_heads=4,
    head_dim=128,
    n_experts=128,
    n_experts_per_token=8,
    tie_embeddings=False,
    bos_token_id=151_643,
    eos_token_id=151_645,
)


def qwen3_moe_preset(size: str, **changes: Any) -> Qwen3MoeConfig:
    """The configuration of a published model, a name in ``QWEN3_MOE_SIZES``, with some fields changed."""
    return preset("Qwen3 MoE", Qwen3MoeConfig, QWEN3_MOE_SIZES, size, changes)
