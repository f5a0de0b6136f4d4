"""WordPiece (Schuster & Nakajima 2012; Devlin et al. 2019), as in BERT: encoding by the greatest piece that fits.

Four things differ from byte-level BPE:

* Spaces are thrown away and every sign stands alone, so that decoding gives the words back but not the spaces.
* A piece that goes on inside a word is another token than the same letters at its beginning: "##를", "를".
* Encoding knows no merges: from left to right, the longest piece of the vocabulary that fits is taken.
* A word with a letter that the vocabulary lacks becomes "[UNK]" as a whole, and is lost.

How the pieces are chosen is in :mod:`wordpiece_trainer`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .base import Tokenizer
from .patterns import PreTokenizer, require_text, surrogate_error
from .piece_encoder import SegmentedPieces
from .special_tokens import check_names
from .wordpiece_trainer import learn_pieces

PREFIX = "##"
UNKNOWN = "[UNK]"
WORDS = r"[^\s\p{P}\p{S}]+|[\p{P}\p{S}]"
"""A run of letters and digits, or one sign.  What no alternative matches (white space) is thrown away."""


class WordSplitter(PreTokenizer):
    """The matches of an expression; what lies between them is lost."""

    def split_chunks(self, text: str, at_start: bool = True) -> Iterator[list[str]]:
        yield self._regex.findall(self.normalize(text))

    def split(self, text: str, at_start: bool = True) -> list[str]:
        return self._regex.findall(self.normalize(text))


@dataclass(frozen=True)
class LongestMatch:
    """One word -> ids, by taking the longest piece that fits again and again.

    Args:
        vocab: piece as in the vocabulary file ("를", "##를") -> id.
        prefix: of pieces that go on inside a word.
        unknown_id: of a word that cannot be written.
        max_characters: a longer word is unknown, too.
        longest: characters of the longest piece, without the prefix.
    """

    vocab: Mapping[str, int]
    prefix: str
    unknown_id: int
    max_characters: int
    longest: int

    def __call__(self, word: str) -> list[int]:
        if len(word) > self.max_characters:
            return [self.unknown_id]
        ids, start, n = [], 0, len(word)
        while start < n:
            prefix = self.prefix if start else ""
            for end in range(min(n, start + self.longest), start, -1):
                if (token := self.vocab.get(prefix + word[start:end])) is not None:
                    ids.append(token)
                    start = end
                    break
            else:
                return [self.unknown_id]
        return ids


class WordPiece(Tokenizer):
    """A WordPiece tokenizer.  Make one with :meth:`train` or :meth:`load`.

    Args:
        vocab: ordinary piece, as in the file -> id.
        special_tokens: name -> id; ``unknown`` is one of them.
        added_tokens, normalized_tokens: see :class:`Tokenizer`.
        prefix: of pieces that go on inside a word.
        unknown: name of the token for words that cannot be written.
        max_characters: a word with more is unknown.
        pattern: a regular expression whose matches are the words.
        normalization: Unicode form applied before encoding, or ``None``.

    Raises:
        ValueError: ``unknown`` is no token, or the vocabulary is empty.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        special_tokens: Mapping[str, int],
        *,
        added_tokens: Mapping[str, int] | None = None,
        normalized_tokens: Collection[str] = (),
        prefix: str = PREFIX,
        unknown: str = UNKNOWN,
        max_characters: int = 100,
        pattern: str = WORDS,
        normalization: str | None = "NFC",
    ):
        unknown_id = {**vocab, **special_tokens}.get(unknown)
        if unknown_id is None:
            raise ValueError(f"the unknown token {unknown!r} is not in the vocabulary: add it to special_tokens")
        if not vocab:
            raise ValueError("the vocabulary has no pieces: train it with WordPiece.train")
        self.prefix, self.unknown, self.max_characters = prefix, unknown, max_characters
        self._vocab = dict(sorted(vocab.items(), key=lambda item: item[1]))
        tokens: list[bytes | None] = [None] * (1 + max(vocab.values()))
        for name, number in vocab.items():
            tokens[number] = self.shown(name)
        longest = max(len(name.removeprefix(prefix)) for name in vocab)
        super().__init__(
            tokens,
            {name.encode(): number for name, number in self._vocab.items()},
            special_tokens,
            added_tokens,
            normalized_tokens,
            WordSplitter(pattern, normalization),
            SegmentedPieces(LongestMatch(self._vocab, prefix, unknown_id, max_characters, longest)),
        )
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
        score: str = "likelihood",
        alphabet_size: int | None = None,
        min_frequency: int = 2,
        normalization: str | None = "NFC",
    ) -> WordPiece:
        """Learn a vocabulary: special tokens, the alphabet, then pieces in the order in which they were joined.

        Args:
            texts: read once; only different words and their counts are held.
            vocab_size: special tokens, letters and pieces together.
            special_tokens: get the first ids, after "[UNK]".
            score: which pair is joined; see :data:`wordpiece_trainer.SCORES`.
            alphabet_size: only so many of the most frequent characters; words with others are left out of training
                (and will be "[UNK]").  ``None``: as many as leave half of the vocabulary to longer pieces.
            min_frequency: a pair must occur this often to be joined.
            normalization: Unicode form, or ``None``.

        Raises:
            ValueError: no text, an unknown ``score``, a vocabulary too small for special tokens and letters.
        """
        if isinstance(texts, str):
            raise ValueError("texts must be an iterable of str, not one str: pass [text]")
        names = [UNKNOWN, *(name for name in special_tokens if name != UNKNOWN)]
        check_names(names)
        splitter = WordSplitter(WORDS, normalization)
        counts: dict[str, int] = {}
        for text in texts:
            for word in splitter.split(require_text(text)):
                counts[word] = counts.get(word, 0) + 1
        if not counts:
            raise ValueError("the corpus is empty: give at least one text with a word in it")
        pieces = learn_pieces(
            counts, vocab_size - len(names), prefix=PREFIX, score=score, alphabet_size=alphabet_size, min_frequency=min_frequency
        )
        special = {name: number for number, name in enumerate(names)}
        # A special token that was spelled out in the corpus stays special.
        ordinary = [piece for piece in pieces if piece not in special]
        return cls({piece: len(names) + n for n, piece in enumerate(ordinary)}, special, normalization=normalization)

    def shrink(self, vocab_size: int) -> WordPiece:
        """The tokenizer with the first ``vocab_size`` tokens only: what training up to there would have given.

        (But for ``alphabet_size``, which training derives from the vocabulary's size where it is not given.)

        Raises:
            ValueError: larger than this vocabulary, or not even its special tokens and one piece.
        """
        least = 1 + max(self.special_tokens.values())
        if not least < vocab_size <= self.vocab_size:
            raise ValueError(f"vocab_size {vocab_size} is out of range: use {least + 1}..{self.vocab_size}")
        kept = {name: number for name, number in self._vocab.items() if number < vocab_size}
        return WordPiece(
            kept, self.special_tokens, prefix=self.prefix, unknown=self.unknown, max_characters=self.max_characters,
            pattern=self.pre_tokenizer.pattern, normalization=self.normalization,
        )  # fmt: skip

    # ---------------------------------------------------------------- what a token shows

    def ordinary_names(self) -> dict[str, int]:
        return self._vocab

    def shown(self, name: str) -> bytes:
        """A space before every token but those that go on inside a word."""
        try:
            return (name[len(self.prefix) :] if name.startswith(self.prefix) else " " + name).encode()
        except UnicodeEncodeError:
            raise surrogate_error(name) from None

    def first_token_of(self, token_id: int) -> bytes:
        """The bytes of a token that begins a text: no space, but the prefix (as Hugging Face's decoder has it)."""
        token = self.token_of(token_id)
        return token[1:] if token.startswith(b" ") else self.prefix.encode() + token

    @property
    def normalization(self) -> str | None:
        return self.pre_tokenizer.normalization

    def __repr__(self) -> str:
        return f"WordPiece(vocab_size={self.vocab_size}, normalization={self.normalization!r}, special_tokens={list(self.special_tokens)})"
