r"""Pre-tokenization: cutting text into pieces that no merge may cross.

Three named patterns, all lossless (the pieces joined give the text back):

``"korean"`` (our default) cuts where the *script* changes as well as at spaces.  A Korean 어절 is often a
    foreign word with a particle ("GPU를", "BTS가") or a word with laughter ("재밌다ㅋㅋㅋ"); kept whole, every
    combination would need merges of its own, while cut at the change "를", "가" and "ㅋㅋㅋ" are shared by
    all.  Numbers go three digits at a time, so that the vocabulary does not fill up with years and prices,
    and a run of line breaks is one piece.
``"gpt2"``  the pattern of GPT-2 (Radford et al. 2019), needed to read its published files.
``"gpt4"``  the shape of cl100k_base (GPT-4): one leading sign may join a word, three digits, line breaks.

The same strings go into ``tokenizer.json``, so they use only syntax that the ``regex`` package and
Oniguruma (inside Hugging Face Tokenizers) read alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import chain

import regex

# Precomposed syllables; then the compatibility jamo that people type as laughter and tears (ㅋㅋ, ㅠㅠ).
_SYLLABLE = "가-힣"
_JAMO = "ㄱ-ㆎ"

PATTERNS: dict[str, str] = {
    "korean": (
        rf" ?[{_SYLLABLE}]+"
        rf"| ?[{_JAMO}]+"
        rf"| ?(?:(?![{_SYLLABLE}{_JAMO}])[\p{{L}}\p{{M}}])+"
        r"| ?\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{M}\p{N}]+"
        r"|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": (
        r"'(?i:[sdmt]|ll|ve|re)"
        r"|[^\r\n\p{L}\p{N}]?\p{L}+"
        r"|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
}
DEFAULT_PATTERN = "korean"
NORMALIZATIONS = ("NFC", "NFD", "NFKC", "NFKD", None)

_CHUNK = 1 << 18  # characters; bounds the list of pieces that one long text is cut into
_ALWAYS_CUT = regex.compile(r"(?<=\S) (?=\p{L})")  # before a single space that a letter follows


class PreTokenizer:
    """Normalises text and cuts it into pieces.

    Args:
        pattern: a name in ``PATTERNS``, or a regular expression of your own that leaves no character out.  A tuple of
            expressions is a chain as files of other tokenizers have it: each cuts what the one before left, and what
            it does not match is a piece as well.
        normalization: Unicode form applied first, or ``None``.  NFC matters for Korean: macOS hands out
            file names and some text in NFD, where "한" is three code points (ᄒ ᅡ ᆫ, 9 bytes) and shares no
            token with the "한" (1 code point, 3 bytes) of every other text.
    """

    def __init__(self, pattern: str | tuple[str, ...] = DEFAULT_PATTERN, normalization: str | None = "NFC"):
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"normalization {normalization!r} is unknown: use one of {', '.join(map(str, NORMALIZATIONS))}"
            )
        self.named = pattern in PATTERNS
        self.pattern = pattern
        self.normalization = normalization
        self.expressions = (PATTERNS.get(pattern, pattern),) if isinstance(pattern, str) else pattern
        try:
            chain = [regex.compile(expression) for expression in self.expressions]
        except regex.error as error:
            raise ValueError(
                f"pattern {pattern!r} is not a regular expression ({error}): "
                f"use one of {', '.join(PATTERNS)} or mend it"
            ) from None
        self._regex, self._chain = chain[0], None if isinstance(pattern, str) else chain
        if self._chain is None and self._regex.groups:
            raise ValueError(f"pattern {pattern!r} has capturing groups: write (?:...) instead of (...)")

    def normalize(self, text: str) -> str:
        # ASCII is the same in every normal form, and asking is much cheaper than normalising.
        if self.normalization is None or text.isascii():
            return text
        return unicodedata.normalize(self.normalization, text)

    def split(self, text: str, at_start: bool = True) -> list[str]:
        """All pieces of a text, in order.  ``at_start``: whether it begins what is encoded (here all the same)."""
        if self.named and len(text) < _CHUNK // 4:  # short even if NFD makes it longer
            return self._regex.findall(self.normalize(text))
        return list(chain.from_iterable(self.split_chunks(text)))

    def split_chunks(self, text: str, at_start: bool = True) -> Iterator[list[str]]:
        """The same pieces in lists of bounded size, so that a text of any length costs little memory."""
        text = self.normalize(text)
        if self._chain is not None:
            pieces = [text]
            for expression in self._chain:
                pieces = [part for piece in pieces for part in _isolate(expression, piece)]
            yield pieces
            return
        for chunk in self._chunks(text):
            pieces = self._regex.findall(chunk)
            if not self.named and sum(map(len, pieces)) != len(chunk):
                raise ValueError(
                    f"pattern {self.pattern!r} leaves characters out: end it with '|.|\\s' so that all text is kept"
                )
            yield pieces

    def _chunks(self, text: str) -> Iterator[str]:
        """Cut a long text where every named pattern cuts as well."""
        start = 0
        while self.named and len(text) - start > _CHUNK and (cut := _ALWAYS_CUT.search(text, start + _CHUNK)):
            yield text[start : cut.start()]
            start = cut.start()
        yield text[start:] if start else text


def _isolate(expression: regex.Pattern, text: str) -> list[str]:
    """The matches of an expression and what lies between them, in order."""
    if not expression.groups:
        matches = expression.findall(text)
        if sum(map(len, matches)) == len(text):
            return [match for match in matches if match]
    parts, end = [], 0
    for match in expression.finditer(text):
        parts += [text[end : match.start()], match.group()]
        end = match.end()
    return [part for part in [*parts, text[end:]] if part]


def require_text(text: object) -> str:
    """Check that ``text`` is a ``str`` that UTF-8 can hold.

    Raises:
        ValueError: bytes, None, ... or a lone surrogate (half a character from a broken file).
    """
    if not isinstance(text, str):
        cure = (
            "decode it first: data.decode('utf-8', errors='replace')"
            if isinstance(text, bytes)
            else "pass a str"
        )
        raise ValueError(f"text must be str, not {type(text).__name__}: {cure}")
    return text


def surrogate_error(text: str) -> ValueError:
    """The error for text with a lone surrogate; it names the code point."""
    code = next((ord(character) for character in text if 0xD800 <= ord(character) <= 0xDFFF), 0)
    return ValueError(
        f"text holds the lone surrogate U+{code:04X}, which is no character: read the file with "
        "encoding='utf-8', errors='replace'"
    )
