"""One text, one spelling: NFC, full-width and half-width forms, characters that nobody sees, wrongly decoded bytes.

"각" may be one character (NFC), three jamo (NFD, file names of macOS) or half-width jamo (old terminals). They look the
same; a tokenizer sees three different words. NFKC would go too far: it turns ㄱ into a conjoining jamo, ½ into 1/2, ㈜
into (주). So: NFC, and the two compatibility forms that Korean pages do carry, by table.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, ClassVar, Literal

from pydantic import Field

from llm_workshop.curation.characters import (
    CONJOINING,
    CONTROL,
    INVISIBLE,
    INVISIBLES,
    ODD_LINE_ENDS,
    ODD_SPACE,
    ODD_SPACES,
    REPLACEMENT,
    SURROGATE,
    WIDE,
    counts,
)
from llm_workshop.curation.mojibake import looks_decoded_wrongly, repair
from llm_workshop.curation.step import Drop, Step

# half-width Hangul is a compatibility form whose NFKC is a conjoining jamo; the jamo that people type are U+3131...
_JAMO_HALF = "ㄱㄲㄳㄴㄵㄶㄷㄸㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅃㅄㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_VOWEL_PLACES = (*range(0xFFC2, 0xFFC8), *range(0xFFCA, 0xFFD0), *range(0xFFD2, 0xFFD8), *range(0xFFDA, 0xFFDD))
_WIDTHS = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_WIDTHS |= {0xFFA1 + i: c for i, c in enumerate(_JAMO_HALF)} | dict(zip(_VOWEL_PLACES, _VOWELS))
_WIDTHS |= {code: unicodedata.normalize("NFKC", chr(code)) for code in (*range(0xFF61, 0xFFA0),)}

_REMOVED = {ord(c): None for c in INVISIBLES if c != "\u200d"}
_REMOVED |= dict.fromkeys((*range(9), *range(14, 32), *range(127, 160), 65534, 65535))
_REMOVED |= {ord(c): " " for c in ODD_SPACES} | {ord(c): "\n" for c in ODD_LINE_ENDS}

_EMOJI = "\u2600-\u2604\u2607-\u27bf\u2b00-\u2bff\ufe0f\U0001f000-\U0001faff"
_STRAY_JOINER = re.compile(f"(?<![{_EMOJI}])\u200d+|\u200d+(?![{_EMOJI}])|\u200d+(?=\u200d)")
_UNASSIGNED = re.compile("[\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufff0-\ufff8]")

# initials, vowels and finals of modern Hangul as the jamo on a keyboard
_INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_FINALS = "ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_STANDING = {0x1100 + i: c for i, c in enumerate(_INITIALS)} | {0x1161 + i: c for i, c in enumerate(_VOWELS)}
_STANDING |= {0x11A8 + i: c for i, c in enumerate(_FINALS)}
_CONJOINING = "\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff"
# a jamo with a neighbour may be part of a syllable of old Hangul, which has no composed form: left alone
_ALONE = re.compile(f"(?<![{_CONJOINING}])[\u1100-\u1112\u1161-\u1175\u11a8-\u11c2](?![{_CONJOINING}])")


def normalise(text: str, widths: bool = True) -> str:
    """NFC without invisible characters; the same object where nothing is to be done."""
    found = counts(text)
    if found[SURROGATE] or found[CONTROL]:
        text = _UNASSIGNED.sub("", text)
    if found[INVISIBLE] or found[CONTROL] or found[ODD_SPACE]:
        text = text.replace("\r\n", "\n").translate(_REMOVED)
        if "\u200d" in text:
            text = _STRAY_JOINER.sub("", text)
    if widths and found[WIDE]:
        text = text.translate(_WIDTHS)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if found[CONJOINING]:
        text = _ALONE.sub(lambda match: _STANDING[ord(match.group())], text)
    return text


class UnicodeForm(Step):
    """NFC, half-width and full-width forms, zero-width and control characters.

    The zero-width joiner stays between two emoji, where it makes one picture of them.
    """

    name: ClassVar[str] = "unicode"
    title: ClassVar[str] = "유니코드 정규화"

    form: Literal["NFC"] = "NFC"
    widths: bool = Field(True, description="full-width Latin and half-width jamo become ordinary ones")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        return normalise(text, self.widths)


class Mojibake(Step):
    """Bytes that were decoded with the wrong encoding: repaired where nothing was lost, dropped where it was.

    Stands before ``unicode``, because the control characters of C1, the soft hyphen and the no-break space are bytes
    of wrongly decoded Hangul.
    """

    name: ClassVar[str] = "mojibake"
    title: ClassVar[str] = "깨진 글자 되살리기"

    maximum: float = Field(0.004, ge=0, le=1, description="share of U+FFFD above which a text counts as lost")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        found = counts(text)
        lost = found[REPLACEMENT]
        if lost and lost > self.maximum * len(text):
            return Drop("lost_characters", f"{lost}/{len(text)}")
        repaired = self._repaired(text, tags) if looks_decoded_wrongly(text, found) else text
        if looks_decoded_wrongly(repaired, counts(repaired), strict=True):
            return Drop("wrong_encoding", repaired[:20])
        return repaired.replace("\ufffd", "") if lost else repaired

    @staticmethod
    def _repaired(text: str, tags: dict[str, Any]) -> str:
        """Repaired and normalised until neither changes anything: bytes may hide behind invisible characters."""
        for _ in range(4):
            new = repair(text)
            if new != text:
                tags["mojibake"] = "repaired"
            new = normalise(new)
            if new == text:
                break
            text = new
        return text


STEPS = (Mojibake, UnicodeForm)
