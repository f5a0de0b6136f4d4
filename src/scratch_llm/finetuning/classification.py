"""A language model that says to which class a text belongs (Radford et al. 2018, "Improving Language Understanding by
Generative Pre-Training", section 3.2: the last token's hidden state into one new linear layer).

Texts of one batch differ in length.  They begin at the left and are filled up on the right with ``PAD``, which is no
token: attention is causal and recurrences run to the right, so no real token ever sees the padding, and the model needs
no mask.  Only the pooling has to know where a text ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scratch_llm.models.base import LanguageModel
from scratch_llm.peft import PrefixTuned, adapted_layers

PAD = -1
"""Fills rows of token ids behind the end of their text."""
POOLINGS = ("last", "mean")


class Classifier(nn.Module):
    """``backbone`` below a linear head of ``n_classes`` outputs.

    It is trained by ``scratch_llm.training.train`` like the language model itself: called with ``targets`` it returns the
    loss.  Adapters of ``scratch_llm.peft`` are injected into it as into the model (and the head thawed, see
    ``train_only``).
    """

    def __init__(self, backbone: LanguageModel, n_classes: int, pooling: str = "last", *,
                 class_weights: Sequence[float] | None = None, dropout: float = 0.0):
        """
        Args:
            pooling: which hidden states of a text go into the head: the "last" one, which has read everything before it,
                or the "mean" of all.
            class_weights: what a text of each class counts in the loss, (n_classes,); None: 1 each.
            dropout: of the pooled state, during training.

        Raises:
            ValueError: fewer than two classes, an unknown pooling, or weights that are not one positive number a class.
        """
        super().__init__()
        if n_classes < 2:
            raise ValueError(f"n_classes is {n_classes}: a classifier chooses between two classes or more")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling {pooling!r} is unknown; choose one of {', '.join(POOLINGS)}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout {dropout} must be at least 0 and below 1")
        weights = torch.tensor([1.0] * n_classes if class_weights is None else list(class_weights))
        if weights.shape != (n_classes,) or not (weights > 0).all() or not weights.isfinite().all():
            raise ValueError(f"class_weights {class_weights} must be {n_classes} numbers above 0, one a class")
        self.backbone, self.n_classes, self.pooling, self.dropout = backbone, n_classes, pooling, dropout
        # Without bias, as the ...ForSequenceClassification models of transformers have it.
        self.head = nn.Linear(backbone.config.d_model, n_classes, bias=False, device=backbone.device)
        nn.init.normal_(self.head.weight, 0.0, 0.02)
        self.register_buffer("class_weights", weights.to(backbone.device))

    def forward(self, inputs: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits of the classes, or the loss.

        Args:
            inputs: int64 (B, T), token ids at the left and ``PAD`` behind them; at least one token in each row.
            targets: class of each row, int64 (B,), -100 where it is not to be learnt; None: logits are wanted.

        Returns:
            float32 logits (B, n_classes); with ``targets`` the mean over the rows of weight times cross-entropy in nats.

        Raises:
            ValueError: a row without a token, padding before a token, classes out of range, shapes that do not fit.
        """
        real_BT = inputs >= 0
        self._check(inputs, real_BT, targets)
        hidden_BTD = self.backbone.hidden_states(inputs.clamp(min=0), None, None)
        pooled_BD = F.dropout(self.pool(hidden_BTD, real_BT), self.dropout, self.training)
        with torch.autocast(inputs.device.type, enabled=False):  # a small product; in bfloat16 logits would be coarse
            logits_BC = self.head(pooled_BD.to(self.head.weight.dtype)).float()
        if targets is None:
            return logits_BC
        nats_B = F.cross_entropy(logits_BC, targets, reduction="none", ignore_index=-100)
        # The mean over rows, not over weights: so the shares of micro-batches add up to the batch.
        known = targets != -100
        return (nats_B * self.class_weights[targets.clamp(min=0)]).sum() / known.sum()

    def pool(self, hidden_BTD: Tensor, real_BT: Tensor) -> Tensor:
        """(B, T, D), bool (B, T) -> (B, D)."""
        lengths_B = real_BT.sum(1)
        if self.pooling == "last":
            return hidden_BTD[torch.arange(len(hidden_BTD), device=hidden_BTD.device), lengths_B - 1]
        return (hidden_BTD * real_BT[..., None]).sum(1) / lengths_B[:, None]

    # -- what the training loop asks of a model -----------------------------------------------------------------------

    @property
    def config(self):
        """The backbone's: the longest text and the vocabulary are its."""
        return self.backbone.config

    @property
    def no_decay(self) -> tuple[str, ...]:
        return self.backbone.no_decay

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def run_identity(self) -> dict:
        """What besides weights and configuration decides the result of training (see ``training.identity``)."""
        return {"pooling": self.pooling, "head dropout": self.dropout, "class weights": self.class_weights.tolist()}

    def after_step(self) -> None:
        self.backbone.after_step()

    def flops_per_token(self, context_length: int | None = None, training: bool = True) -> int:
        """As the backbone's, without its output layer; only forward where no weight of the backbone learns.

        Over-counted where frozen blocks lie below the first that learns: the backward pass stops there.
        """
        backbone = self.backbone
        learns = any(parameter.requires_grad for parameter in backbone.parameters())
        forward = 2 * backbone.head_weight.numel()
        if not (training and learns):
            return backbone.flops_per_token(context_length, training=False) - forward
        output = 3 * forward if backbone.head_weight.requires_grad else 2 * forward
        return backbone.flops_per_token(context_length) - output

    def _check(self, inputs: Tensor, real_BT: Tensor, targets: Tensor | None) -> None:
        if inputs.dim() != 2 or inputs.numel() == 0:
            raise ValueError(f"inputs have shape {tuple(inputs.shape)}: give token ids as (batch, time) int64")
        if targets is not None and targets.shape != inputs.shape[:1]:
            raise ValueError(f"targets have shape {tuple(targets.shape)}: give one class for each of {len(inputs)} rows")
        limit = self.config.context_length
        if inputs.shape[1] > limit and not self.backbone.recurrent:
            raise ValueError(f"{inputs.shape[1]} tokens are more than the model's context_length of {limit}: cut the texts")
        # On a GPU these would stop the queue of kernels; there, ``LabelledTexts`` has looked at the rows before.
        if inputs.device.type != "cpu" or torch.compiler.is_compiling():
            return
        if not real_BT[:, 0].all():
            row = int((~real_BT[:, 0]).nonzero()[0])
            raise ValueError(f"row {row} begins with padding or is empty: write each text from the left, with a token at least")
        if (real_BT[:, 1:] & ~real_BT[:, :-1]).any():
            raise ValueError("padding stands before a token: it belongs behind the text, on the right")
        if int(inputs.max()) >= self.config.vocab_size:
            raise ValueError(f"token id {int(inputs.max())} is not in the vocabulary 0..{self.config.vocab_size - 1}: "
                             "use the tokenizer the model was trained with")
        if targets is not None:
            wrong = [c for c in targets.tolist() if c != -100 and not 0 <= c < self.n_classes]
            if wrong:
                raise ValueError(f"class {wrong[0]} is not one of 0..{self.n_classes - 1}")


