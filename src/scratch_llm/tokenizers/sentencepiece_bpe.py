"""BPE in the manner of SentencePiece (Kudo & Richardson 2018), as in Llama 2 and Gemma: opened, not trained, here.

Three things differ from byte-level BPE:

* A space is a visible character, "▁", and part of the word that follows.  Text is not cut into words before merging; the
  vocabulary just has no token that goes on over a space.
* The base tokens are characters.  One that the vocabulary lacks becomes its UTF-8 bytes, "<0xEB><0xB7><0x81>"
  (``byte_fallback``), or the unknown token.
* Many models were trained with a space before every text, which decoding takes away again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .bpe import BPETokenizer
from .patterns import NORMALIZATIONS, PreTokenizer
from .piece_encoder import PieceCache, to_bytes

SPACE = "▁"

PREPENDS = ("never", "every", "missing", "first")
DROPS = ("nothing", "space", "spaces of the first token")


@dataclass(frozen=True)
class SpaceRules:
    """What happens to spaces.  Text between two added tokens is called a stretch."""

    prepend: str = "every"
    """Where a "▁" is put in front: "every" stretch; those where it is "missing"; the "first" stretch if it is missing
    there; "never"."""
    cut: bool = False
    """Whether every "▁" begins a new piece, so that runs of spaces never merge."""
    drop: str = "space"
    """What decoding takes from the beginning of a text: "nothing", one "space", or all "spaces of the first token"."""

    def begin(self, token: bytes) -> bytes:
        """The bytes of a token that begins a text, without the space that encoding put there."""
        if self.drop == "space":
            return token.removeprefix(b" ")
        return token.replace(b" ", b"") if self.drop == "spaces of the first token" else token


class SpaceMarker(PreTokenizer):
    """Writes spaces as "▁" and cuts where no merge crosses, so that the pieces can be remembered.

    Args:
        rules: see there.
        normalization: Unicode form applied first, or ``None``.
        words: whether no token of the vocabulary goes on over a space; else a whole stretch is one piece.
    """

    def __init__(self, rules: SpaceRules, normalization: str | None, words: bool):
        if rules.prepend not in PREPENDS or rules.drop not in DROPS or normalization not in NORMALIZATIONS:
            raise ValueError(f"{rules} with normalization {normalization!r} is unknown: see SpaceRules")
        super().__init__(f"{SPACE}[^{SPACE}]*|[^{SPACE}]+" if rules.cut else f"{SPACE}*[^{SPACE}]+|{SPACE}+", normalization)
        self.rules = rules
        self._whole = not (rules.cut or words)

    def split(self, text: str, at_start: bool = True) -> list[str]:
        return next(self.split_chunks(text, at_start))

    def split_chunks(self, text: str, at_start: bool = True):
        text = self.normalize(text).replace(" ", SPACE)
        prepend = self.rules.prepend
        is_missing = not text.startswith(SPACE)
        if text and (prepend == "every" or (is_missing and (prepend == "missing" or (prepend == "first" and at_start)))):
            text = SPACE + text
        yield ([text] if text else []) if self._whole else self._regex.findall(text)


class CharacterPieces(PieceCache):
    """piece -> ids, beginning with characters instead of bytes.

    Args:
        vocab: token as in the vocabulary file -> id.
        merges: (left, right, new) in order.
        byte_ids: id of every byte, for characters not in ``vocab``; ``None`` without byte fallback.
        unknown_id: for such characters, where there is no byte fallback.
        fuse_unknown: whether neighbouring ones are one unknown token.
        ignore_merges: whether a piece that is a token becomes it at once.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[int, int, int]],
        byte_ids: Sequence[int] | None,
        unknown_id: int | None,
        fuse_unknown: bool,
        ignore_merges: bool,
    ):
        super().__init__(byte_ids or [], merges, 1 + max(vocab.values()))
        self._batch = None  # it begins with bytes
        self._arguments = (vocab, merges, byte_ids, unknown_id, fuse_unknown, ignore_merges)
        self._vocab = vocab
        self._unknown_id, self._fuse_unknown, self._ignore_merges = unknown_id, fuse_unknown, ignore_merges

    def _start(self, piece: str) -> list[int]:
        vocab, ids = self._vocab, []
        if self._ignore_merges and piece in vocab:
            return [vocab[piece]]
        for character in piece:
            if (token := vocab.get(character)) is not None:
                ids.append(token)
                continue
            data = to_bytes(character)
            if self._byte_ids:
                ids += [self._byte_ids[byte] for byte in data]
            elif not (self._fuse_unknown and ids and ids[-1] == self._unknown_id):
                ids.append(self._unknown_id)
        return ids


