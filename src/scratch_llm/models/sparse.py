"""What models with a mixture of experts share: counting, initialisation, balance, names in a checkpoint."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from scratch_llm.layers.mixture_of_experts import Experts, take_routings
from scratch_llm.layers.routing import Routing
from scratch_llm.weights.rules import Rule


class SparseModel:
    """To be named before ``Transformer``, or a subclass of it, among a model's bases."""

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        cache: Any = None,
        padding_mask: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> Tensor:
        """As ``LanguageModel.forward``; a loss in training mode also goes through ``balance``."""
        result = super().forward(tokens_BT, cache=cache, padding_mask=padding_mask, targets=targets)
        taken = take_routings(self)
        if targets is None or not taken:
            return result
        return self.balance(result, taken, None if padding_mask is None else padding_mask.flatten() != 0)

    def balance(self, loss: Tensor, taken: list[tuple[Any, Routing]], real_N: Tensor | None) -> Tensor:
        """The loss to learn from, given the decisions of each layer's router; ``real_N`` is False at padding."""
        raise NotImplementedError

    def n_parameters(self, embeddings: bool = True, active: bool = False) -> int:
        """As ``LanguageModel.n_parameters``; ``active``: of the experts only those that a token visits."""
        idle = sum(
            (len(experts.down) - experts.top_k) * experts.n_parameters_each for experts in self._experts()
        )
        return super().n_parameters(embeddings) - (idle if active else 0)

    def n_matrix_parameters(self) -> int:
        return super().n_matrix_parameters() + sum(
            experts.top_k * experts.n_parameters_each for experts in self._experts()
        )

    def init_weights(self) -> None:
        """See ``init_linear_and_embedding``."""
        super().init_weights()
        std = self.config.init_std
        for experts in self._experts():
            experts.init_weights(std, std / (2 * self.config.n_layers) ** 0.5)

    def _experts(self) -> list[Experts]:
        return [module for module in self.modules() if isinstance(module, Experts)]


def expert_rules(n_experts: int, d_model: int, d_ff: int, ours: str, theirs: str) -> list[Rule]:
    """Router and experts; in a checkpoint each expert has three matrices of its own."""
    gate_up = [
        f"{theirs}mlp.experts.{e}.{name}_proj.weight" for e in range(n_experts) for name in ("gate", "up")
    ]
    down = [f"{theirs}mlp.experts.{e}.down_proj.weight" for e in range(n_experts)]
    return [
        Rule(ours + "mlp.router.gate.weight", [theirs + "mlp.gate.weight"]),
        Rule(ours + "mlp.experts.gate_up", gate_up, rows=[d_ff] * (2 * n_experts), stack=n_experts),
        Rule(ours + "mlp.experts.down", down, rows=[d_model] * n_experts, stack=n_experts),
    ]
