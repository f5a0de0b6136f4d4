"""Korean particles: the form that follows from the last sound of the word before them.

Conjugation is in :mod:`.conjugation`, numbers and counters in :mod:`.numbers`; both are re-exported here, so
``from llm_workshop.corpora.sample import korean`` is enough.

Rules: 한글 맞춤법 and 표준어 규정 (National Institute of Korean Language), from memory of the grammar.
"""

from __future__ import annotations

import re

from .conjugation import adjective, conjugate, honorific
from .numbers import amount, counter, money, native, native_modifier, sino, spell_won

__all__ = [
    "adjective",
    "amount",
    "conjugate",
    "counter",
    "has_final",
    "honorific",
    "josa",
    "last_sound",
    "money",
    "native",
    "native_modifier",
    "particle",
    "sino",
    "spell_won",
]

# (after a consonant, after a vowel). 으로/로 counts ㄹ as a vowel.
PAIRS = (
    ("은", "는"), ("이", "가"), ("을", "를"), ("과", "와"), ("아", "야"), ("으로", "로"), ("이라", "라"),
    ("이나", "나"), ("이랑", "랑"), ("이에요", "예요"), ("이었다", "였다"), ("이었", "였"), ("이라고", "라고"),
    ("이라는", "라는"), ("이라면", "라면"), ("이라도", "라도"), ("이라서", "라서"), ("이든", "든"), ("이며", "며"),
    ("이다", "다"), ("이고", "고"), ("이야", "야"), ("이여", "여"), ("이시여", "시여"), ("이지만", "지만"),
    ("이란", "란"), ("이니", "니"), ("이니까", "니까"), ("이면", "면"), ("이네요", "네요"), ("이죠", "죠"),
    ("이거나", "거나"), ("이에", "예"), ("이었어요", "였어요"), ("이었습니다", "였습니다"), ("이었는데", "였는데"),
    ("이었고", "였고"), ("이었지만", "였지만"), ("이었던", "였던"), ("이자", "자"), ("이지", "지"), ("이지요", "지요"),
    ("이란다", "란다"), ("이구나", "구나"), ("이군요", "군요"), ("으로서", "로서"), ("으로써", "로써"),
    ("으로는", "로는"), ("으로도", "로도"), ("으로만", "로만"), ("으로부터", "로부터"), ("이라고는", "라고는"),
    ("이세요", "세요"), ("이십니다", "십니다"), ("이셨다", "셨다"), ("이시다", "시다"), ("이신", "신"), ("이거든", "거든"),
    ("이나마", "나마"), ("이야말로", "야말로"), ("이랍니다", "랍니다"), ("이래", "래"), ("이래요", "래요"), ("이냐", "냐"),
    ("이요", "요"), ("이", ""),
)  # fmt: skip
_FORMS: dict[str, tuple[str, str]] = {}
for _consonant, _vowel in PAIRS:
    _FORMS[f"{_consonant}/{_vowel}"] = (_consonant, _vowel)
    if _vowel:
        _FORMS[f"{_vowel}/{_consonant}"] = (_consonant, _vowel)
    _FORMS[f"{_consonant}({_vowel})"] = (_consonant, _vowel)

_DIGIT_FINALS = {"0": "ㅇ", "1": "ㄹ", "2": "", "3": "ㅁ", "4": "", "5": "", "6": "ㄱ", "7": "ㄹ", "8": "ㄹ", "9": ""}
_LETTER_FINALS = {"L": "ㄹ", "R": "ㄹ", "M": "ㅁ", "N": "ㄴ"}
_WORD_FINALS = {"l": "ㄹ", "m": "ㅁ", "n": "ㄴ", "p": "ㅂ", "b": "ㅂ", "t": "ㅅ", "k": "ㄱ", "c": "ㄱ", "g": "ㅇ"}
_UNIT_FINALS = {"kg": "ㅁ", "g": "ㅁ", "mg": "ㅁ", "km": "", "cm": "", "mm": "", "m": "", "ml": "", "mL": "", "L": "", "l": ""}
_UNIT = re.compile(r"\d ?(kg|mg|km|cm|mm|ml|mL|g|m|L|l)$")
_BRACKETED = re.compile(r"(?<=.)[(\[（][^()\[\]（）]*[)\]）]$")
_TRAILING = "\"'”’」』》〉)]}.,!?… "
_FINALS = ["", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"]


def last_sound(word: str) -> str:
    """The final consonant (종성) with which ``word`` is read aloud, "" when it ends in a vowel.

    Digits are read as Sino-Korean, capital letters by their names, a bracketed gloss is not read
    ("서울(Seoul)은"), closing quotes are skipped.
    """
    stripped = word.rstrip()
    if stripped.endswith((")", "]", "）")):
        stripped = _BRACKETED.sub("", stripped)
    stripped = stripped.rstrip(_TRAILING)
    if not stripped:
        return ""
    character = stripped[-1]
    code = ord(character) - 0xAC00
    if 0 <= code < 11172:
        return _FINALS[code % 28]
    if character.isdigit():
        return _DIGIT_FINALS.get(character, "")
    unit = _UNIT.search(stripped)
    if unit:
        return _UNIT_FINALS[unit.group(1)]
    if character in _FINALS:  # a bare jamo such as ㄱ is read 기역
        return "ㄱ"
    if character.isascii() and character.isupper():
        return _LETTER_FINALS.get(character, "")
    return _WORD_FINALS.get(character, "")


def has_final(word: str) -> bool:
    """Whether ``word`` ends in a consonant when read aloud."""
    return last_sound(word) != ""


def particle(word: str, pair: str) -> str:
    """The member of ``pair`` ("은/는", "으로/로", ...) that follows ``word``; ValueError for an unknown pair."""
    forms = _FORMS.get(pair)
    if forms is None:
        raise ValueError(f"unknown particle pair {pair!r}; write it like '은/는', known: {', '.join(sorted(_FORMS)[:12])}, ...")
    final = last_sound(word)
    if not final or (final == "ㄹ" and forms[0].startswith("으로")):
        return forms[1]
    return forms[0]


def josa(word: str, pair: str) -> str:
    """``word`` with the right particle: ``josa("책", "을/를") == "책을"``."""
    return word + particle(word, pair)
