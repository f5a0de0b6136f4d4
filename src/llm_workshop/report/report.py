"""One step's report: Markdown text, tables and PNG figures under ``artifacts/<run>/reports/``."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_workshop.artifacts import make_command
from llm_workshop.learning.progress import record_finished_lab
from scratch_llm.io import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class Report:
    """Collects what a step has to say and writes it as ``<name>.md`` with its figures beside it.

    ``artifacts`` is an :class:`llm_workshop.artifacts.Artifacts` (its ``reports`` folder is used) or a
    folder.  ``name`` is ``weekNN-step`` in lower case: reports are joined in the order of their names.
    Every method returns the report, so that calls can be chained.

    Raises ValueError for a name that is no plain file name, an empty table or a figure used twice.
    """

    def __init__(self, artifacts: Any, name: str, title: str):
        if not NAME.fullmatch(name):
            raise ValueError(f"report name {name!r}: use lower-case words joined by '-', e.g. 'week05-pretrain'")
        self.folder = Path(getattr(artifacts, "reports", artifacts))
        self._settings = getattr(artifacts, "settings", None)
        self.name = name
        self.title = " ".join(title.split())
        self._blocks: list[str] = [f"# {self.title}"]
        self._figures: set[str] = set()
        self._section: str | None = None

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.md"

    def section(self, title: str) -> Report:
        """Begin a section of a lab: a heading line on the terminal now, and one in the report above what comes next.

        A section to which nothing is added leaves no heading; nor does one whose report begins with a ``heading`` of its
        own.  In a notebook, where the heading stands above the cell, nothing is printed.
        """
        title = " ".join(title.split())
        self._section = title
        if not _in_notebook():
            print(f"\n{_rule(title)}", flush=True)
        return self

    def text(self, markdown: str) -> Report:
        """Add Markdown.  Use headings from ``##`` on; the title is the report's only ``#``."""
        if markdown.lstrip().startswith("## "):
            self._section = None
        return self._add(markdown.strip())

    def heading(self, title: str, level: int = 2) -> Report:
        if level <= 2:
            self._section = None
        return self._add("#" * level + " " + " ".join(title.split()))

    def table(
        self,
        rows: Iterable[Mapping[str, Any] | Sequence[Any]],
        header: Sequence[str] | None = None,
        caption: str | None = None,
        align: bool = True,
    ) -> Report:
        """Add a table.

        ``rows`` are mappings (their keys, in order of first appearance, are the header unless one is given)
        or sequences with a ``header``.  Columns that hold only numbers are aligned right; text is shown
        literally, so Markdown or HTML inside a cell stays visible as it is.  ``align``: numbers of a column have the
        same decimals.
        """
        rows = list(rows)
        if not rows:
            raise ValueError(f"report {self.name}: a table needs at least one row")
        if header is None:
            if not all(isinstance(row, Mapping) for row in rows):
                raise ValueError(f"report {self.name}: rows that are not mappings need header=[...]")
            header = list(dict.fromkeys(key for row in rows for key in row))
        cells = [[row.get(key) for key in header] if isinstance(row, Mapping) else list(row) for row in rows]
        for row in cells:
            if len(row) != len(header):
                raise ValueError(f"report {self.name}: a row has {len(row)} cells, the header {len(header)}: {row}")
        rules = ["--:" if _numeric(column) else ":--" for column in zip(*cells)]
        texts = zip(*(column_texts(column) for column in zip(*cells))) if align else (map(format_value, row) for row in cells)
        lines = [_table_line(escape_markdown(format_value(name)) for name in header), _table_line(rules)]
        lines += [_table_line(map(escape_markdown, row)) for row in texts]
        table = "\n".join(lines)
        return self._add(f"*{escape_markdown(caption)}*\n\n{table}" if caption else table)

    def facts(self, values: Mapping[str, Any]) -> Report:
        """Add a two-column table of names and values (settings, measured figures)."""
        return self.table([[name, value] for name, value in values.items()], header=["항목", "값"], align=False)

    def output(self, text: str, language: str = "text") -> Report:
        """Add literal text (a program's output, a generated sample) as a code block."""
        longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
        fence = "`" * max(3, longest + 1)
        return self._add(f"{fence}{language}\n{text.rstrip()}\n{fence}")

    def figure(self, figure: Figure, name: str, caption: str) -> Report:
        """Save a matplotlib figure as ``<report>-<name>.png`` (atomically) and show it with its caption; in a notebook, below the cell too."""
        if not NAME.fullmatch(name):
            raise ValueError(f"figure name {name!r}: use lower-case words joined by '-', e.g. 'loss'")
        if name in self._figures:
            raise ValueError(f"report {self.name} already has a figure {name!r}: give the second one its own name")
        self._figures.add(name)
        file = f"{self.name}-{name}.png"
        with atomic_write(self.folder / file, "wb") as stream:
            figure.savefig(stream, format="png", dpi=160, bbox_inches="tight", facecolor=figure.get_facecolor())
        if _in_notebook():
            from IPython.display import Image, display

            display(Image(filename=str(self.folder / file), width=round(figure.get_figwidth() * 100), alt=" ".join(caption.split())))
        caption = escape_markdown(caption)
        return self._add(f"![{caption}]({file})\n\n*{caption}*")

    def markdown(self) -> str:
        return "\n\n".join(self._blocks) + "\n"

    def save(self, quiet: bool = False) -> Path:
        """Write the report, print where it is and note in the participant's progress that the step is done; returns the file."""
        with atomic_write(self.path) as stream:
            stream.write(self.markdown())
        if not quiet:
            command = make_command(self._settings, "report") if self._settings else "make report"
            print(f"report: {_shortest(self.path)}  (all reports on one page: {command})")
        record_finished_lab(self.name)
        return self.path

    def _ipython_display_(self) -> None:
        """Nothing: a notebook's cell that ends in a method of the report shows no address of an object."""

    def _add(self, block: str) -> Report:
        if block:
            if self._section is not None:
                self._blocks.append(f"## {self._section}")
                self._section = None
            self._blocks.append(block)
        return self


