"""The LSTM language model (Sundermeyer et al. 2012; Zaremba et al. 2014): what came before attention.

Embedding, layers of LSTM on top of each other, optionally a projection to the width of the embedding (Sak et al. 2014)
and a norm, output layer.  The folder format is ours, in the manner of Hugging Face's: ``model_type`` "lstm", tensors named
and laid out as in ``torch.nn.LSTM``, but with one bias per layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.lstm import LSTMLayer
from scratch_llm.layers.norms import LayerNorm
from scratch_llm.layers.state_cache import StateCache
from scratch_llm.layers.token_shift import Padding
from scratch_llm.models.config import (
    ModelConfig,
    check_fraction,
    check_positive,
    common_from_huggingface,
    common_to_huggingface,
)
from scratch_llm.models.recurrent import RecurrentModel
from scratch_llm.weights.rules import Rule


@dataclass(frozen=True, kw_only=True)
class LSTMConfig(ModelConfig):
    """Shape of an LSTM language model.  ``context_length`` is the length of the pieces it is trained on; the state has no
    limit."""

    init_std: float = 0.1
    """Standard deviation of the starting embeddings: larger than in models whose blocks begin with a norm, since here
    nothing else makes them large enough to move the gates."""
    d_hidden: int | None = None
    """Width of hidden states and cells.  None: d_model.  Where it is another, a projection leads back to d_model."""
    output_norm: bool = False
    """Whether a LayerNorm comes before the output layer."""
    dropout: float = 0.0
    """Probability of dropping, during training, what goes into a layer and what comes out of the last, but nothing of what
    goes from token to token (Zaremba et al. 2014)."""

    def __post_init__(self):
        super().__post_init__()
        if self.d_hidden is None:
            self._derive("d_hidden", self.d_model)
        check_positive(self, "d_hidden")
        check_fraction(self, "dropout")


class LSTM(RecurrentModel):
    """An LSTM language model; see ``LanguageModel.forward`` for its use.

    **Texts longer than a piece.**  A forward pass with a cache goes on from the state of the piece before, also in
    training; gradients end where the piece begins (truncated back-propagation through time).
    """

    model_type = "lstm"
    config_class = LSTMConfig

    def make_block(self, config: LSTMConfig, layer: int) -> LSTMLayer:
        return LSTMLayer(config.d_model if layer == 0 else config.d_hidden, config.d_hidden)

    def make_norm(self, config: LSTMConfig) -> nn.Module:
        """Projection and norm, as far as the configuration asks for them."""
        parts = nn.Sequential()
        if config.d_hidden != config.d_model:
            parts.add_module("projection", nn.Linear(config.d_hidden, config.d_model))
        if config.output_norm:
            parts.add_module("norm", LayerNorm(config.d_model, config.norm_eps))
        return parts

    def run_blocks(self, x_BTD: Tensor, cache: StateCache, padding: Padding | None) -> Tensor:
        dropout = self.config.dropout
        for block, state in zip(self.blocks, cache.states):
            x_BTD = self.run_block(block, F.dropout(x_BTD, dropout, self.training), state, padding)
        return F.dropout(x_BTD, dropout, self.training)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"hidden": (self.config.d_hidden,), "cell": (self.config.d_hidden,)}

    def context_flops_per_token(self, context_length: int) -> int:
        """4 per unit and layer, whatever the context: two products, one sum and one product give cell and hidden state.
        The recurrent product is one with a weight matrix and counted there."""
        return 4 * self.config.n_layers * self.config.d_hidden

    @torch.no_grad()
    def init_weights(self) -> None:
        """Matrices uniform in +-1/sqrt(H), as ``torch.nn.LSTM``; biases 0, but 1 for the forget gates, so that the cell
        keeps what it has until it learns to forget (Gers et al. 2000; Jozefowicz et al. 2015, section 5)."""
        H = self.config.d_hidden
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.uniform_(module.weight, -(H**-0.5), H**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.blocks:
            block.input.bias[H : 2 * H] = 1.0
        nn.init.normal_(self.embedding.weight, 0.0, self.config.init_std)

    @classmethod
    def weight_rules(cls, config: LSTMConfig) -> list[Rule]:
        rules = [Rule("embedding.weight", ["embedding.weight"])]
        for i in range(config.n_layers):
            names = {"input.weight": "weight_ih", "recurrent.weight": "weight_hh", "input.bias": "bias"}
            rules += [Rule(f"blocks.{i}.{ours}", [f"lstm.{theirs}_l{i}"]) for ours, theirs in names.items()]
        outer = ["projection"] * (config.d_hidden != config.d_model) + ["norm"] * config.output_norm
        rules += [Rule(f"final_norm.{n}.{part}", [f"{n}.{part}"]) for n in outer for part in ("weight", "bias")]
        return rules if config.tie_embeddings else [*rules, Rule("lm_head.weight", ["lm_head.weight"])]

    @classmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> LSTMConfig:
        return LSTMConfig(
            **common_from_huggingface(values),
            context_length=values.get("max_position_embeddings", 1024),
            d_hidden=values.get("lstm_hidden_size"),
            output_norm=values.get("output_norm", False),
            norm_eps=values.get("norm_eps", 1e-5),
            dropout=values.get("dropout", 0.0),
        )

    @classmethod
    def config_to_huggingface(cls, config: LSTMConfig) -> dict[str, Any]:
        return common_to_huggingface(config) | {
            "architectures": ["LSTMForCausalLM"],
            "model_type": "lstm",
            "max_position_embeddings": config.context_length,
            "lstm_hidden_size": config.d_hidden,
            "output_norm": config.output_norm,
            "norm_eps": config.norm_eps,
            "dropout": config.dropout,
        }
