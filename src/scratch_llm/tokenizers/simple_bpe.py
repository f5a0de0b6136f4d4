"""Byte-level BPE, the clear version: the whole idea with dicts and loops, to be read in ten minutes.

Training (Sennrich et al. 2016, on bytes as in GPT-2): cut the text into pieces, write every piece as single
bytes, then again and again join the pair of neighbours that occurs most often.  Encoding repeats the joins
in the order in which they were learned.  Decoding puts the bytes back together.

:class:`~scratch_llm.tokenizers.ByteLevelBPE` learns the very same merges, some hundred times faster.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import regex

from .byte_table import BYTE_ORDER
from .patterns import DEFAULT_PATTERN, PATTERNS

Pair = tuple[bytes, bytes]


class SimpleBPE:
    """A vocabulary of 256 bytes, then one token per merge, then the special tokens.

    Attributes:
        vocab: token -> id.  A token is ``bytes``; a special token is ``str``, so the two never mix.
        merges: pairs in the order learned; the position is the pair's rank.
    """

    def __init__(
        self,
        merges: Sequence[Pair],
        special_tokens: Sequence[str] = (),
        pattern: str = DEFAULT_PATTERN,
        normalization: str | None = "NFC",
    ):
        self.merges = list(merges)
        self.ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self.pattern = PATTERNS[pattern]
        self.normalization = normalization
        self.special_tokens = list(special_tokens)
        self.vocab: dict[bytes | str, int] = {}
        tokens = [bytes([byte]) for byte in BYTE_ORDER] + [left + right for left, right in self.merges]
        for token in [*tokens, *self.special_tokens]:
            self.vocab[token] = len(self.vocab)
        self.id_to_token = {number: token for token, number in self.vocab.items()}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        pattern: str = DEFAULT_PATTERN,
        tie_break: str = "greatest_bytes",
        normalization: str | None = "NFC",
        min_frequency: int = 2,
    ) -> SimpleBPE:
        """Learn merges until the vocabulary has ``vocab_size`` tokens or no pair is left worth joining."""
        model = cls([], special_tokens, pattern, normalization)
        # 1. Count the pieces; each becomes a list of single bytes.
        piece_counts: Counter[str] = Counter()
        for text in texts:
            for is_special, part in model._parts(text):
                if not is_special:
                    piece_counts.update(model._pieces(part))
        words = {piece: [bytes([byte]) for byte in piece.encode()] for piece in piece_counts}
        ids = {bytes([byte]): number for number, byte in enumerate(BYTE_ORDER)}
        merges: list[Pair] = []

        while len(ids) + len(special_tokens) < vocab_size:
            # 2. Count every pair of neighbours, as often as its piece occurs.
            pair_counts: Counter[Pair] = Counter()
            for piece, word in words.items():
                for pair in pairwise(word):
                    pair_counts[pair] += piece_counts[piece]
            # 3. The most frequent pair wins; equals are told apart by the named rule.
            if tie_break == "greatest_bytes":
                best = max(pair_counts, key=lambda pair: (pair_counts[pair], pair), default=None)
            else:  # "least_ids": the oldest tokens
                best = max(pair_counts, key=lambda p: (pair_counts[p], -ids[p[0]], -ids[p[1]]), default=None)
            if best is None or pair_counts[best] < min_frequency:
                break
            # 4. Join it everywhere.
            for word in words.values():
                join_pair(word, best)
            ids[best[0] + best[1]] = len(ids)
            merges.append(best)
        return cls(merges, special_tokens, pattern, normalization)

    def encode(self, text: str) -> list[int]:
        """Text -> token ids.  Special tokens in the text become their own ids."""
        token_ids = []
        for is_special, part in self._parts(text):
            if is_special:
                token_ids.append(self.vocab[part])
                continue
            for piece in self._pieces(part):
                token_ids += [self.vocab[token] for token in self._encode_piece(piece)]
        return token_ids

    def _encode_piece(self, piece: str) -> list[bytes]:
        word = [bytes([byte]) for byte in piece.encode()]
        while len(word) > 1:
            # Of the pairs present, the one learned first; stop when none was ever learned.
            best = min(pairwise(word), key=lambda pair: self.ranks.get(pair, float("inf")))
            if best not in self.ranks:
                break
            join_pair(word, best)
        return word

    def decode(self, token_ids: Iterable[int]) -> str:
        """Token ids -> text.  Bytes that are no whole character become U+FFFD."""
        tokens = [self.id_to_token[number] for number in token_ids]
        data = b"".join(token.encode() if isinstance(token, str) else token for token in tokens)
        return data.decode(errors="replace")

    def _parts(self, text: str) -> list[tuple[bool, str]]:
        """Cut out special tokens; of two that start at the same place the longer one counts."""
        if not self.special_tokens:
            return [(False, text)]
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        cut = regex.split("(" + "|".join(map(regex.escape, longest_first)) + ")", text)
        return [(part in self.special_tokens, part) for part in cut if part]

    def _pieces(self, text: str) -> list[str]:
        if self.normalization:
            text = unicodedata.normalize(self.normalization, text)
        return regex.findall(self.pattern, text)


def join_pair(word: list[bytes], pair: Pair) -> None:
    """Join every occurrence of ``pair`` in ``word``, in place, from left to right."""
    i = 0
    while i < len(word) - 1:
        if word[i] == pair[0] and word[i + 1] == pair[1]:
            word[i : i + 2] = [pair[0] + pair[1]]
        i += 1
