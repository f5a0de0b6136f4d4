"""The rules that ``curation.py`` has both sides apply: plain functions, called by our steps and by datatrove's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_INVISIBLE = re.compile(r"[\u200b\u200c\u2060\ufeff\u00ad\x00-\x08\x0e-\x1f\x7f-\x9f]+")
_TAG = re.compile(r"<[^<>]{1,300}>")
_SPACE = re.compile(r"[ \t\u00a0\u3000]{2,}")
_LINES = re.compile(r"\n{3,}")
_REPEATED = re.compile(r"([ㄱ-ㅎㅏ-ㅣ!?~.])\1{3,}")
_LINK = re.compile(r"https?://\S+|www\.\S+")
_HANGUL = re.compile("[가-힣]+")
_SIGNS = re.compile(r"[#$%^&*_=+|\\<>{}\[\]@]")


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def invisible(text: str) -> str:
    return _INVISIBLE.sub("", text)


def tags(text: str) -> str:
    return _TAG.sub(" ", text) if "<" in text else text


def links(text: str) -> str:
    return _LINK.sub("", text)


def repeated(text: str) -> str:
    return _REPEATED.sub(r"\1\1\1", text)


def spaces(text: str) -> str:
    return _LINES.sub("\n\n", _SPACE.sub(" ", text)).strip()


def long_enough(text: str) -> bool:
    return len(text) >= 30


def is_hangul(text: str) -> bool:
    return 2 * len(_HANGUL.sub("", text)) <= len(text)


def few_signs(text: str) -> bool:
    return 20 * len(_SIGNS.findall(text)) <= len(text)


def few_repeated_lines(text: str) -> bool:
    lines = text.split("\n")
    return 3 * (len(lines) - len(set(lines))) <= len(lines)


CHANGES: tuple[Callable[[str], str], ...] = (nfc, invisible, tags, links, repeated, spaces)
FILTERS: tuple[Callable[[str], bool], ...] = (long_enough, is_hangul, few_signs, few_repeated_lines)
