"""What the attention lab looks at: a sentence of plain tokens, and the tokens that resemble one."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from llm_workshop.tokenization import is_text
from scratch_llm.tokenizers import ByteLevelBPE


def plain_sentence(texts: Iterable[str], tokenizer: ByteLevelBPE, fewest: int = 8, most: int = 11) -> str | None:
    """The first statement of ``fewest`` to ``most`` tokens, without quotation or digits and each token whole characters."""
    for text in texts:
        for line in text.replace(". ", ".\n").splitlines():
            pieces = tokenizer.pieces(line, allow_special=False)
            plain = line.endswith(".") and not any(c in ':"“”‘’()' or c.isdigit() for c in line)
            if plain and fewest <= len(pieces) <= most and all(map(is_text, pieces)):
                return line
    return None


def neighbours(vectors_VD: Tensor, token: int, common_V: Tensor, most: int = 4) -> list[int]:
    """Ids of the ``most`` tokens whose vectors point most nearly as that of ``token`` does, of the ``common`` ones (V, bool)."""
    likeness_V = F.cosine_similarity(vectors_VD, vectors_VD[token], dim=1).masked_fill(~common_V, -torch.inf)
    likeness_V[token] = -torch.inf
    return likeness_V.topk(most).indices.tolist()
