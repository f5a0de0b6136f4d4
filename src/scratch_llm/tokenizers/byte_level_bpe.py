"""Byte-level BPE, the fast version: training, encoding and decoding of real corpora.

The algorithm is in :mod:`simple_bpe`; this class joins the parts that make it fast
(:mod:`training`, :mod:`text_encoder`) and safe.  Format: Radford et al. 2019 (GPT-2), section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from .byte_table import to_printable
from .chat import END_OF_TEXT, PAD
from .patterns import DEFAULT_PATTERN, PreTokenizer
from .piece_encoder import PieceCache
from .special_tokens import SpecialTokens
from .text_encoder import TextEncoder, pack, unpack
from .trainer import Progress
from .training import TrainingReport, learn_vocabulary


class ByteLevelBPE:
    """A tokenizer whose 256 base tokens are the bytes, so that any text encodes and decodes without loss.

    Make one with :meth:`train`, :meth:`load` or :meth:`from_gpt2_files`.

    Args:
        tokens: the bytes of every ordinary token by id; ``None`` where a special token has the id.
        merges: (left id, right id, new id) in the order learned.
        special_tokens: name -> id.
        pattern: see :mod:`patterns`.
        normalization: Unicode form applied before encoding, or ``None``.

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
        special_tokens: dict[str, int] | None = None,
        *,
        pattern: str = DEFAULT_PATTERN,
        normalization: str | None = "NFC",
        report: TrainingReport | None = None,
    ):
        self.special_tokens = SpecialTokens(special_tokens)
        self.merges = [tuple(merge) for merge in merges]
        self.pre_tokenizer = PreTokenizer(pattern, normalization)
        self.report = report
        self._ids = {token: number for number, token in enumerate(tokens) if token is not None}
        missing = [byte for byte in range(256) if bytes([byte]) not in self._ids]
        if missing:
            raise ValueError(
                f"{len(missing)} of the 256 byte tokens are missing, for example 0x{missing[0]:02X}: this is not a "
                "byte-level vocabulary; train one with ByteLevelBPE.train"
            )
        self.special_tokens.check_against({to_printable(token) for token in self._ids})
        self._tokens = list(tokens)
        self._tokens += [None] * (max(self.special_tokens.ids, default=-1) + 1 - len(self._tokens))
        for name, number in self.special_tokens.items():
            if self._tokens[number] is not None:
                raise ValueError(
                    f"id {number} of special token {name!r} is taken: give every token an id of its own"
                )
            self._tokens[number] = name.encode()
        byte_ids = [self._ids[bytes([byte])] for byte in range(256)]
        pieces = PieceCache(byte_ids, self.merges, len(self._tokens))
        self._encoder = TextEncoder(self.special_tokens, self.pre_tokenizer, pieces)

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
    def load(cls, folder: str | Path) -> ByteLevelBPE:
        """Open a folder (or a ``tokenizer.json``) in Hugging Face format; see :mod:`hf_format`."""
        from .hf_format import load_tokenizer

        return load_tokenizer(folder)

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``; see :mod:`hf_format`."""
        from .hf_format import save_tokenizer

        save_tokenizer(self, folder)

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

    # ---------------------------------------------------------------- text -> ids

    def encode(self, text: str, allow_special: bool = True) -> list[int]:
        """Token ids of a text.

        Args:
            text: any str; normalised first.
            allow_special: whether "<|end|>" in the text means the special token.  Pass ``False`` for text
                that people typed, so that nobody can close a turn or forge a system prompt.

        Raises:
            ValueError: not a str, or a lone surrogate.
        """
        return unpack(self._encoder.encode(text, allow_special))

    def encode_to_array(self, text: str, allow_special: bool = True) -> np.ndarray:
        """The same ids as a (n_tokens,) uint32 array, without a Python int per token."""
        return np.frombuffer(self._encoder.encode(text, allow_special), dtype=np.uint32)

    def encode_batch(self, texts: Iterable[str], allow_special: bool = True) -> list[list[int]]:
        """:meth:`encode` for every text."""
        _refuse_one_text(texts)
        return [self.encode(text, allow_special) for text in texts]

    def encode_iterable(self, texts: Iterable[str], allow_special: bool = True) -> Iterator[int]:
        """The ids of all texts one after another, lazily: one text is held at a time.

        A boundary between texts is a boundary between tokens: the ids are those of each text on its own,
        and no special token is put between them.  Feed whole documents, or lines of a file; chunks cut
        anywhere else would split words that :meth:`encode` of the whole keeps together.
        """
        _refuse_one_text(texts)
        for text in texts:
            yield from self.encode(text, allow_special)

    def encode_documents(
        self, texts: Iterable[str], *, allow_special: bool = False, end_with: str | None = END_OF_TEXT
    ) -> Iterator[np.ndarray]:
        """One uint32 array per text, each ended by the special token ``end_with``: bulk tokenising.

        Reads ahead by about half a million characters and encodes the new pieces of so much text together.
        """
        _refuse_one_text(texts)
        end = b"" if end_with is None else pack([self.special_id(end_with)])
        for packed in self._encoder.encode_many(texts, allow_special):
            yield np.frombuffer(packed + end, dtype=np.uint32)

    def clear_cache(self) -> None:
        """Forget the pieces met so far (for measurements; the cache is bounded anyway)."""
        self._encoder.clear_cache()

    # ---------------------------------------------------------------- ids -> text

    def decode(self, ids: Iterable[int], skip_special: bool = False, errors: str = "replace") -> str:
        """Text of token ids.  Bytes that are no whole character follow ``errors`` (as in ``bytes.decode``)."""
        return self.decode_bytes(ids, skip_special).decode("utf-8", errors)

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = False) -> bytes:
        """The exact bytes of token ids.

        Raises:
            ValueError: an id outside 0..vocab_size-1.
        """
        return b"".join(
            [
                self.token_of(number)
                for number in ids
                if not (skip_special and number in self.special_tokens.ids)
            ]
        )

    def token_of(self, token_id: int) -> bytes:
        """The bytes of one token (of its name, if special)."""
        token = self._tokens[token_id] if 0 <= token_id < len(self._tokens) else None
        if token is None:
            raise ValueError(
                f"token id {token_id} is outside the vocabulary (0..{len(self._tokens) - 1}): "
                "decode with the tokenizer that made the ids"
            )
        return token

    # ---------------------------------------------------------------- vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included: the rows an embedding needs."""
        return len(self._tokens)

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def pattern(self) -> str:
        return self.pre_tokenizer.pattern

    @property
    def normalization(self) -> str | None:
        return self.pre_tokenizer.normalization

    @property
    def eos_id(self) -> int | None:
        """Id of "<|endoftext|>", which ends a document; ``None`` if there is none."""
        return self.special_tokens.get(END_OF_TEXT)

    @property
    def pad_id(self) -> int | None:
        return self.special_tokens.get(PAD)

    def special_id(self, name: str) -> int:
        """Id of a special token.

        Raises:
            ValueError: the tokenizer has no such special token.
        """
        if name not in self.special_tokens:
            raise ValueError(
                f"this tokenizer has no special token {name!r} (it has {list(self.special_tokens) or 'none'}): "
                "train it with special_tokens=SPECIAL_TOKENS"
            )
        return self.special_tokens[name]

    def token_to_id(self, token: str | bytes) -> int | None:
        """Id of a special token's name, or of the ordinary token with these bytes (str: its UTF-8)."""
        if isinstance(token, str):
            if token in self.special_tokens:
                return self.special_tokens[token]
            token = token.encode()
        return self._ids.get(token)

    def is_special(self, token_id: int) -> bool:
        return token_id in self.special_tokens.ids

    def token_bytes(self) -> np.ndarray:
        """(vocab_size,) int32: how many bytes of text each id stands for; 0 for special tokens.

        Summed over predicted tokens, it turns a loss per token into bits per byte, which tokenizers of
        different vocabularies share.
        """
        lengths = [
            0 if number in self.special_tokens.ids or token is None else len(token)
            for number, token in enumerate(self._tokens)
        ]
        return np.array(lengths, dtype=np.int32)

    def pieces(self, text: str, allow_special: bool = True) -> list[bytes]:
        """The tokens of a text as bytes, to look at."""
        return [self.token_of(number) for number in self.encode(text, allow_special)]

    def ordinary_tokens(self) -> dict[bytes, int]:
        """Ordinary token -> id, in the order of ids."""
        return dict(self._ids)

    def __repr__(self) -> str:
        return (
            f"ByteLevelBPE(vocab_size={self.vocab_size}, pattern={self.pattern!r}, "
            f"normalization={self.normalization!r}, special_tokens={list(self.special_tokens)})"
        )


def _refuse_one_text(texts: object) -> None:
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"texts must be an iterable of str, not one {type(texts).__name__}: pass [text]")
