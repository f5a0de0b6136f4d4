"""Unigram (Kudo 2018), as in SentencePiece, T5 and ALBERT: every piece has a probability, the likeliest cut wins.

Unlike BPE there are no merges and no order: a text is cut so that the product of its pieces' probabilities is the
greatest (:class:`LikeliestCut`, by dynamic programming).  Spaces are the visible character "▁" at the beginning of a
word; a character that no piece covers becomes its UTF-8 bytes (``byte_fallback``) or the unknown token.

How the pieces and their probabilities are learned is in :mod:`unigram_trainer`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .base import Tokenizer
from .patterns import DEFAULT_PATTERN, PreTokenizer, require_text
from .piece_encoder import SegmentedPieces, to_bytes
from .sentencepiece_bpe import SPACE, SpaceMarker, SpaceRules
from .special_tokens import check_names
from .unigram_trainer import learn_pieces

UNKNOWN = "<unk>"
UNKNOWN_PENALTY = 10.0
"""A character that no piece covers costs this much more than the rarest piece (SentencePiece, Hugging Face)."""
BYTE_NAMES = tuple(f"<0x{byte:02X}>" for byte in range(256))


@dataclass(frozen=True)
class LikeliestCut:
    """One word -> ids, by the cut with the greatest sum of scores (Viterbi's algorithm).

    Args:
        scores: piece -> (log probability, id).
        longest: characters of the longest piece.
        unknown_score: of a character that no piece covers alone.
        unknown_id: its token, where there is no byte fallback.
        byte_ids: ids of the 256 bytes, or ``None``.
    """

    scores: Mapping[str, tuple[float, int]]
    longest: int
    unknown_score: float
    unknown_id: int
    byte_ids: tuple[int, ...] | None

    def cut(self, word: str) -> list[tuple[str, int | None]]:
        """(piece, its id or ``None`` for an unknown character), in order."""
        n = len(word)
        best = [0.0] + [float("-inf")] * n  # of the first i characters
        last: list[tuple[int, int | None]] = [(0, None)] * (n + 1)  # (where their last piece begins, its id)
        for start in range(n):
            here = best[start]
            for end in range(start + 1, min(start + self.longest, n) + 1):
                found = self.scores.get(word[start:end])
                # Of equally good cuts the one found first stays: the piece that begins first, that is, the longest.
                if found is not None and here + found[0] > best[end]:
                    best[end], last[end] = here + found[0], (start, found[1])
            if word[start] not in self.scores and here + self.unknown_score > best[start + 1]:
                best[start + 1], last[start + 1] = here + self.unknown_score, (start, None)
        pieces, end = [], n
        while end:
            start, number = last[end]
            pieces.append((word[start:end], number))
            end = start
        return pieces[::-1]

    def __call__(self, word: str) -> list[int]:
        ids: list[int] = []
        after_unknown = False
        for piece, number in self.cut(word):
            if number is not None:
                ids.append(number)
            elif self.byte_ids is not None:
                ids += [self.byte_ids[byte] for byte in to_bytes(piece)]
            elif not after_unknown:  # a run of unknown characters is one token
                ids.append(self.unknown_id)
            after_unknown = number is None
        return ids


class OneStretch:
    """Whether a pattern leaves a piece whole."""

    def __init__(self, pattern: str):
        self._cutter = PreTokenizer(pattern, None)

    def __call__(self, piece: str) -> bool:
        return len(self._cutter.split(piece.replace(SPACE, " "))) == 1


class Unigram(Tokenizer):
    """A Unigram tokenizer.  Make one with :meth:`train` or :meth:`load`.

    Args:
        vocab: (piece, log probability) by id; special tokens and bytes stand in it under their names.
        special_tokens: name -> id; ``unknown`` is one of them.
        added_tokens, normalized_tokens: see :class:`Tokenizer`.
        unknown: name of the unknown token.
        byte_fallback: whether unknown characters become bytes; ``vocab`` has "<0x00>" ... "<0xFF>".
        space_rules: see :class:`SpaceRules`.
        normalization: Unicode form applied before encoding, or ``None``.

    Raises:
        ValueError: a byte or the unknown token is missing, or there are no pieces.
    """

    def __init__(
        self,
        vocab: Sequence[tuple[str, float]],
        special_tokens: Mapping[str, int],
        *,
        added_tokens: Mapping[str, int] | None = None,
        normalized_tokens: Collection[str] = (),
        unknown: str = UNKNOWN,
        byte_fallback: bool = True,
        space_rules: SpaceRules | None = None,
        normalization: str | None = "NFC",
    ):
        self.vocab = [(name, float(score)) for name, score in vocab]
        ids = {name: number for number, (name, _) in enumerate(self.vocab)}
        missing = [name for name in BYTE_NAMES if byte_fallback and name not in ids]
        if missing:
            raise ValueError(f"byte_fallback needs the tokens <0x00> to <0xFF>, and {missing[0]} is missing: the file is damaged")
        if (unknown_id := {**ids, **special_tokens}.get(unknown)) is None:
            raise ValueError(f"the unknown token {unknown!r} is not in the vocabulary: add it to special_tokens")
        outside = set(special_tokens) | (set(BYTE_NAMES) if byte_fallback else set())
        scores = {name: (score, number) for number, (name, score) in enumerate(self.vocab) if name not in outside}
        if not scores:
            raise ValueError("the vocabulary has no pieces: train it with Unigram.train")
        tokens: list[bytes | None] = [None] * len(self.vocab)
        for name, number in ids.items():
            if name not in special_tokens:
                is_byte = byte_fallback and re.fullmatch("<0x[0-9A-F]{2}>", name)
                tokens[number] = bytes([int(name[3:5], 16)]) if is_byte else self.shown(name)
        self.unknown, self.byte_fallback = unknown, byte_fallback
        self.space_rules = space_rules or SpaceRules(prepend="never", cut=True, drop="nothing")
        self._ordinary = {name: number for name, number in ids.items() if name not in special_tokens}
        cut = LikeliestCut(
            scores=scores,
            longest=max(map(len, scores)),
            unknown_score=min(score for _, score in self.vocab) - UNKNOWN_PENALTY,
            unknown_id=unknown_id,
            byte_ids=tuple(ids[name] for name in BYTE_NAMES) if byte_fallback else None,
        )
        words = not any(SPACE in name.lstrip(SPACE) for name in scores)
        super().__init__(
            tokens,
            {tokens[number]: number for _, number in scores.values()},
            special_tokens,
            added_tokens,
            normalized_tokens,
            SpaceMarker(self.space_rules, normalization, words=words),
            SegmentedPieces(cut),
        )
        self.cut_word = cut.cut
        self.roles = {"unk_token": unknown} | {
            role: name for role, name in self.roles.items() if name in self.special_tokens
        }

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        byte_fallback: bool = True,
        alphabet_size: int | None = None,
        seed_size: int | None = None,
        longest: int = 16,
        pattern: str | None = DEFAULT_PATTERN,
        normalization: str | None = "NFC",
    ) -> Unigram:
        """Learn a vocabulary: special tokens, bytes, then pieces from the likeliest to the rarest.

        Args:
            texts: read once; only different words and their counts are held.
            vocab_size: special tokens, bytes and pieces together.  With too little text there are fewer pieces.
            special_tokens: get the first ids, after "<unk>".
            byte_fallback: write what is outside the alphabet as bytes instead of "<unk>".
            alphabet_size: so many of the most frequent characters are pieces.  ``None``: at most half of the pieces.
            seed_size: pieces that training begins with; ``None``: ten times as many as wanted.
            longest: characters of the longest piece.
            pattern: no piece goes on over a border where this pattern cuts (the kind of letters changes, as
                SentencePiece's split_by_unicode_script has it); ``None``: only spaces are borders.  Encoding needs no
                pattern: there are no such pieces.
            normalization: Unicode form, or ``None``.

        Raises:
            ValueError: no text, or a vocabulary without room for pieces.
        """
        if isinstance(texts, str):
            raise ValueError("texts must be an iterable of str, not one str: pass [text]")
        names = [UNKNOWN, *(name for name in special_tokens if name != UNKNOWN)]
        check_names(names)
        rules = SpaceRules(prepend="never", cut=True, drop="nothing")
        marker: PreTokenizer = SpaceMarker(rules, normalization, words=True)
        counts: dict[str, int] = {}
        for text in texts:
            # No piece goes on over a line break, which stays a character of its own.
            for line in require_text(text).splitlines(keepends=True):
                for word in marker.split(line):
                    for part in (word.rstrip("\r\n"), word[len(word.rstrip("\r\n")) :]):
                        if part:
                            counts[part] = counts.get(part, 0) + 1
        if not counts:
            raise ValueError("the corpus is empty: give at least one text with a character in it")
        reserved = [*names, *(BYTE_NAMES if byte_fallback else ())]
        # The letters of "<0x41>": a text that spells a byte's name must be cheaper as its letters than as the byte.
        required = "".join(sorted(set("".join(BYTE_NAMES)))) if byte_fallback else ""
        scores = learn_pieces(
            counts, vocab_size - len(reserved), required=required, alphabet_size=alphabet_size, seed_size=seed_size, longest=longest,
            may_be=None if pattern is None else OneStretch(pattern),
        )
        scores = {piece: score for piece, score in scores.items() if piece not in reserved}
        byte_score = 7 * min(scores.values())
        vocab = [(name, 0.0) for name in names] + [(name, byte_score) for name in reserved[len(names) :]] + list(scores.items())
        special = {name: number for number, name in enumerate(names)}
        return cls(vocab, special, byte_fallback=byte_fallback, space_rules=rules, normalization=normalization)

    # ---------------------------------------------------------------- what a token shows

    def ordinary_names(self) -> dict[str, int]:
        return self._ordinary

    def shown(self, name: str) -> bytes:
        return name.replace(SPACE, " ").encode()

    def first_token_of(self, token_id: int) -> bytes:
        return self.space_rules.begin(self.token_of(token_id))

    @property
    def normalization(self) -> str | None:
        return self.pre_tokenizer.normalization

    def __repr__(self) -> str:
        return (
            f"Unigram(vocab_size={self.vocab_size}, byte_fallback={self.byte_fallback}, "
            f"normalization={self.normalization!r}, special_tokens={list(self.special_tokens)})"
        )