def format_value(value: Any) -> str:
    """A value as people read it: 12,345 · 0.1235 · 1.2e-05 · 예/아니요 · – for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "예" if value else "아니요"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        if value and abs(value) < 1e-3:
            return f"{value:.2e}"
        return f"{value + 0.0:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"  # adding 0.0 makes -0.0 a plain zero
    return str(value)


def column_texts(values: Sequence[Any]) -> list[str]:
    """The values of a table's column as ``format_value`` shows them; its fractions all with as many decimals as the longest.

    Columns stay as they are where that would claim more than six figures of the largest, or hide small values.
    """
    texts = [format_value(value) for value in values]
    fractions = [value for value in values if isinstance(value, float)]
    decimals = max((len(text.partition(".")[2]) for text, value in zip(texts, values) if isinstance(value, float)), default=0)
    if not decimals or not _numeric(values) or any(not re.fullmatch(r"[-\d,.]+", t) for t, v in zip(texts, values) if isinstance(v, float)):
        return texts
    if len(f"{max(map(abs, fractions)):.0f}") + decimals > 6:
        return texts
    padded = [f"{value:,.{decimals}f}" if isinstance(value, float) else text for text, value in zip(texts, values)]
    return [text.removeprefix("-") if re.fullmatch(r"-[0.]+", text) else text for text in padded]


def escape_markdown(text: str) -> str:
    """Text that Markdown shows literally, on one line."""
    text = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|~#!&])", r"\\\1", text)


def _numeric(values: Iterable[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)


def _table_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


def _rule(title: str, width: int = 100) -> str:
    """The title within a line of ``width`` columns; a Hangul syllable takes two."""
    columns = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in title)
    return f"── {title} " + "─" * max(3, width - columns - 4)


def _shortest(path: Path) -> Path:
    """``path`` relative to the working folder where that is possible."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path
