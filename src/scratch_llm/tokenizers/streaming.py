"""Showing text while a model writes it, without broken characters.

A Hangul syllable is three bytes, and a byte-level token may end inside one.  Decoding token by token would
show U+FFFD; this decoder keeps the unfinished bytes until the rest arrives.
"""

from __future__ import annotations

import codecs
from typing import Protocol


class HasTokens(Protocol):
    def token_of(self, token_id: int) -> bytes: ...
    def first_token_of(self, token_id: int) -> bytes: ...
    def is_special(self, token_id: int) -> bool: ...


class StreamingDecoder:
    """Token ids in, complete characters out.

    All output joined equals ``tokenizer.decode(ids, skip_special, errors)``.

    Args:
        tokenizer: gives the bytes of each id.
        skip_special: leave special tokens out.
        errors: what to do with bytes that can never become a character, which only a model that writes
            invalid UTF-8, or one stopped inside a character, produces: "ignore" (default: nothing broken
            reaches a screen) or "replace" (U+FFFD).
        continues: the ids go on after a text, so their first space counts.  (Tokenizers in the manner of SentencePiece
            put one before every text and drop it in ``decode``.)
    """

    def __init__(
        self, tokenizer: HasTokens, *, skip_special: bool = False, errors: str = "ignore", continues: bool = False
    ):
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._at_start = self._starts = not continues
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)

    def push(self, token_id: int) -> str:
        """The characters that this token completes; often none, sometimes several.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        if self._skip_special and self._tokenizer.is_special(token_id):
            return ""
        look_up = self._tokenizer.first_token_of if self._at_start else self._tokenizer.token_of
        token = look_up(token_id)
        self._at_start = False
        return self._decoder.decode(token)

    def flush(self) -> str:
        """End the stream: what is left (nothing under "ignore"); the decoder is then ready for another."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._at_start = self._starts
        return rest
