"""What a model says, in a form that can be shown: one line, no broken letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from scratch_llm.tokenizers.byte_table import from_printable


def one_line(text: str) -> str:
    """White space folded; bytes that are no whole letter (a cut inside a syllable) as ▯."""
    return " ".join(text.split()).replace("\ufffd", "▯")


def token_label(tokenizer: Any, token: int) -> str:
    """A token of a transformers tokenizer as people read it: its text, a leading space as _, bytes of a letter in hexadecimal."""
    text = tokenizer.decode([token])
    name = tokenizer.convert_ids_to_tokens(token)
    if "\ufffd" in text:
        if name.startswith("<0x"):
            return name
        raw = from_printable(name)
        return "_" * raw.startswith(b" ") + "0x" + raw.lstrip(b" ").hex().upper()
    if name.startswith("▁") and not text.startswith(" "):
        text = " " + text  # SentencePiece's mark, which decoding leaves out at the beginning
    return text.replace(" ", "_").replace("\n", "↵") or "(빈 글자)"


def ordinary_tokens(tokenizer: Any, model: Any) -> list[int]:
    """Ids that stand for text: no special ones, none that the model has no row for."""
    special = set(tokenizer.all_special_ids)
    return [token for token in range(min(len(tokenizer), model.config.vocab_size)) if token not in special]


@torch.no_grad()
def losses_of_a_repetition(model: Any, vocab: Sequence[int], length: int, rows: int, seed: int) -> torch.Tensor:
    """Loss (nats) of each token of rows that say ``length`` random tokens twice; averaged over ``rows``: (2 length - 1,).

    The first half cannot be predicted by anyone.  The second can, by a model that finds the same token earlier in its
    context and copies what came after it (Olsson et al. 2022, "In-context Learning and Induction Heads").
    """
    chosen = torch.randint(len(vocab), (rows, length), generator=torch.Generator().manual_seed(seed))
    once = torch.tensor(list(vocab))[chosen]
    twice = torch.cat([once, once], dim=1).to(next(model.parameters()).device)
    logits = model(twice).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), twice[:, 1:], reduction="none")
    return losses.mean(0).cpu()
