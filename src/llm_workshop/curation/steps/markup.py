"""HTML that a scraper left behind, back to the text that a reader saw.

A regular expression that deletes ``<[^>]*>`` keeps scripts, glues paragraphs together and eats "a < b". Here a parser
(lexbor, by selectolax) reads the fragment, so that unclosed tags do no harm, and only names of HTML count as tags:
``vector<int>`` in a text about C++ stays.
"""

from __future__ import annotations

import re
from html import unescape
from html.entities import html5
from typing import Any, ClassVar

from pydantic import Field
from selectolax.lexbor import LexborHTMLParser

from llm_workshop.curation.step import Drop, Step
from llm_workshop.curation.steps.unicode import normalise

_UNSEEN = ("script", "style", "head", "title", "noscript", "template", "iframe", "object", "svg", "canvas", "nav", "footer", "button", "select", "textarea")  # fmt: skip
_BLOCKS = (
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section",
    "summary", "table", "tbody", "thead", "tfoot", "tr", "ul",
)  # fmt: skip
_CELLS = ("td", "th")
_INLINE = (
    "a", "abbr", "acronym", "audio", "b", "bdi", "bdo", "big", "br", "cite", "code", "col", "colgroup", "del", "dfn", "em", "embed",
    "font", "html", "i", "img", "input", "ins", "kbd", "label", "legend", "link", "map", "area", "mark", "meta", "optgroup",
    "option", "picture", "q", "s", "samp", "small", "source", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var",
    "video", "wbr",
)  # fmt: skip
_NAMES = "|".join(sorted((*_UNSEEN, *_BLOCKS, *_CELLS, *_INLINE), key=len, reverse=True))
#: what is no tag of HTML, complete or cut off at the end of the text
_NO_TAG = re.compile(rf"(?<=\\)<|<(?!/?(?:{_NAMES})(?:\s[^<>]*)?/?(?:>|\Z))", re.IGNORECASE)
#: what no sentence about HTML has by chance: "the <title> element" alone is prose
_SURE = re.compile(rf"</(?:{_NAMES})\s*>|<(?:{_NAMES})\s[^<>]*[=\"/]|<(?:br|hr|img|wbr)\s*/?>|\A\s*<!doctype", re.IGNORECASE)
_DOCTYPE = re.compile(r"\A\s*<!doctype[^<>]*>", re.IGNORECASE)
#: an opening tag of these swallows the text up to its end, which may be missing
_SWALLOWING = ("script", "style", "title", "textarea", "iframe", "noscript", "template", "select", "svg", "head")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
_WHOLE_PAGE = re.compile(r"<(?:html|body|!doctype)\b", re.IGNORECASE)

# marks put into the parsed tree; normalise() has removed control characters before
_BLOCK, _BREAK, _CELL = "\x1e", "\x1f", "\x1d"
# each begins where its run of white space does: tried at every place of a long run, it would take the square
_AROUND_BLOCK = re.compile(r"(?<![\s\x1d\x1f])[\s\x1d\x1f]*\x1e[\s\x1d-\x1f]*")
_BREAKS = re.compile(r"(?<![ \t\xa0\u200b])[ \t\xa0\u200b]*((?:\x1f[ \t\xa0\u200b]*)+)(\n?)[ \t]*")
_AROUND_CELL = re.compile(r"(?<![ \t])[ \t]*\x1d[ \t\x1d]*")
_MAX_LAYERS = 10  # &amp;lt;b&amp;gt;: markup that was escaped and escaped again

_NAVIGATION = frozenset(
    "목록보기 목록 목록으로 이전글 다음글 이전 다음 더보기 자세히보기 인쇄 스크랩 공유 공유하기 신고 신고하기 삭제 수정 답글 댓글 댓글쓰기 "
    "로그인 회원가입 맨위로 위로 top 홈 홈으로 전체보기 바로가기 닫기 글쓰기 추천 구독 구독하기 팔로우 url복사 링크복사".split()
)


