"""What the two kinds of BPE share: a vocabulary that is told by its merges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import Tokenizer


class BPETokenizer(Tokenizer):
    """A tokenizer whose pieces are put together by merges.

    Args:
        merges: (left id, right id, new id) in the order learned.
        parts: the other arguments, as :class:`Tokenizer` takes them.
    """

    def __init__(self, merges: Sequence[tuple[int, int, int]], **parts: Any):
        self.merges = merges
        super().__init__(**parts)