def layer_choices(n_blocks: int) -> str:
    """What ``train_only`` can train in a model of so many blocks, in words, without adapters."""
    return f"head, last-1{f' to last-{n_blocks}' if n_blocks > 1 else ''}, all"


def train_only(classifier: Classifier, layers: str) -> int:
    """Freeze all but the head and ``layers``; returns the number of weights that learn.

    Args:
        layers: "head": nothing else.  "last-2": the last two blocks and the final norm too.  "all": everything.  "adapters":
            the active adapters, injected before, or the prefix of a ``PrefixTuned``.

    Raises:
        ValueError: another word, more blocks than there are, or "adapters" where there are none.
    """
    inner = next(module for module in reversed(list(classifier.modules())) if isinstance(module, LanguageModel))
    if layers == "adapters":
        found = [adapter for _, layer in adapted_layers(classifier) if (adapter := layer.adapter) is not None]
        if isinstance(classifier.backbone, PrefixTuned):
            found += [part for part in (classifier.backbone.prefix, classifier.backbone.network) if part is not None]
        if not found:
            raise ValueError("the model has no adapters: inject them first (scratch_llm.peft.inject)")
        classifier.requires_grad_(False)
        for adapter in found:
            adapter.requires_grad_(True)
    elif layers == "all":
        classifier.requires_grad_(True)
    elif layers == "head":
        classifier.requires_grad_(False)
    elif layers.startswith("last-") and layers[5:].isdigit() and 1 <= int(layers[5:]) <= len(inner.blocks):
        classifier.requires_grad_(False)
        for module in (*inner.blocks[-int(layers[5:]):], inner.final_norm):
            module.requires_grad_(True)
    else:
        raise ValueError(f"cannot train {layers!r}: choose {layer_choices(len(inner.blocks))}, or adapters (injected before)")
    if layers == "all" and getattr(inner, "lm_head", None) is not None:
        inner.lm_head.requires_grad_(False)  # the loss does not depend on it
    classifier.head.requires_grad_(True)
    return sum(parameter.numel() for parameter in classifier.parameters() if parameter.requires_grad)
