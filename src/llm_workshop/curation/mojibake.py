"""Mojibake: the bytes of one encoding, read as another, and the way back.

    밥 -> EB B0 A5 (UTF-8) -> read as cp1252 -> ë°¥
    밥 -> B9 E4 (EUC-KR)   -> read as cp1252 -> ¹ä
    밥 -> EB B0 A5 (UTF-8) -> read as cp949  -> 諛�   (the third byte found no partner: lost)

cp1252 gives every byte a character, so the first two can be undone. The third and its opposite (EUC-KR read as UTF-8)
lose bytes and cannot. ftfy (Speer 2019) knows the first kind, also where a byte A0 has become a plain space; it does
not know EUC-KR.
"""

from __future__ import annotations

import re

import ftfy

from llm_workshop.curation.characters import ACCENTED, HAN, HANGUL, LATIN, RARE_HANGUL, counts

# byte -> character as browsers read "windows-1252": five bytes that cp1252 leaves out are the controls of Latin-1
_AS_CP1252 = [bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(256)]
_TO_LATIN_1 = {ord(c): b for b, c in enumerate(_AS_CP1252) if ord(c) != b}

_CONTINUATION = re.escape("".join(_AS_CP1252[0x80:0xC0]) + "".join(map(chr, range(0x80, 0xA0))))
_UTF8_HANGUL = re.compile(f"[\u00ea-\u00ed][{_CONTINUATION}][{_CONTINUATION} ]")
_UTF8_RUN = re.compile(f"(?:[\u00c2-\u00f4][{_CONTINUATION}]{{1,3}})+")
_EUC_KR_RUN = re.compile("[\u00b0-\u00c8][\u00a1-\u00fe](?:[\u00a1-\u00fe]{2})*")

_LEAST = 3  # any two accented letters are a syllable of cp949: "°À" is no Korean yet
_LINE_ENDS = {ord(c): "\n" for c in "\r\v\f"}
_MAX_LAYERS = 4  # text that was wrongly decoded, saved and wrongly decoded again


def looks_decoded_wrongly(text: str, found: tuple[int, ...], strict: bool = False) -> bool:
    """Whether a text has the signs of wrongly decoded Hangul; ``found`` are its ``counts``.

    ``strict`` asks whether it is certain, for a text that could not be repaired.
    """
    if found[ACCENTED]:
        if not strict:
            return found[ACCENTED] > 2 or _UTF8_HANGUL.search(text) is not None
        signs = sum(len(match) for match in _UTF8_HANGUL.findall(text)) + sum(
            len(match) for match in _EUC_KR_RUN.findall(text) if len(match) >= 4
        )
        return signs >= 6 and signs > 0.1 * len(text)
    if found[HAN] and found[RARE_HANGUL] and not strict:
        return found[HAN] + found[RARE_HANGUL] > 0.2 * len(text)
    return False


def _read_again(text: str) -> str | None:
    """The text with its bytes decoded as they were meant, or None where that gives no Korean."""
    found = counts(text)
    if found[HANGUL] + found[RARE_HANGUL] + found[HAN]:
        try:
            return text.encode("cp949").decode("utf-8")
        except UnicodeError:
            return None
    try:
        data = text.translate(_TO_LATIN_1).encode("latin-1")
    except UnicodeEncodeError:
        return None
    for encoding in ("utf-8", "cp949"):
        try:
            new = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" and _UTF8_HANGUL.search(new):
            return new  # one layer of two
        after = counts(new)
        strange = after[RARE_HANGUL] + after[HAN] + after[ACCENTED]
        beyond_ascii = sum(c > "\x7f" for c in new)
        if encoding == "cp949" and after[HANGUL] < _LEAST:
            continue
        if after[HANGUL] > 4 * strange and 2 * after[HANGUL] > beyond_ascii and after[HANGUL] > after[LATIN] / 20:
            return new
    return None


def _repair_line(line: str) -> str:
    if line.isascii():
        return line
    new = _read_again(line)
    if new is not None:
        return new
    if _UTF8_HANGUL.search(line):
        new = _UTF8_RUN.sub(lambda run: _read_again(run.group()) or run.group(), line)
        return new if new != line else ftfy.fix_encoding(line)
    return line


def repair(text: str) -> str:
    """The text as it was meant, where all of it or whole lines can be decoded again; otherwise as it is."""
    if not text.isprintable():
        text = text.replace("\r\n", "\n").translate(_LINE_ENDS)
    for _ in range(_MAX_LAYERS):
        new = _read_again(text)
        if new is None:
            new = "\n".join(map(_repair_line, text.split("\n")))
        if new == text:
            break
        text = new
    return text
