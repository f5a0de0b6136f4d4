"""The frame of the progress page and the class report: one HTML file with its style, light and dark."""

from __future__ import annotations

from html import escape

from llm_workshop.report.style import STYLE

_MORE = """
main { max-width: 60rem; margin: 0 auto; padding: 0 1.5rem 4rem; }
header { max-width: 60rem; }
:root { --good: #1a8f6f; --bad: #c2571f; }
@media (prefers-color-scheme: dark) { :root { --good: #4fc3a1; --bad: #f0945f; } }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; margin-bottom: 1.2rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1rem 1.2rem; }
.card .what { display: block; color: var(--soft); font-size: .9rem; }
.card strong { display: block; font-size: 1.6rem; line-height: 1.4; }
.card small, h3 small { color: var(--soft); font-weight: 400; font-size: .9rem; }
.bar { display: block; height: .45rem; border-radius: 1rem; background: var(--code); overflow: hidden; margin-top: .3rem; min-width: 5rem; }
.bar > span { display: block; height: 100%; background: var(--good); }
.bar.hard > span { background: var(--bad); }
article > h2:first-child { margin-top: 0; }
.chips { list-style: none; display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; }
.chips li { border: 1px solid var(--line); border-radius: 2rem; padding: .1rem .75rem; font-size: .88rem; }
.chips li.open { color: var(--soft); }
.chips small { color: var(--soft); margin-left: .45rem; }
.dot { display: inline-block; width: .6rem; height: .6rem; border-radius: 50%; margin-right: .45rem; border: 2px solid var(--line); }
.dot.done { background: var(--good); border-color: var(--good); }
.dot.wrong { background: none; border-color: var(--bad); }
.legend { display: flex; flex-wrap: wrap; gap: 1.2rem; color: var(--soft); font-size: .88rem; }
.scores, .note { color: var(--soft); font-size: .88rem; }
tbody th { color: var(--ink); border-bottom-width: 1px; }
.wording { display: block; color: var(--soft); font-size: .85rem; line-height: 1.5; min-width: 12rem; }
td.number, th.number { text-align: right; white-space: nowrap; }
@media (max-width: 820px) { main { padding: 0 .8rem 3rem; } th, td { padding: .45rem .6rem; } }
"""


def page(title: str, under: str, body: str) -> str:
    """A page: ``title`` and ``under`` are text, ``body`` is HTML."""
    return f"""<!doctype html>
<html lang="ko">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}{_MORE}</style>
</head>
<body>
<header><div><h1>{escape(title)}</h1><p>{escape(under)}</p></div></header>
<main>
{body}
</main>
</body>
</html>
"""
