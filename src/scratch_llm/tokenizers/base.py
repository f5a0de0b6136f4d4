"""What all tokenizers share once they have a vocabulary: encoding, decoding, looking up, extending."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from .chat import END_OF_TEXT, PAD
from .patterns import PreTokenizer
from .piece_encoder import PieceCache
from .special_tokens import AddedTokens, SpecialTokens, check_names
from .text_encoder import TextEncoder, pack, unpack

DEFAULT_ROLES = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PAD}


class Tokenizer:
    """A vocabulary and its added tokens.  A subclass says how text becomes pieces and pieces ids.

    Args:
        tokens: the bytes that every ordinary token shows, by id; ``None`` where there is none.
        ids: bytes -> id of the ordinary tokens.
        special_tokens: name -> id; they control the model and may be hidden in ``decode``.
        added_tokens: name -> id; ordinary text that is one token wherever it stands.
        normalized_tokens: names of added tokens that are looked for only after normalisation.
        pre_tokenizer: normalises text and cuts it into pieces.
        pieces: the ids of every piece.

    Attributes:
        roles: "bos_token", "eos_token", ... -> name, as in ``tokenizer_config.json``.
        chat_template: Jinja text, or ``None``.
        post_processor: part of ``tokenizer.json`` that says which tokens go around a text.
        prefix_ids, suffix_ids: these tokens.
    """

    def __init__(
        self,
        tokens: Sequence[bytes | None],
        ids: Mapping[bytes, int],
        special_tokens: Mapping[str, int] | None,
        added_tokens: Mapping[str, int] | None,
        normalized_tokens: Collection[str],
        pre_tokenizer: PreTokenizer,
        pieces: PieceCache,
    ):
        self.pre_tokenizer = pre_tokenizer
        self.normalized_tokens = frozenset(normalized_tokens)
        self.roles: dict[str, str] = dict(DEFAULT_ROLES)
        self.chat_template: str | None = None
        self.post_processor: dict[str, Any] | None = None
        self.prefix_ids: tuple[int, ...] = ()
        self.suffix_ids: tuple[int, ...] = ()
        self._vocabulary = list(tokens)
        self._ids = ids
        self._pieces = pieces
        self._set_added(special_tokens or {}, added_tokens or {})

    def _set_added(self, special_tokens: Mapping[str, int], added_tokens: Mapping[str, int]) -> None:
        self.special_tokens = SpecialTokens(special_tokens)
        self.added_tokens = dict(added_tokens)
        ordinary = self.ordinary_names()
        both = {name for name, number in self.added_tokens.items() if ordinary.get(name) == number}
        everything = {**self.special_tokens, **{n: i for n, i in self.added_tokens.items() if n not in both}}
        SpecialTokens(self.added_tokens).check_against(self.special_tokens)
        SpecialTokens(everything).check_against(ordinary)
        size = max([len(self._vocabulary) - 1, *everything.values()]) + 1
        self._tokens = self._vocabulary + [None] * (size - len(self._vocabulary))
        for name, number in everything.items():
            if number < 0 or self._tokens[number] is not None:
                raise ValueError(
                    f"id {number} of special token {name!r} is taken: give every token an id of its own"
                )
            self._tokens[number] = self.shown(name)
        added = AddedTokens(self.special_tokens, self.added_tokens, self.normalized_tokens, self.pre_tokenizer.normalize)
        self._encoder = TextEncoder(added, self.pre_tokenizer, self._pieces)

    # ---------------------------------------------------------------- what a subclass gives

    def ordinary_names(self) -> Mapping[str, int]:
        """Ordinary tokens as the vocabulary file names them -> id, in the order of ids."""
        raise NotImplementedError

    def shown(self, name: str) -> bytes:
        """The bytes that an added token shows in decoded text."""
        return name.encode()

    # ---------------------------------------------------------------- changing one

    def extend(self, names: Sequence[str], *, special: bool = True) -> Self:
        """A tokenizer with further tokens, whose ids follow the last: all other texts keep their ids.

        The model needs rows for them: ``scratch_llm.models.resize_embeddings(model, tokenizer.vocab_size)``.

        Args:
            names: of the new tokens.
            special: whether they control the model ("<|tool|>"); otherwise they are text ("<think>", "밑바닥"), shown
                in ``decode`` and found in what people type.

        Raises:
            ValueError: a name that is no name, is given twice or is a token already.
        """
        check_names(names)
        for name in names:
            known = {**self.special_tokens, **self.added_tokens, **self.ordinary_names()}
            if name in known:
                raise ValueError(f"{name!r} is a token already (id {known[name]}): leave it out")
        new = {name: self.vocab_size + n for n, name in enumerate(names)}
        twin = copy.copy(self)
        twin.roles = dict(self.roles)
        if special:
            twin._set_added(self.special_tokens | new, self.added_tokens)
        else:
            twin._set_added(self.special_tokens, self.added_tokens | new)
        return twin

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open a folder (or a ``tokenizer.json``) in Hugging Face format; see :mod:`hf_format`.

        Raises:
            ValueError: also where the file is of the other kind of tokenizer.
        """
        from .hf_format import load_tokenizer

        tokenizer = load_tokenizer(folder)
        if not isinstance(tokenizer, cls):
            raise ValueError(
                f"{folder} holds a {type(tokenizer).__name__}, not a {cls.__name__}: open it with "
                "scratch_llm.tokenizers.load_tokenizer"
            )
        return tokenizer

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``; see :mod:`hf_format`."""
        from .hf_format import save_tokenizer

        save_tokenizer(self, folder)

    # ---------------------------------------------------------------- text -> ids

    def encode(self, text: str, allow_special: bool = True, add_special_tokens: bool = False) -> list[int]:
        """Token ids of a text.

        Args:
            text: any str; normalised first.
            allow_special: whether "<|end|>" in the text means the special token.  Pass ``False`` for text
                that people typed, so that nobody can close a turn or forge a system prompt.
            add_special_tokens: put the tokens around it that the model expects (Llama's "<s>"), as the file says.

        Raises:
            ValueError: not a str, or a lone surrogate.
        """
        ids = unpack(self._encoder.encode(text, allow_special))
        return [*self.prefix_ids, *ids, *self.suffix_ids] if add_special_tokens else ids

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
        kept = [number for number in ids if not (skip_special and number in self.special_tokens.ids)]
        tokens = [self.token_of(number) for number in kept]
        if kept:
            tokens[0] = self.first_token_of(kept[0])
        return b"".join(tokens)

    def token_of(self, token_id: int) -> bytes:
        """The bytes of one token (of its name, if special)."""
        token = self._tokens[token_id] if 0 <= token_id < len(self._tokens) else None
        if token is None:
            raise ValueError(
                f"token id {token_id} is outside the vocabulary (0..{len(self._tokens) - 1}): "
                "decode with the tokenizer that made the ids"
            )
        return token

    def first_token_of(self, token_id: int) -> bytes:
        """The bytes of a token that begins a text: here the same."""
        return self.token_of(token_id)

    # ---------------------------------------------------------------- vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included: the rows an embedding needs."""
        return len(self._tokens)

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def eos_id(self) -> int | None:
        """Id of the token that ends a document: the file's ``eos_token``, else "<|endoftext|>"; ``None``: there is none."""
        return self.token_id_of_role("eos_token")

    @property
    def bos_id(self) -> int | None:
        return self.token_id_of_role("bos_token")

    @property
    def pad_id(self) -> int | None:
        return self.token_id_of_role("pad_token")

    def token_id_of_role(self, role: str) -> int | None:
        """Id of "bos_token", "eos_token", "pad_token" or "unk_token" (as in ``tokenizer_config.json``)."""
        return self.special_tokens.get(self.roles.get(role))

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
        """Id of an added token's name, or of the ordinary token with these bytes (str: its UTF-8)."""
        if isinstance(token, str):
            if token in self.special_tokens:
                return self.special_tokens[token]
            if token in self.added_tokens:
                return self.added_tokens[token]
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


def _refuse_one_text(texts: object) -> None:
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"texts must be an iterable of str, not one {type(texts).__name__}: pass [text]")
