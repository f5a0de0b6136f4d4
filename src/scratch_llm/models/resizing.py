"""Changing the number of tokens of a model: new rows for a tokenizer that was extended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from scratch_llm.models.base import LanguageModel
from scratch_llm.models.config import replace


def resize_embeddings(
    model: LanguageModel,
    vocab_size: int,
    *,
    noise: float = 0.0,
    seed: int = 0,
    allow_shrinking: bool = False,
) -> LanguageModel:
    """Give a model ``vocab_size`` tokens, in place; the logits of the old ones stay as they were.

    A new row is the mean of the old ones (Hewitt 2021, "Initializing new word embeddings for pretrained language
    models").  With small random rows a new token's logit would be near 0 while those of the others are often far below
    0, so that it would take nearly all probability; the mean row's logit is the mean of the logits, which the partition
    function hardly notices: its probability is at most 1 / (old vocab_size) of the old tokens' sum.

    Args:
        model: any of ``scratch_llm.models``.  Make optimizers afterwards: the tables are new parameters.
        vocab_size: number of tokens from now on, such as ``tokenizer.vocab_size``.
        noise: standard deviation of what is added to each new row, in standard deviations of the old rows (per
            column), so that new tokens differ from the start; 0 adds nothing.
        seed: of the noise.
        allow_shrinking: whether the last rows may be dropped.

    Returns:
        The same model; its ``config.vocab_size`` is the new one.

    Raises:
        ValueError: fewer tokens without ``allow_shrinking``, or an id of the configuration would be cut off.
    """
    old_size = model.config.vocab_size
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size < 1:
        raise ValueError(f"vocab_size is {vocab_size!r}: it must be a whole number of at least 1")
    if not noise >= 0:
        raise ValueError(f"noise is {noise!r}: it must be at least 0")
    if vocab_size < old_size and not allow_shrinking:
        raise ValueError(
            f"vocab_size {vocab_size} is below the model's {old_size} and would drop {old_size - vocab_size} tokens: "
            "pass allow_shrinking=True if that is meant"
        )
    config = replace(model.config, vocab_size=vocab_size)  # checked before anything changes
    generator = torch.Generator().manual_seed(seed)
    tables = [model.embedding] if model.lm_head is None else [model.embedding, model.lm_head]
    for table in tables:
        weight = _resized(table.weight.detach(), vocab_size, noise, generator)
        table.weight = nn.Parameter(weight, requires_grad=table.weight.requires_grad)
        setattr(table, "num_embeddings" if isinstance(table, nn.Embedding) else "out_features", vocab_size)
    model.config = config
    return model


def set_rows_to_means(model: LanguageModel, pieces: Mapping[int, Sequence[int]]) -> LanguageModel:
    """Give each new token the mean row of the tokens that wrote it before, in place.

    "▁안녕" = mean of the rows of " ", "안", "녕" (as in fast vocabulary transfer, Gee et al. 2022): the model knows something
    about these, so a new token begins near its meaning instead of in the middle of all tokens.

    Args:
        model: already resized (:func:`resize_embeddings`).
        pieces: id of a new token -> ids of the old tokens that its text was written with.

    Raises:
        ValueError: an id outside the table, or no pieces.
    """
    tables = [model.embedding] if model.lm_head is None else [model.embedding, model.lm_head]
    for new, old in pieces.items():
        if not old or not all(0 <= number < model.config.vocab_size for number in (new, *old)):
            raise ValueError(
                f"token {new} with the pieces {list(old)} does not fit a model of {model.config.vocab_size} tokens: resize it "
                "first, and give each new token the ids of its old pieces"
            )
    with torch.no_grad():
        for table in tables:
            before = table.weight.detach().clone().float()
            for new, old in pieces.items():
                table.weight[new] = before[list(old)].mean(0).to(table.weight.dtype)
    return model


def _resized(old_VD: Tensor, n: int, noise: float, generator: torch.Generator) -> Tensor:
    """(V, D) -> (n, D): the first rows as they are, new ones the mean of the old."""
    if n <= len(old_VD):
        return old_VD[:n].clone()
    wide_VD = old_VD.float()  # a mean of many bfloat16 numbers would lose most of them
    new = wide_VD.mean(0).expand(n - len(old_VD), -1)
    if noise:
        drawn = torch.randn(new.shape, generator=generator).to(old_VD.device)
        new = new + noise * wide_VD.std(0, correction=0) * drawn
    return torch.cat([old_VD, new.to(old_VD.dtype)])
