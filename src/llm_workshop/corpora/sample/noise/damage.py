"""Faults that change the text of one document.

Each function takes ``(text, rng)`` and returns ``(new text, label details)``. Where the damage can be undone from
the new text alone the label says how (``spans`` to cut out, codecs to turn back); where it cannot, the label
holds the text before it in ``clean``. Spans are ``[start, end)`` in characters of the new text.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable

from llm_workshop.corpora.sample.noise.foreign import boilerplate_lines
from llm_workshop.corpora.sample.noise.personal import personal_sentence


class Unfit(Exception):
    """This text is too short (or otherwise unfit) for this fault."""


def _need(text: str, length: int) -> None:
    if len(text) < length:
        raise Unfit


# HTML ---------------------------------------------------------------------------------------------------------

_CLASSES = ("content", "post-body", "article_txt", "view_cont", "txt-box", "entry", "board_view", "se-text-paragraph")
_STYLES = ("font-size:14px;", "color:#333333;", "line-height:1.8;", "text-align:justify;", "margin:0 0 12px;")
_TAILS = (
    '<a href="https://www.example.com/list?page={n}">목록보기</a>',
    '<img src="/upload/{n}.jpg" alt="" width="{n}" />',
    "<!-- 본문 끝 -->",
    '<script>var ad_id = "{n}"; load_ad(ad_id);</script>',
    '<iframe src="https://video.example.net/embed/{n}" width="560"></iframe>',
    "<br/><br/>",
)


def html_remains(text: str, rng: random.Random) -> tuple[str, dict]:
    """Tags and entities as a careless scraper leaves them."""
    _need(text, 20)
    style = rng.choice(("paragraphs", "breaks", "inline"))
    body = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if rng.random() < 0.6:
        body = body.replace('"', "&quot;").replace("“", "&ldquo;").replace("”", "&rdquo;").replace("'", "&#39;")
    words = body.split(" ")
    for _ in range(1 + len(words) // 25):
        position = rng.randrange(len(words))
        words[position] += rng.choice(("&nbsp;", "&nbsp;&nbsp;", "<br>", "<br />", "&#8203;"))
    if style == "inline" and len(words) > 3:
        position = rng.randrange(len(words) - 1)
        tag = rng.choice(("b", "strong", "em", "span"))
        words[position] = f"<{tag}>{words[position]}"
        words[position + 1] += f"</{tag}>"
    body = " ".join(words)
    if style == "paragraphs":
        opening = f'<p style="{rng.choice(_STYLES)}">'
        body = f"{opening}" + body.replace("\n", f"</p>\n{opening}") + "</p>"
    else:
        body = body.replace("\n", "<br>\n")
    tail = rng.choice(_TAILS).format(n=rng.randrange(100, 9999))
    # half of them lost the closing tag, as cut-out fragments do
    closing = "</div>" if rng.random() < 0.5 else ""
    return f'<div class="{rng.choice(_CLASSES)}">{body}{tail}{closing}', {"style": style, "clean": text}


# Inserted text --------------------------------------------------------------------------------------------------


def boilerplate(text: str, rng: random.Random) -> tuple[str, dict]:
    """Menus above, notices, share lines and copyright lines below."""
    head, tail = boilerplate_lines(rng)
    before = "\n".join(head) + "\n" if head else ""
    after = "\n" + "\n".join(tail) if tail else ""
    spans = [[0, len(before)]] if before else []
    if after:
        start = len(before) + len(text)
        spans.append([start, start + len(after)])
    return before + text + after, {"spans": spans}


def personal_data(text: str, rng: random.Random) -> tuple[str, dict]:
    """One to three sentences with personal data; ``items`` gives each value with its exact span."""
    _need(text, 30)
    new, spans, items = text, [], []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        sentence, values = personal_sentence(rng)
        # appended in turn, so that earlier spans stay true
        start = len(new)
        new += "\n" + sentence if rng.random() < 0.4 or "\n" in text[-200:] else " " + sentence
        spans.append([start, len(new)])
        offset = len(new) - len(sentence)
        items += [{"kind": k, "start": offset + a, "end": offset + b, "value": sentence[a:b]} for k, a, b in values]
    return new, {"spans": spans, "items": items}


_JAMO = ("ㅋ", "ㅎ", "ㅠ", "ㅜ", "ㅡ", "ㄷ", "ㅇ", "ㄱ")


def jamo_repetition(text: str, rng: random.Random) -> tuple[str, dict]:
    """ㅋㅋㅋㅋ, ㅠㅠㅠ and the like after sentences."""
    _need(text, 20)
    ends = [i + 1 for i, c in enumerate(text) if c in ".!?요다" and (i + 1 == len(text) or text[i + 1] in " \n")]
    if not ends:
        ends = [len(text)]
    count = min(len(ends), rng.choice((1, 2, 3, 5)))
    chosen = sorted(rng.sample(ends, count))
    parts, spans, last, length = [], [], 0, 0
    for position in chosen:
        run = rng.choice(_JAMO[:4] if rng.random() < 0.8 else _JAMO) * rng.randint(4, 24)
        parts += [text[last:position], run]
        length += position - last
        spans.append([length, length + len(run)])
        length += len(run)
        last = position
    parts.append(text[last:])
    return "".join(parts), {"spans": spans}


_ZERO_WIDTH = {"\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ", "\ufeff": "BOM", "\u00ad": "SHY", "\u2060": "WJ"}


def zero_width(text: str, rng: random.Random) -> tuple[str, dict]:
    """Characters that nobody sees, sprinkled between others."""
    _need(text, 20)
    kinds = [c for c in _ZERO_WIDTH if c not in text]
    kinds = rng.sample(kinds, min(len(kinds), rng.choice((1, 1, 2))))
    if not kinds:
        raise Unfit
    positions = sorted(rng.sample(range(len(text)), min(len(text), 1 + len(text) // rng.choice((8, 15, 40)))))
    parts, last = [], 0
    for position in positions:
        parts += [text[last:position], rng.choice(kinds)]
        last = position
    parts.append(text[last:])
    return "".join(parts), {"characters": [_ZERO_WIDTH[c] for c in kinds], "count": len(positions)}


# Encodings --------------------------------------------------------------------------------------------------------

# cp1252 leaves five bytes undefined; browsers (WHATWG "windows-1252") read them as the control characters of Latin-1
_CP1252 = {b: bytes([b]).decode("cp1252", "replace") for b in range(256)}
_CP1252.update({b: chr(b) for b in (0x81, 0x8D, 0x8F, 0x90, 0x9D)})
_CP1252_BACK = {c: b for b, c in _CP1252.items()}


def _encode_cp949(text: str) -> bytes:
    try:
        return text.encode("cp949")
    except UnicodeEncodeError:
        raise Unfit from None


def mojibake(text: str, rng: random.Random) -> tuple[str, dict]:
    """The bytes of one encoding read as another: ë°¥ (UTF-8 as cp1252), ¹ä (EUC-KR as cp1252), 諛� (UTF-8 as cp949)."""
    _need(text, 10)
    written, read = rng.choice((("utf-8", "cp1252"), ("cp949", "cp1252"), ("utf-8", "cp949"), ("cp949", "utf-8")))
    data = text.encode("utf-8") if written == "utf-8" else _encode_cp949(text)
    if read == "cp1252":
        return "".join(_CP1252[b] for b in data), {"written_as": written, "read_as": read}
    return data.decode(read, errors="replace"), {"written_as": written, "read_as": read, "clean": text}


def nfd(text: str, rng: random.Random) -> tuple[str, dict]:
    """Decomposed Hangul, as file names and copies from macOS carry it."""
    decomposed = unicodedata.normalize("NFD", text)
    if decomposed == text or unicodedata.normalize("NFC", decomposed) != text:
        raise Unfit
    return decomposed, {}


# Spacing and length -----------------------------------------------------------------------------------------------


def broken_spacing(text: str, rng: random.Random) -> tuple[str, dict]:
    """No spaces at all, a space after every syllable, or words split and joined at random."""
    _need(text, 20)
    style = rng.choice(("none", "every_syllable", "random"))
    if style == "none":
        new = text.replace(" ", "")
    elif style == "every_syllable":
        new = "\n".join(" ".join(line.replace(" ", "")) for line in text.split("\n"))
    else:
        parts = []
        for character in text:
            if character == " ":
                parts.append(" " if rng.random() < 0.35 else "")
            else:
                parts.append(character + " " if "가" <= character <= "힣" and rng.random() < 0.18 else character)
        new = "".join(parts)
    if new == text:
        raise Unfit
    return new, {"style": style, "clean": text}


def truncated(text: str, rng: random.Random) -> tuple[str, dict]:
    """Cut inside a word, with or without the dots of a list page."""
    _need(text, 60)
    inside = [
        i
        for i in range(max(20, len(text) * 3 // 10), len(text) * 9 // 10)
        if "가" <= text[i - 1] <= "힣" and "가" <= text[i] <= "힣"
    ]
    if not inside:
        raise Unfit
    position = inside[rng.randrange(len(inside))]
    tail = rng.choice(("", "", "...", "…", " (더보기)", "...[전문보기]"))
    return text[:position] + tail, {"kept": position, "clean": text}


CHANGES: dict[str, Callable[[str, random.Random], tuple[str, dict]]] = {
    "html": html_remains,
    "boilerplate": boilerplate,
    "mojibake": mojibake,
    "personal_data": personal_data,
    "jamo_repetition": jamo_repetition,
    "broken_spacing": broken_spacing,
    "truncated": truncated,
    "nfd": nfd,
    "zero_width": zero_width,
}


def restore_text(text: str, label: dict) -> str:
    """Undo one change, by its label."""
    if "clean" in label:
        return label["clean"]
    if "spans" in label:
        for start, end in sorted(label["spans"], reverse=True):
            text = text[:start] + text[end:]
        return text
    if label["type"] == "mojibake":
        return bytes(_CP1252_BACK[c] for c in text).decode(label["written_as"])
    if label["type"] == "nfd":
        return unicodedata.normalize("NFC", text)
    codes = {name: c for c, name in _ZERO_WIDTH.items()}
    return text.translate({ord(codes[name]): None for name in label["characters"]})
