"""Answers become HTML that can do nothing but be read."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_workshop.serving.markdown import to_html

TAGS = {
    "p", "br", "strong", "em", "s", "code", "pre", "div", "span", "button", "a", "ul", "ol", "li", "blockquote", "hr",
    "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title", "target", "rel"}, "div": {"class"}, "button": {"type", "class"}, "ol": {"start"}, "th": {"style"}, "td": {"style"}}


class Reader(HTMLParser):
    """Collects tags and their attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def check(html):
    for tag, attributes in Reader(html).found:
        assert tag in TAGS, html
        assert set(attributes) <= ATTRIBUTES.get(tag, set()), html
        if tag == "a":
            assert attributes["href"].lower().startswith(("http://", "https://", "mailto:")), html
            assert attributes["target"] == "_blank" and "noopener" in attributes["rel"] and "noreferrer" in attributes["rel"]
        if "style" in attributes:
            assert attributes["style"] in ("text-align:left", "text-align:right", "text-align:center")
    assert "\ufffd" not in html


@pytest.mark.parametrize(
    "text, part",
    [
        ("**굵게** *기울임* ~~지움~~ `코드`", "<strong>굵게</strong> <em>기울임</em> <s>지움</s> <code>코드</code>"),
        ("한 줄\n다음 줄", "한 줄<br />"),
        ("- 하나\n- 둘", "<li>둘</li>"),
        ("|가|나|\n|-|-:|\n|1|2|", '<td style="text-align:right">2</td>'),
        ("```python\nprint(1 < 2)\n```", "<span>python</span>"),
        ("```\nx\n```", 'class="copy-code">복사</button>'),
        ("[여기](https://example.org/?a=1&b=2)", 'href="https://example.org/?a=1&amp;b=2"'),
    ],
)
def test_markdown_is_formatted(text, part):
    html = to_html(text)
    check(html)
    assert part in html


@pytest.mark.parametrize(
    "text, part",
    [
        ("<script>alert(1)</script>", "&lt;script&gt;"),
        ("<img src=x onerror=alert(1)>", "&lt;img"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("[x](data:text/html;base64,AAAA)", "[x](data:"),
        ("[x](/logout)", "[x](/logout)"),
        ("[x](//example.org)", "[x](//example.org)"),
        ("<https://example.org/\"onmouseover=alert(1)>", "%22onmouseover"),
        ("![고양이](https://example.org/c.png)", ">고양이</a>"),
        ("![x](data:image/svg+xml,%3Csvg)", "![x](data:"),
        ('```"><script>\nx\n```', "<span>코드</span>"),
        ("&#0; &#xFFFD; \x00", "<p>"),
        ("[a]: https://example.org '\"><b>'\n\n[a]", "&quot;&gt;&lt;b&gt;"),
    ],
)
def test_nothing_but_formatting_gets_through(text, part):
    html = to_html(text)
    check(html)
    assert part in html


@given(st.text(alphabet="<>[]()!`*_#|-=\"'&;:/\\\n abcjs가\ufffd", max_size=120))
@settings(max_examples=300, deadline=None)
def test_no_text_makes_anything_else(text):
    check(to_html(text))


@given(st.lists(st.sampled_from(["```py\n", "|a|b|\n|-|-|\n", "**굵", "[x](", "- ", "\n\n", "`", "<b", "https://"]), max_size=12))
@settings(max_examples=100, deadline=None)
def test_every_beginning_of_an_answer_can_be_drawn(pieces):
    text = "".join(pieces)
    for end in range(len(text)):
        check(to_html(text[:end]))


@pytest.mark.parametrize("text", ["[" * 5000, "*a_ " * 3000, "> " * 3000, "![[" * 3000, "`" * 9999 + "a", "|a" * 3000 + "\n" + "|-" * 3000])
def test_no_text_takes_long(text):
    begin = time.perf_counter()
    check(to_html(text))
    assert time.perf_counter() - begin < 5, "milliseconds here; quadratic time would be minutes"
