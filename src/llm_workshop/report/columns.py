"""Tables on the terminal whose columns stand below one another: a Hangul syllable takes two places there."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from llm_workshop.report.report import column_texts


def display_width(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    return sum(0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
               for character in text)  # fmt: skip


def pad(text: str, width: int, right: bool = False) -> str:
    """``text`` with spaces up to ``width`` columns of a terminal; ``right``: the spaces come first."""
    spaces = " " * (width - display_width(text))
    return spaces + text if right else text + spaces


def print_table(rows: Sequence[Mapping[str, Any]], indent: int = 2) -> None:
    """Print ``rows`` below the keys of the first, figures at the right of their columns."""
    lines = table_lines(rows)
    print("\n".join(" " * indent + line for line in lines), flush=True)


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The header and a line for each row; values look as in a report's table.  ValueError for no rows."""
    if not rows:
        raise ValueError("a table needs at least one row")
    columns = []
    for name in rows[0]:
        texts = column_texts([row.get(name) for row in rows])
        figures = all(text[:1].isdigit() or text[:1] in ("-", "+", "–") for text in texts)
        width = max(map(display_width, (name, *texts)))
        columns.append([pad(text, width, figures) for text in (name, *texts)])
    return ["  ".join(line).rstrip() for line in zip(*columns)]
