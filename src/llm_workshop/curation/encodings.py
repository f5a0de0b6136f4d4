"""Which bytes are which characters: UTF-8, CP949 (what Windows calls EUC-KR), UTF-16 and UTF-32, marked or not.

Files from Korean offices, subtitles and old web pages come in all of these, sometimes two in one file.  The file's
beginning decides between the families of two bytes and of one; then each line is UTF-8 if it can be, else CP949 if that
gives Korean as people write it.
"""

from __future__ import annotations

import codecs

#: Byte order marks; UTF-32's begins with UTF-16's and is tried first.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "bytes"),
)
#: The share of plausible characters from which a reading is believed.
BELIEVED = 0.8
SAMPLE_BYTES = 65_536


def detect_encoding(sample: bytes) -> str:
    """``"bytes"`` for lines to be read by ``decode_line``, else ``"utf-16"``, ``"utf-16-le"``, ``"utf-16-be"`` or ``"utf-32"``.

    ``sample`` is the beginning of the file, SAMPLE_BYTES at most.  Text in UTF-8 or CP949 has no NUL bytes; UTF-16 has
    them wherever there is a line end or a space, on the side of the high byte.
    """
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    if b"\x00" not in sample:
        return "bytes"
    even = sample[: len(sample) // 2 * 2]
    scores = {name: plausibility(even.decode(name, "replace")) for name in ("utf-16-le", "utf-16-be")}
    best = max(scores, key=scores.get)
    return best if scores[best] >= BELIEVED else "bytes"


def is_binary(sample: bytes) -> bool:
    """Whether bytes that are no UTF-16 have more control characters than any text: more than one in fifty."""
    return 50 * sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in sample) > len(sample)


def decode_line(raw: bytes) -> str:
    """A line of a file of bytes; ValueError if it is neither UTF-8 nor CP949 text."""
    if b"\x00" in raw:
        raise ValueError("binary: NUL bytes")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        place = error.start
    try:
        text = raw.decode("cp949")
    except UnicodeDecodeError:
        text = None
    if text is None or plausibility("".join(character for character in text if character > "\x7f")) < BELIEVED:
        raise ValueError(f"neither UTF-8 (byte {place + 1}) nor CP949")
    return text


def encoding_of_bytes(sample: bytes) -> str:
    """``"utf-8-sig"`` or ``"cp949"``: what all of a file of bytes is taken for where it cannot be decided by lines."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # a character cut by the sample's end is no error
    except UnicodeDecodeError:
        if plausibility(codecs.getincrementaldecoder("cp949")("replace").decode(sample)) >= BELIEVED:
            return "cp949"
    return "utf-8-sig"


def plausibility(text: str) -> float:
    """The share of characters that ordinary Korean text has: common Hangul, ASCII, jamo, signs and letters of Europe.

    Common are the 2,350 syllables of KS X 1001: bytes read with the wrong code give many of the other 8,822, and hanja.
    Hanja and kana count by half: text may hold them, but is not made of them.
    """
    if not text:
        return 1.0
    points = 0.0
    for character in text:
        code = ord(character)
        if 0xAC00 <= code <= 0xD7A3:
            points += _is_common(character)
        elif code < 0x20:
            points += character in "\t\r\n\f"
        elif code < 0x250 or 0x2000 <= code < 0x2700 or 0x3000 <= code < 0x3040 or 0x3130 <= code < 0x3190 or 0xFF00 <= code < 0xFFE0:
            points += 0x7F > code or code >= 0xA0
        elif 0x3040 <= code < 0x3100 or 0x4E00 <= code < 0xA000 or 0x1F300 <= code < 0x1FB00:
            points += 0.5
    return points / len(text)


def _is_common(character: str) -> bool:
    return len(character.encode("euc_kr", "ignore")) == 2  # Python spells the others as a sequence of eight bytes
