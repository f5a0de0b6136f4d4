"""Joins the reports of a run into one HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
import html
import mimetypes
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

from llm_workshop.report.style import SCRIPT, STYLE
from scratch_llm.io import atomic_write


@dataclass
class Section:
    """One report rendered: its anchor, title, HTML body and the anchors of its ``##`` headings."""

    anchor: str
    title: str
    body: str = ""
    headings: list[tuple[str, str]] = field(default_factory=list)


#: The steps of a week in the order of its guide, where that is not the alphabet's.
_STEPS = (
    "setup", "hello", "lifecycle", "tools", "collect", "clean", "quality", "dedup", "report", "tokenizer", "attention", "compare", "extend",
    "flops", "quantize", "export", "serve", "loadtest",
)  # fmt: skip


def _place(file: Path) -> tuple[str, int, str]:
    week, _, step = file.stem.partition("-")
    return week, _STEPS.index(step) if step in _STEPS else len(_STEPS), step


def join_reports(folder: str | Path, title: str | None = None) -> Path:
    """Render every ``*.md`` of ``folder`` (week by week, in the order of the steps) into ``folder/report.html``; returns that file.

    Images are inlined as data URIs; raw HTML in the Markdown is shown as text, never run.
    Raises FileNotFoundError if there is no report yet.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*.md"), key=_place)
    if not files:
        raise FileNotFoundError(f"no reports in {folder}: run a week first, e.g. make week5-pretrain, then make report")
    sections = [render_report(file) for file in files]
    run = folder.parent.name if folder.name == "reports" else folder.name
    newest = max(file.stat().st_mtime for file in files)
    page = _page(title or "밑바닥 LLM 워크숍 리포트", run, datetime.fromtimestamp(newest), sections)
    path = folder / "report.html"
    with atomic_write(path) as stream:
        stream.write(page)
    return path


def render_report(file: Path) -> Section:
    """Render one Markdown report.  Bytes that are not UTF-8 are replaced rather than losing the page."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False, "typographer": False}).enable(["table", "strikethrough"])
    tokens = markdown.parse(file.read_text(encoding="utf-8", errors="replace"))
    section = Section(anchor=file.stem, title=file.stem)
    _name_headings(tokens, section)
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                source = str(child.attrs["src"])
                child.attrs["src"] = inline_image(file.parent, source)
                # With its size known, an image takes its room before it is decoded: links land where they point.
                child.attrs.update(png_size(file.parent / unquote(source)))
    body = markdown.renderer.render(tokens, markdown.options, {})
    # A wide table scrolls inside its own box, so that the page never scrolls sideways on a phone.
    body = body.replace("<table>", '<div class="table" tabindex="0" role="region" aria-label="표"><table>').replace("</table>", "</table></div>")
    section.body = _captions(_widen(body))
    return section


def inline_image(folder: Path, source: str) -> str:
    """A local image as a data URI; a remote or missing one as it was (the browser then shows its caption)."""
    if re.match(r"[a-z][a-z0-9+.-]*:", source, re.IGNORECASE):
        return source
    path = (folder / unquote(source)).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        warnings.warn(f"{folder / source} is missing: run the step that makes it again", stacklevel=2)
        return source
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def png_size(path: Path) -> dict[str, str]:
    """Width and height (pixels) from the header of a PNG file, as attributes; nothing for any other file."""
    try:
        with path.open("rb") as stream:
            header = stream.read(24)
    except OSError:
        return {}
    if len(header) < 24 or header[:8] != b"\x89PNG\r\n\x1a\n" or header[12:16] != b"IHDR":
        return {}
    return {"width": str(int.from_bytes(header[16:20])), "height": str(int.from_bytes(header[20:24]))}


def _name_headings(tokens: Sequence, section: Section) -> None:
    """Give headings their ids, and take the title (first h1) and the table of contents (h2) from them."""
    titled = False
    for index, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        text = "".join(child.content for child in tokens[index + 1].children if child.type in ("text", "code_inline"))
        if token.tag == "h1" and not titled:
            section.title, titled = text, True
            token.attrs["id"] = section.anchor
        elif token.tag == "h2":
            anchor = f"{section.anchor}--{len(section.headings) + 1}"
            section.headings.append((anchor, text))
            token.attrs["id"] = anchor


def _widen(body: str) -> str:
    """Cells of more than a few words are marked, so that the columns beside them do not squeeze them to a word a line."""

    def marked(match: re.Match[str]) -> str:
        text = html.unescape(re.sub(r"<[^>]*>", "", match[2]))
        return f'<td class="wordy"{match[1]}>{match[2]}</td>' if len(text) > 14 and "text-align:right" not in match[1] else match[0]

    return re.sub(r"<td([^>]*)>(.*?)</td>", marked, body, flags=re.DOTALL)


def _captions(body: str) -> str:
    """An image and the emphasised line after it become a figure; such a line above a table, its caption."""
    body = re.sub(r'<p><em>(.*?)</em></p>\s*(?=<div class="table")', r'<p class="caption">\1</p>', body)
    return re.sub(
        r'<p>(<img [^>]*/?>)</p>\s*<p><em>(.*?)</em></p>',
        r"<figure>\1<figcaption>\2</figcaption></figure>",
        body,
        flags=re.DOTALL,
    )


def _contents(sections: Sequence[Section]) -> str:
    items = []
    for section in sections:
        inner = "".join(f'<li><a href="#{anchor}">{html.escape(text)}</a></li>' for anchor, text in section.headings)
        inner = f"<ol>{inner}</ol>" if inner else ""
        items.append(f'<li><a href="#{section.anchor}">{html.escape(section.title)}</a>{inner}</li>')
    return f'<ol class="contents">{"".join(items)}</ol>'


def _page(title: str, run: str, when: datetime, sections: Sequence[Section]) -> str:
    articles = "\n".join(f'<article aria-labelledby="{s.anchor}">{s.body}</article>' for s in sections)
    return f"""<!doctype html>
<html lang="ko">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{html.escape(title)} · {html.escape(run)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header>
<div><h1>{html.escape(title)}</h1>
<p>{html.escape(run)} · 리포트 {len(sections)}개 · {when:%Y-%m-%d %H:%M}</p></div>
<button id="theme" type="button" aria-label="밝은 화면과 어두운 화면 바꾸기">◐</button>
</header>
<div class="layout">
<nav aria-label="차례"><details open><summary>차례</summary>{_contents(sections)}</details></nav>
<main>
{articles}
</main>
</div>
<script>{SCRIPT}</script>
</body>
</html>
"""


def main(folder: str | Path) -> int:
    """What ``make report`` runs: join the reports of one run and say where the page is."""
    path = join_reports(folder)
    print(f"report page: {path.resolve()}")
    return 0
