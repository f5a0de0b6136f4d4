"""What every model of the family offers, whatever its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.layers.cache import Cache
from scratch_llm.layers.checkpointing import checkpointed
from scratch_llm.layers.loss import IGNORED, linear_cross_entropy
from scratch_llm.layers.segments import is_segments


class LanguageModel(nn.Module, ABC):
    """A causal language model: token ids in, logits of the next token out.

    A subclass sets ``model_type`` (the Hugging Face name) and gives ``hidden_states``, ``head_weight``,
    ``init_weights``, ``init_buffers``, ``weight_rules`` and the two configuration conversions.
    """

    model_type: ClassVar[str]
    config_class: ClassVar[type]
    recurrent: ClassVar[bool] = False
    """Whether the cache is a state of fixed size, so that a text may grow without limit."""
    cache_class: ClassVar[type[Cache]] = Cache
    """What its caches are."""
    no_decay: ClassVar[tuple[str, ...]] = ()
    """Last names of matrices that weight decay leaves alone; vectors never decay (``training.parameter_groups``)."""
    packs_texts: ClassVar[bool] = True
    """Whether ``padding_mask`` may number several texts in a row; a recurrent model carries its state across all of them."""
    logit_softcap: float | None = None
    """Bound of the logits (see ``softcap``); None: as the output layer gives them."""
    z_loss: float = 0.0
    """Weight of mean(log(Z)^2) in the loss while training, Z the softmax's denominator (PaLM, section 5)."""
    gradient_checkpointing: bool = False
    """In training keep only the inputs of the blocks, and compute the rest again for the backward pass: less memory, a third
    more operations, the same gradients (``layers.checkpointing``)."""

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    # -- what a subclass gives --------------------------------------------------------------------

    @abstractmethod
    def hidden_states(self, tokens_BT: Tensor, cache: Cache | None, padding_mask: Tensor | None) -> Tensor:
        """(B, T) int64 -> (B, T, D): the input of the output layer."""

    def hidden_states_side_by_side(self, batches: Sequence[tuple[Tensor, Cache]]) -> list[Tensor]:
        """``hidden_states`` of several batches of tokens, (B, T) int64 each, with a cache each and nothing padded.

        Here one after another; a model whose tokens meet in attention alone computes them together.
        """
        return [self.hidden_states(tokens_BT, cache, None) for tokens_BT, cache in batches]

    @property
    @abstractmethod
    def head_weight(self) -> Tensor:
        """The output layer's matrix, (V, D)."""

    @abstractmethod
    def init_cache(
        self,
        batch_size: int,
        max_length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Cache:
        """An empty cache for ``max_length`` positions (default: the context; a recurrent model's state has no limit).

        ``dtype`` and ``device`` are the model's by default.
        """

    @abstractmethod
    def context_flops_per_token(self, context_length: int) -> int:
        """Forward operations per token outside the weight matrices: attention, scans, recurrences."""

    def decode_context_flops(self, length: int) -> int:
        """As ``context_flops_per_token``, of a decoding step on a cache with which ``length`` tokens are seen; models that
        decode in another form than they train in say so here."""
        return self.context_flops_per_token(length)

    @abstractmethod
    def init_weights(self) -> None:
        """Draw the starting weights from torch's global random generator."""

    @abstractmethod
    def init_buffers(self) -> None:
        """Compute what is derived from the configuration and not saved (rotary tables)."""

    @classmethod
    @abstractmethod
    def weight_rules(cls, config: Any) -> list:
        """How names and layouts map to a Hugging Face checkpoint: ``scratch_llm.weights.Rule`` each."""

    @classmethod
    @abstractmethod
    def config_from_huggingface(cls, values: dict[str, Any]) -> Any:
        """The configuration in a ``config.json``; ValueError names what we do not support."""

    @classmethod
    @abstractmethod
    def config_to_huggingface(cls, config: Any) -> dict[str, Any]:
        """``config.json`` for a configuration."""

    # -- what they share --------------------------------------------------------------------------

    def forward(
        self,
        tokens_BT: Tensor,
        *,
        cache: Cache | None = None,
        padding_mask: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> Tensor:
        """Logits of the next token after every position, or the loss.

        Args:
            tokens_BT: token ids, int64 (B, T); with a cache, the tokens after those already in it.
            cache: from ``init_cache``; it is read, written and advanced by T.
            padding_mask: bool (B, T), True at real tokens, False at padding (on either side); None: all real.  Or whole
                numbers (B, T) where rows are packed with several texts: neighbours with the same number are one text,
                which neither sees the others nor counts its positions from them; 0 is padding.
            targets: int64 (B, T), the token after each position, -100 where none is to be learnt.

        Returns:
            Logits (B, T, V) in the model's dtype; with ``targets`` the mean cross-entropy in nats, a
            float32 scalar, without keeping all logits in float32.

        Raises:
            ValueError: token ids out of the vocabulary, too many tokens for the context or the cache,
                or masks and targets of another shape.
        """
        self._check_inputs(tokens_BT, cache, padding_mask, targets)
        hidden_BTD = self.hidden_states(tokens_BT, cache, padding_mask)
        if targets is not None:
            return self.loss(hidden_BTD, targets)
        return self.logits(hidden_BTD)

    def run_block(self, block: nn.Module, *arguments: Any) -> Any:
        """``block(*arguments)``, checkpointed where that is asked for; every model runs its blocks through this."""
        # What a cache of keys and values takes up it would take up twice.
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled() and not any(
            isinstance(argument, Cache) for argument in arguments
        ):
            return checkpointed(block, *arguments)
        return block(*arguments)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V): the output layer, without bias."""
        return softcap(F.linear(hidden, self.head_weight), self.logit_softcap)

    def loss(self, hidden_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross-entropy in nats, float32 (), of the targets that are not -100; in training mode with the z-loss."""
        z_loss = self.z_loss if self.training else 0.0
        if self.logit_softcap is None:
            return linear_cross_entropy(hidden_BTD, self.head_weight, targets_BT, z_loss)
        logits, targets = self.logits(hidden_BTD).float().flatten(0, 1), targets_BT.flatten()
        loss = F.cross_entropy(logits, targets)
        return loss + z_loss * logits[targets != IGNORED].logsumexp(-1).square().mean() if z_loss else loss

    def step(self, tokens_B: Tensor, cache: Cache) -> Tensor:
        """Logits (B, V) after one more token per row, int64 (B,): a decoding step."""
        return self.forward(tokens_B[:, None], cache=cache)[:, 0]

    @property
    def device(self) -> torch.device:
        return self.head_weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.head_weight.dtype

    def n_parameters(self, embeddings: bool = True) -> int:
        """Number of weights; tied ones count once.  ``embeddings=False`` leaves out the embedding tables that
        are only looked up (a tied table stays in: it is also the output matrix)."""
        total = sum(parameter.numel() for parameter in self.parameters())
        return total if embeddings else total - self._n_lookup_parameters()

    def flops_per_token(self, context_length: int | None = None, training: bool = True) -> int:
        """Floating-point operations per token of a sequence of ``context_length`` tokens.

        A product with a matrix of N weights costs 2N operations per token; attention and recurrences come on
        top (``context_flops_per_token``).  The backward pass costs twice the forward, and once for a frozen matrix, which
        needs no gradient of its own.  Embedding look-ups cost nothing; norms, rotary, adapters and element-wise work are
        left out (below 1 %).
        """
        forward = 2 * self.n_matrix_parameters() + self.context_flops_per_token(
            context_length or self.config.context_length
        )
        return 3 * forward - 2 * self._n_frozen_matrix_parameters() if training else forward

    def n_matrix_parameters(self) -> int:
        """Weights that multiply each token: all matrices and the output layer, of experts only those a token visits."""
        matrices = sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Linear))
        return matrices + (self.head_weight.numel() if getattr(self, "lm_head", None) is None else 0)

    def after_step(self) -> None:
        """Called by the training loop after each step of the optimiser; here nothing (see ``DeepseekV3``)."""

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write a Hugging Face folder; see ``scratch_llm.weights.save_model``."""
        from scratch_llm.weights import save_model

        save_model(self, folder, **options)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> LanguageModel:
        """Read a Hugging Face folder of this architecture; see ``scratch_llm.weights.load_model``."""
        from scratch_llm.weights import load_model

        model = load_model(folder, **options)
        if not isinstance(model, cls):
            raise ValueError(
                f"{folder} holds a {model.model_type} model, not {cls.model_type}: use scratch_llm.models.load_model"
            )
        return model

    # -- inside -----------------------------------------------------------------------------------

    def _n_frozen_matrix_parameters(self) -> int:
        """Of ``n_matrix_parameters`` those of linear layers that do not learn."""
        linears = [module.weight for module in self.modules() if isinstance(module, nn.Linear)]
        head = [self.head_weight] if getattr(self, "lm_head", None) is None else []
        return sum(weight.numel() for weight in [*linears, *head] if not weight.requires_grad)

    def _n_lookup_parameters(self) -> int:
        tables = (module for module in self.modules() if isinstance(module, nn.Embedding))
        return sum(table.weight.numel() for table in tables if table.weight is not self.head_weight)

    def _check_inputs(self, tokens_BT, cache, padding_mask, targets) -> None:
        if tokens_BT.dim() != 2 or tokens_BT.numel() == 0:
            raise ValueError(
                f"tokens have shape {tuple(tokens_BT.shape)}: give at least one token, as (batch, time) int64"
            )
        T, limit = tokens_BT.shape[1], self.config.context_length
        if T > limit and not self.recurrent:
            raise ValueError(
                f"{T} tokens are more than the model's context_length of {limit}: cut the text, or generate with "
                "scratch_llm.generation, which slides the window"
            )
        for name, given in (("padding_mask", padding_mask), ("targets", targets)):
            if given is not None and given.shape != tokens_BT.shape:
                raise ValueError(
                    f"{name} has shape {tuple(given.shape)}, tokens {tuple(tokens_BT.shape)}: they must be the same"
                )
        if is_segments(padding_mask) and (self.recurrent or not self.packs_texts or cache is not None) and padding_mask.max() > 1:
            raise ValueError(
                f"padding_mask numbers {int(padding_mask.max())} texts in a row, which {type(self).__name__} cannot keep apart "
                "(a state, a prefix or a cache belongs to one text): give each text a row of its own and a bool mask"
            )
        if cache is not None:
            if not isinstance(cache, self.cache_class):
                raise ValueError(
                    f"a {type(cache).__name__} is no cache for {type(self).__name__}: make one with the model's init_cache"
                )
            cache.check_room(*tokens_BT.shape)
        # On a GPU the check would stop the queue of kernels, and inside torch.compile it would break the graph.
        if tokens_BT.device.type == "cpu" and not torch.compiler.is_compiling():
            lowest, highest = (int(bound) for bound in tokens_BT.aminmax())
            if lowest < 0 or highest >= self.config.vocab_size:
                wrong = lowest if lowest < 0 else highest
                raise ValueError(
                    f"token id {wrong} is not in the vocabulary 0..{self.config.vocab_size - 1}: "
                    "use the tokenizer the model was trained with"
                )


def softcap(logits: Tensor, bound: float | None) -> Tensor:
    """``bound * tanh(logits / bound)``: about the same while small, never beyond the bound (Gemma 2, section 2)."""
    return logits if bound is None else (logits / bound).tanh() * bound


def init_linear_and_embedding(model: nn.Module, std: float, n_layers: int) -> None:
    """GPT-2's initialisation (Radford et al. 2019, section 2.3).

    Matrices and embeddings are drawn from N(0, std); those that write into the residual stream (``out``
    and ``down``) from N(0, std / sqrt(2 * n_layers)), because the stream sums 2 * n_layers of them and its
    variance should not grow with depth.  Biases are 0, norm weights 1.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            residual = name.rsplit(".", 1)[-1] in ("out", "down")
            nn.init.normal_(module.weight, 0.0, std / (2 * n_layers) ** 0.5 if residual else std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, 0.0, std)
