"""Byte-level BPE, the fast version: training, encoding and decoding of real corpora.

The algorithm is in :mod:`simple_bpe`; this class joins the parts that make it fast
(:mod:`training`, :mod:`text_encoder`) and safe.  Format: Radford et al. 2019 (GPT-2), section 2.2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from .bpe import BPETokenizer
from .byte_table import to_printable
from .patterns import DEFAULT_PATTERN, PreTokenizer
from .piece_encoder import PieceCache
from .special_tokens import SpecialTokens
from .trainer import Progress
from .training import TrainingReport, learn_vocabulary


class ByteLevelBPE(BPETokenizer):
    """A tokenizer whose 256 base tokens are the bytes, so that any text encodes and decodes without loss.

    Make one with :meth:`train`, :meth:`load` or :meth:`from_gpt2_files`.

    Args:
        tokens: the bytes of every ordinary token by id; ``None`` where a special token has the id.
        merges: (left id, right id, new id) in the order learned.
        special_tokens: name -> id.
        pattern: see :mod:`patterns`.
        normalization: Unicode form applied before encoding, or ``None``.
        added_tokens, normalized_tokens: see :class:`Tokenizer`.
        ignore_merges: a piece that is a token as a whole becomes it, whatever the merges say.

    Attributes:
        special_tokens: name -> id.
        merges: as given.
        report: what training did (``None`` for a loaded tokenizer).

    Raises:
        ValueError: parts that do not fit together.
    """

    def __init__(
        self,
        tokens: Sequence[bytes | None],
        merges: Sequence[tuple[int, int, int]],
        special_tokens: Mapping[str, int] | None = None,
        *,
        pattern: str | tuple[str, ...] = DEFAULT_PATTERN,
        normalization: str | None = "NFC",
        added_tokens: Mapping[str, int] | None = None,
        normalized_tokens: Collection[str] = (),
        ignore_merges: bool = False,
        report: TrainingReport | None = None,
    ):
        merges = [tuple(merge) for merge in merges]
        ids = {token: number for number, token in enumerate(tokens) if token is not None}
        missing = [byte for byte in range(256) if bytes([byte]) not in ids]
        if missing:
            raise ValueError(
                f"{len(missing)} of the 256 byte tokens are missing, for example 0x{missing[0]:02X}: this is not a "
                "byte-level vocabulary; train one with ByteLevelBPE.train"
            )
        byte_ids = [ids[bytes([byte])] for byte in range(256)]
        super().__init__(
            merges,
            tokens=tokens,
            ids=ids,
            special_tokens=special_tokens,
            added_tokens=added_tokens,
            normalized_tokens=normalized_tokens,
            pre_tokenizer=PreTokenizer(pattern, normalization),
            pieces=PieceCache(byte_ids, merges, len(tokens), whole=ids if ignore_merges else None),
        )
        self.ignore_merges = ignore_merges
        self.report = report

    # ---------------------------------------------------------------- making one

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
        progress: Progress | None = None,
    ) -> ByteLevelBPE:
        """Learn a vocabulary.

        Args:
            texts: read once, lazily; only unique pieces and their counts are held.  A piece never crosses
                from one text to the next.
            vocab_size: 256 bytes + merges + special tokens.
            special_tokens: get the last ids; where they occur in ``texts`` they are cut out, never learned.
            pattern: "korean" (default), "gpt2", "gpt4" or a regular expression; see :mod:`patterns`.
            tie_break: "greatest_bytes" or "least_ids"; see :data:`trainer.TIE_BREAKS`.
            normalization: "NFC" (default), another form, or ``None``.
            min_frequency: a pair must occur this often to be merged.
            progress: called as ``progress(tokens_learned, tokens_wanted)`` after each new token.

        Warns:
            UserWarning: the corpus is too small for ``vocab_size``; the tokenizer is smaller
                (``report.stopped_early``).

        Raises:
            ValueError: a vocabulary too small, an empty corpus, texts that are not str, ...
        """
        learned = learn_vocabulary(
            texts,
            vocab_size,
            special_tokens,
            PreTokenizer(pattern, normalization),
            tie_break=tie_break,
            min_frequency=min_frequency,
            progress=progress,
        )
        return cls(
            learned.tokens,
            learned.merges,
            learned.special_tokens,
            pattern=pattern,
            normalization=normalization,
            report=learned.report,
        )

    @classmethod
    def from_gpt2_files(cls, encoder_json: str | Path, vocab_bpe: str | Path) -> ByteLevelBPE:
        """Read the two files that OpenAI published with GPT-2; see :mod:`gpt2_files`."""
        from .gpt2_files import load_gpt2_files

        return load_gpt2_files(encoder_json, vocab_bpe)

    def shrink(self, vocab_size: int) -> ByteLevelBPE:
        """The tokenizer that training with a smaller ``vocab_size`` would have given.

        BPE learns its merges one after another, so a small vocabulary is the beginning of a large one.

        Raises:
            ValueError: larger than this vocabulary, smaller than bytes + special tokens, or a tokenizer
                whose ids are not bytes, merges, special tokens in this order.
        """
        least = 256 + len(self.special_tokens)
        if not least <= vocab_size <= self.vocab_size:
            raise ValueError(f"vocab_size {vocab_size} is out of range: use {least}..{self.vocab_size}")
        n_ordinary = vocab_size - len(self.special_tokens)
        if [new for _, _, new in self.merges] != list(range(256, self.vocab_size - len(self.special_tokens))):
            raise ValueError(
                "only a tokenizer made by ByteLevelBPE.train can shrink: train a smaller one instead"
            )
        return ByteLevelBPE(
            self._tokens[:n_ordinary],
            self.merges[: n_ordinary - 256],
            SpecialTokens.numbered(list(self.special_tokens), n_ordinary),
            pattern=self.pattern,
            normalization=self.normalization,
        )

    # ---------------------------------------------------------------- vocabulary

    def ordinary_names(self) -> dict[str, int]:
        return {to_printable(token): number for token, number in self._ids.items()}

    @property
    def pattern(self) -> str:
        return self.pre_tokenizer.pattern

    @property
    def normalization(self) -> str | None:
        return self.pre_tokenizer.normalization

    def __repr__(self) -> str:
        return (
            f"ByteLevelBPE(vocab_size={self.vocab_size}, pattern={self.pattern!r}, "
            f"normalization={self.normalization!r}, special_tokens={list(self.special_tokens)})"
        )
