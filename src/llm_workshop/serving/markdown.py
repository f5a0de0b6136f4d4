"""Answers as HTML that is safe to show: Markdown's own formatting, nothing that a model could make a browser do.

CommonMark with tables (https://spec.commonmark.org).  HTML in an answer is shown as text; links open at a click only,
in a tab that knows nothing of this one; a picture becomes a link, since loading it would tell another machine what is
being read.  What a browser gets is made here, tag by tag.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from html import escape

from markdown_it import MarkdownIt

from llm_workshop.serving.conversation import REPLACEMENT

_SAFE_LINK = re.compile(r"(https?://|mailto:)", re.IGNORECASE)
_LANGUAGE = re.compile(r"[\w+#.-]{1,20}")


@lru_cache(maxsize=512)
def to_html(text: str) -> str:
    """Markdown -> HTML.  An unfinished text (an open code block, half a table) is rendered as far as it goes."""
    # Entities such as &#0; stand for U+FFFD, which is never shown.
    return _renderer().render(text).replace(REPLACEMENT, "")


@cache
def _renderer() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    markdown.validateLink = lambda url: _SAFE_LINK.match(url) is not None
    markdown.add_render_rule("link_open", _link)
    markdown.add_render_rule("image", _image)
    markdown.add_render_rule("fence", _code)
    markdown.add_render_rule("code_block", _code)
    # A wide table scrolls by itself.
    markdown.add_render_rule("table_open", lambda *_: '<div class="table"><table>')
    markdown.add_render_rule("table_close", lambda *_: "</table></div>")
    return markdown


def _anchor(url: str, title: str = "") -> str:
    hint = escape(title or url)
    return f'<a href="{escape(url)}" title="{hint}" target="_blank" rel="noopener noreferrer nofollow">'


def _link(renderer, tokens, index, options, env) -> str:
    return _anchor(str(tokens[index].attrGet("href") or ""), str(tokens[index].attrGet("title") or ""))


def _image(renderer, tokens, index, options, env) -> str:
    token = tokens[index]
    label = escape(renderer.renderInlineAsText(token.children or [], options, env) or "그림")
    return f'{_anchor(str(token.attrGet("src") or ""))}{label}</a>'


def _code(renderer, tokens, index, options, env) -> str:
    language = (tokens[index].info or "").strip().split(" ")[0]
    shown = escape(language) if _LANGUAGE.fullmatch(language) else "코드"
    return (
        f'<div class="code"><div class="code-head"><span>{shown}</span>'
        f'<button type="button" class="copy-code">복사</button></div>'
        f'<pre><code>{escape(tokens[index].content)}</code></pre></div>'
    )