def _unescape(match: re.Match[str]) -> str:
    entity = match.group()
    if entity[1] != "#" and entity[1:] not in html5:
        return entity
    return unescape(entity)


def _is_markup(text: str) -> bool:
    start = text.find("<!--")
    return (start >= 0 and text.find("-->", start + 4) > 0) or _SURE.search(text) is not None


def _without_comments(text: str) -> str:
    """A comment that never ends is none: a text may speak of "<!--". In linear time, which no pattern promises."""
    parts, place = [], 0
    while (start := text.find("<!--", place)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        parts.append(text[place:start])
        place = end + 3
    return "".join((*parts, text[place:]))


def _line_end(match: re.Match[str]) -> str:
    """What breaks, with the white space around them, stand for."""
    breaks, line_end = match.groups()
    if " " in breaks and not line_end:
        return " "  # "<br> word": an editor put the break inside a line, whose author went on with a space
    return "\n" if breaks.count(_BREAK) == 1 else "\n\n"


def _parsed(text: str) -> str:
    """The text of a fragment of HTML, with lines where blocks and breaks were."""
    if _WHOLE_PAGE.match(text.lstrip()):
        text = re.sub(r"\s*\n\s*", " ", text)  # in a page line ends of the source are spaces
    text = _NO_TAG.sub("&lt;", _DOCTYPE.sub("", _without_comments(text)))
    lowered = text.lower()
    for name in _SWALLOWING:
        if f"<{name}" in lowered and f"</{name}" not in lowered:
            text = re.sub(f"<(?={name}\\b)", "&lt;", text, flags=re.IGNORECASE)
    tree = LexborHTMLParser(text)
    if tree.root is None:
        return ""
    tree.strip_tags(list(_UNSEEN), recursive=True)
    for link in tree.css("a"):
        if link.text().strip().replace(" ", "").lower() in _NAVIGATION:
            link.decompose()
    for node in tree.css("br"):
        node.replace_with(_BREAK)
    for node in tree.css(",".join(_BLOCKS)):
        if node.tag != "body":
            node.insert_before(_BLOCK)
            node.insert_after(_BLOCK)
    for node in tree.css(",".join(_CELLS)):
        node.insert_after(_CELL)
    found = tree.body.text() if tree.body is not None else tree.root.text()
    found = _AROUND_BLOCK.sub("\n", found)
    found = _BREAKS.sub(_line_end, found)
    return _AROUND_CELL.sub(" ", found).strip()


def _convert(text: str) -> str:
    for _ in range(_MAX_LAYERS):
        if _is_markup(text):
            new = _parsed(text)
        elif "&" in text:
            new = _ENTITY.sub(_unescape, text)
        else:
            break
        if new == text:
            break
        text = normalise(new)
    return text


class Html(Step):
    """Tags and entities become text: blocks and breaks become lines; scripts, styles, comments and navigation go."""

    name: ClassVar[str] = "html"
    title: ClassVar[str] = "HTML 걷어내기"

    keep_code: bool = Field(True, description="what stands in `backquotes` or a fenced block is left as it is")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        if "<" not in text and "&" not in text:
            return text
        if not _is_markup(text) and _ENTITY.search(text) is None:
            return text
        if self.keep_code and "`" in text:
            parts = _CODE.split(text)
            parts[::2] = [self._part(part) for part in parts[::2]]
            new = "".join(parts)
        else:
            new = _convert(normalise(text))
        if not new:
            return Drop("no_text")
        return new

    @staticmethod
    def _part(part: str) -> str:
        """Text between pieces of code keeps the white space at its ends, which the code needs."""
        stripped = part.strip()
        if not stripped or ("<" not in part and "&" not in part):
            return part
        start = part.index(stripped[0])
        return part[:start] + _convert(normalise(stripped)) + part[start + len(stripped) :]


STEPS = (Html,)
