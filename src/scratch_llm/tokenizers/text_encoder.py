"""From a text to packed token ids: added tokens cut out, the rest cut into pieces, pieces looked up."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from .patterns import PreTokenizer, require_text
from .piece_encoder import ID_TYPE, PieceCache
from .special_tokens import AddedTokens

_READ_AHEAD = 1 << 19  # characters of many texts that are encoded together
_MANY = 1 << 10  # pieces; a text this long is worth a batch of its own


class TextEncoder:
    """Encodes single texts and streams of texts; ids come as packed uint32 (``bytes``).

    Args:
        added_tokens: cut out before anything else, from the text as it stands.
        pre_tokenizer: normalises and cuts the rest.
        pieces: the cache that encodes each piece.
    """

    def __init__(self, added_tokens: AddedTokens, pre_tokenizer: PreTokenizer, pieces: PieceCache):
        self._added_tokens = added_tokens
        self._pre_tokenizer = pre_tokenizer
        self._pieces = pieces

    def clear_cache(self) -> None:
        self._pieces.clear()

    def parts(self, text: str, allow_special: bool) -> list[tuple[str, int | None]]:
        """Text and added tokens in turn, as (part, id of the added token or None)."""
        return self._added_tokens.split(require_text(text), allow_special)

    def encode(self, text: str, allow_special: bool) -> bytes:
        """The ids of one text of any length."""
        look_up = self._pieces.__getitem__
        packed = []
        for n, (part, token) in enumerate(self.parts(text, allow_special)):
            if token is not None:
                packed.append(pack([token]))
                continue
            for pieces in self._pre_tokenizer.split_chunks(part, at_start=n == 0):
                if len(pieces) > _MANY:
                    self._pieces.prepare([pieces])
                packed.append(b"".join(map(look_up, pieces)))
        return packed[0] if len(packed) == 1 else b"".join(packed)

    def encode_many(self, texts: Iterable[str], allow_special: bool) -> Iterator[bytes]:
        """The ids of each text, reading ahead so that new pieces of many texts are encoded together."""
        waiting: list[str] = []
        n_characters = 0
        for text in texts:
            waiting.append(require_text(text))
            n_characters += len(text)
            if n_characters > _READ_AHEAD:
                yield from self._encode_together(waiting, allow_special)
                waiting, n_characters = [], 0
        yield from self._encode_together(waiting, allow_special)

    def _encode_together(self, texts: list[str], allow_special: bool) -> Iterator[bytes]:
        if len(texts) == 1:
            yield self.encode(texts[0], allow_special)
            return
        # Each text becomes a list of parts: pieces to look up (list) or a packed added token (bytes).
        texts_of_parts = [self._cut(text, allow_special) for text in texts]
        self._pieces.prepare(part for parts in texts_of_parts for part in parts if isinstance(part, list))
        look_up = self._pieces.__getitem__
        for parts in texts_of_parts:
            yield b"".join(
                [b"".join(map(look_up, part)) if isinstance(part, list) else part for part in parts]
            )

    def _cut(self, text: str, allow_special: bool) -> list[list[str] | bytes]:
        return [
            self._pre_tokenizer.split(part, at_start=n == 0) if token is None else pack([token])
            for n, (part, token) in enumerate(self.parts(text, allow_special))
        ]


def pack(ids: Sequence[int]) -> bytes:
    """Token ids as packed uint32."""
    return array(ID_TYPE, ids).tobytes()


def unpack(packed: bytes) -> list[int]:
    return array(ID_TYPE, packed).tolist()