class SentencePieceBPE(BPETokenizer):
    """A tokenizer of characters, "▁" for spaces, and bytes for what is rare.  Open one with :meth:`load`.

    Args:
        vocab: ordinary token, as in the file -> id.
        merges: (left id, right id, new id) in the order learned.
        special_tokens, added_tokens, normalized_tokens: see :class:`Tokenizer`.
        space_rules: see :class:`SpaceRules`.
        normalization: Unicode form applied before encoding, or ``None``.
        byte_fallback: whether unknown characters become bytes; the vocabulary has "<0x00>" ... "<0xFF>".
        unknown: name of the token for unknown characters; needed without ``byte_fallback``.
        fuse_unknown, ignore_merges: see :class:`CharacterPieces`.

    Raises:
        ValueError: parts that do not fit together.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[int, int, int]],
        special_tokens: Mapping[str, int] | None = None,
        *,
        added_tokens: Mapping[str, int] | None = None,
        normalized_tokens: Collection[str] = (),
        space_rules: SpaceRules | None = None,
        normalization: str | None = None,
        byte_fallback: bool = True,
        unknown: str | None = None,
        fuse_unknown: bool = True,
        ignore_merges: bool = False,
    ):
        merges = [tuple(merge) for merge in merges]
        byte_ids = [vocab.get(f"<0x{byte:02X}>") for byte in range(256)] if byte_fallback else None
        unknown_id = {**vocab, **(special_tokens or {})}.get(unknown)
        if byte_ids is not None and None in byte_ids:
            raise ValueError(
                f"byte_fallback needs the tokens <0x00> to <0xFF>, and <0x{byte_ids.index(None):02X}> is missing: "
                "the file is damaged; copy it again"
            )
        if byte_ids is None and unknown_id is None:
            raise ValueError(
                "neither byte_fallback nor an unknown token: characters that the vocabulary lacks would vanish; "
                "use a tokenizer that has one of the two"
            )
        tokens, ids = [None] * (1 + max(vocab.values())), {}
        for name, number in vocab.items():
            is_byte = byte_fallback and re.fullmatch("<0x[0-9A-F]{2}>", name)
            tokens[number] = bytes([int(name[3:5], 16)]) if is_byte else self.shown(name)
            if not is_byte:
                ids[tokens[number]] = number
        names = {number: name for name, number in vocab.items()}
        crosses = any(names[left][-1] != SPACE and names[right][0] == SPACE for left, right, _ in merges)
        self.space_rules = space_rules or SpaceRules()
        self._vocab = dict(sorted(vocab.items(), key=lambda item: item[1]))
        super().__init__(
            merges,
            tokens=tokens,
            ids=ids,
            special_tokens=special_tokens,
            added_tokens=added_tokens,
            normalized_tokens=normalized_tokens,
            pre_tokenizer=SpaceMarker(self.space_rules, normalization, words=not (crosses or ignore_merges) and SPACE in vocab),
            pieces=CharacterPieces(vocab, merges, byte_ids, unknown_id, fuse_unknown, ignore_merges),
        )
        self.byte_fallback, self.unknown = byte_fallback, unknown
        self.fuse_unknown, self.ignore_merges = fuse_unknown, ignore_merges

    def ordinary_names(self) -> dict[str, int]:
        return self._vocab

    def shown(self, name: str) -> bytes:
        return name.replace(SPACE, " ").encode()

    def first_token_of(self, token_id: int) -> bytes:
        return self.space_rules.begin(self.token_of(token_id))

    @property
    def normalization(self) -> str | None:
        return self.pre_tokenizer.normalization

    def __repr__(self) -> str:
        return (
            f"SentencePieceBPE(vocab_size={self.vocab_size}, space_rules={self.space_rules}, "
            f"byte_fallback={self.byte_fallback}, special_tokens={list(self.special_tokens)[:9]})"
        )
