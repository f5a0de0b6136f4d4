"""What a text is made of: how many characters of each class, found once and shared by all rules that ask.

A loop over characters in Python costs 50 ns a character; a table look-up in NumPy costs 2. So the text becomes an array
of UTF-16 code units, a table of 65,536 classes is looked up in one call, and ``bincount`` counts. The answer for the
latest texts is kept: six rules that want the share of Hangul of one text pay once.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache

import numpy as np

(
    OTHER_LETTER,  # Greek, Cyrillic, Arabic, Thai...
    SPACE,  # space, tab, line feed
    HANGUL,  # the 2,350 syllables of KS X 1001, which cover all but a few words
    RARE_HANGUL,  # the other 8,822 syllables of Unicode: 뷁, 퓱, 됬
    JAMO,  # ㄱ-ㅎ, ㅏ-ㅣ standing alone
    LATIN,  # a-z, A-Z
    DIGIT,
    PUNCTUATION,
    SYMBOL,
    HAN,
    KANA,
    ODD_SPACE,  # NBSP, ideographic space, other line ends
    INVISIBLE,  # zero-width characters, soft hyphen, direction marks
    CONTROL,  # C0 and C1, private use, noncharacters
    CONJOINING,  # jamo that NFC would have composed
    WIDE,  # full-width Latin, half-width Hangul and katakana
    SURROGATE,  # half of a character beyond U+FFFF (emoji), or a lone half
    REPLACEMENT,  # U+FFFD, which a decoder leaves where bytes made no sense
    ACCENTED,  # Latin letters beyond ASCII
    MARK,  # the punctuation of sentences: . , ! ? ~ …
) = range(20)
N_CLASSES = 20

INVISIBLES = "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff\u115f\u1160\u3164\uffa0"
ODD_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
ODD_LINE_ENDS = "\r\v\f\x85\u2028\u2029"

_BY_CATEGORY = {"L": OTHER_LETTER, "M": OTHER_LETTER, "N": DIGIT, "P": PUNCTUATION, "S": SYMBOL, "Z": ODD_SPACE, "C": CONTROL}
_RANGES = (
    (0x1100, 0x1200, CONJOINING), (0xA960, 0xA980, CONJOINING), (0xD7B0, 0xD800, CONJOINING),
    (0x3131, 0x3164, JAMO), (0x3165, 0x318F, JAMO), (0xAC00, 0xD7A4, RARE_HANGUL),
    (0x3040, 0x3100, KANA), (0x31F0, 0x3200, KANA), (0x2E80, 0x3000, HAN), (0x3400, 0x4DC0, HAN), (0x4E00, 0xA000, HAN),
    (0xF900, 0xFB00, HAN), (0xFF00, 0xFFF0, WIDE), (0xD800, 0xE000, SURROGATE), (0xE000, 0xF900, CONTROL),
)  # fmt: skip


def ks_x_1001_syllables() -> str:
    """The 2,350 syllables that EUC-KR can write, in order."""
    return "".join(bytes([a, b]).decode("euc_kr") for a in range(0xB0, 0xC9) for b in range(0xA1, 0xFF))


@cache
def class_table() -> np.ndarray:
    """(65536,) uint8: the class of each UTF-16 code unit."""
    table = np.empty(0x10000, dtype=np.uint8)
    for code in range(0x10000):
        table[code] = _BY_CATEGORY[unicodedata.category(chr(code))[0]]
    for code in (*range(0x41, 0x5B), *range(0x61, 0x7B)):
        table[code] = LATIN
    table[0xC0:0x250] = table[0x1E00:0x1F00] = ACCENTED
    table[0xD7] = table[0xF7] = SYMBOL  # × ÷
    for start, end, kind in _RANGES:
        table[start:end] = kind
    table[[ord(c) for c in ks_x_1001_syllables()]] = HANGUL
    table[[ord(c) for c in ODD_SPACES + ODD_LINE_ENDS]] = ODD_SPACE
    table[[ord(c) for c in INVISIBLES]] = INVISIBLE
    table[[ord(c) for c in " \t\n"]] = SPACE
    table[[ord(c) for c in ".,!?~…"]] = MARK
    table[0xFFFD] = REPLACEMENT
    table.setflags(write=False)
    return table


def codes_of(text: str) -> np.ndarray:
    """(units,) uint16: the UTF-16 code units of a text; lone surrogates are let through."""
    return np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype="<u2")


@lru_cache(maxsize=4)
def counts(text: str) -> tuple[int, ...]:
    """How many code units of each class; index it with the names above."""
    return tuple(np.bincount(class_table().take(codes_of(text)), minlength=N_CLASSES).tolist())


def letters(found: tuple[int, ...]) -> int:
    """Letters of any script among the counted characters."""
    hangul = found[HANGUL] + found[RARE_HANGUL] + found[JAMO] + found[CONJOINING]
    return hangul + found[LATIN] + found[ACCENTED] + found[HAN] + found[KANA] + found[OTHER_LETTER]


def has_run(text: str, length: int) -> bool:
    """Whether any code unit stands ``length`` times in a row; ``length`` is 2 or more."""
    codes = codes_of(text)
    same = codes[1:] == codes[:-1]
    for _ in range(length - 2):
        same = same[1:] & same[:-1] if len(same) > 1 else same[:0]
    return bool(same.any())
