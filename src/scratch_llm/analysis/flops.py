"""How many floating-point operations a model needs, and which part of it needs them.

The models count themselves (``LanguageModel.flops_per_token``), and tests hold those counts against torch's own
counter.  Here the total is taken apart.  With ``N`` weights in matrices, ``L`` layers, ``H`` heads of width ``d`` and
``T`` tokens of context, a token costs

    forward   2 N  +  4 L H d T      one multiplication and one addition per weight; q k^T and the weighted sum of v
    training  3 x forward            the backward pass multiplies twice: for the gradient of the inputs and of the weights

The well-known 6 N (Kaplan et al. 2020, section 2.1) is this without the second term, which is small only as long as
``T`` is small beside ``6 D`` (D the width): see ``context_share``.
"""

from __future__ import annotations

from typing import Any

from scratch_llm.analysis.parameters import HEAD, matrices_by_component
from scratch_llm.analysis.shapes import as_shapes
from scratch_llm.models import LanguageModel

CONTEXT = "context"
"""The part that is no product with weights: attention's scores and sums, scans, recurrences."""


def forward_flops(model_or_config: LanguageModel | Any, context_length: int | None = None) -> dict[str, int]:
    """Forward operations per token by component; they add up to ``flops_per_token(context_length, training=False)``.

    Attention is counted over the whole T x T square, as in PaLM (Chowdhery et al. 2022, appendix B), Megatron and
    torch's counter, although a causal model needs half of it: with that convention figures can be compared.
    """
    model = as_shapes(model_or_config)
    parts = {name: 2 * weights for name, weights in matrices_by_component(model).items()}
    return parts | {CONTEXT: model.context_flops_per_token(context_length or model.config.context_length)}


def training_flops(
    model_or_config: LanguageModel | Any, context_length: int | None = None, *, checkpointing: bool = False
) -> int:
    """Operations per token of a training step; ``checkpointing`` adds the second forward pass that it costs.

    For model FLOPs utilisation take it without: recomputation is work of the hardware, not of the model.
    """
    model = as_shapes(model_or_config)
    forward = model.flops_per_token(context_length, training=False)
    return forward * (4 if checkpointing else 3)


def context_share(model_or_config: LanguageModel | Any, context_length: int) -> float:
    """Which share of the operations per token depends on the context, from 0 to 1."""
    parts = forward_flops(model_or_config, context_length)
    return parts[CONTEXT] / sum(parts.values())


def prefill_flops(model_or_config: LanguageModel | Any, n_tokens: int) -> int:
    """Operations to read a prompt of ``n_tokens`` (one row) and give the logits of the next token.

    Only the last position goes through the output layer, as in ``generation.Decoder``.
    """
    model = as_shapes(model_or_config)
    parts = forward_flops(model, n_tokens)
    head = parts.pop(HEAD)
    return n_tokens * sum(parts.values()) + head


def decode_flops(model_or_config: LanguageModel | Any, length: int) -> int:
    """Operations of one decoding step (one row) in which ``length`` tokens are attended to, the new one included."""
    model = as_shapes(model_or_config)
    return 2 * model.n_matrix_parameters() + model.decode_context_flops(length)


def generation_flops(model_or_config: LanguageModel | Any, n_prompt: int, n_new: int) -> tuple[int, int]:
    """(prefill, decoding) operations to answer a prompt of ``n_prompt`` tokens with ``n_new`` tokens."""
    model = as_shapes(model_or_config)
    # The prompt's logits already give the first new token.
    decoding = sum(decode_flops(model, n_prompt + step) for step in range(1, n_new))
    return prefill_flops(model, n_prompt), decoding


def six_n(model_or_config: LanguageModel | Any) -> int:
    """The rule of thumb: 6 operations per token and weight in a matrix (active ones, output layer included)."""
    return 6 * as_shapes(model_or_config).n_matrix_parameters()
