"""Progress bars with ETA on a terminal, an occasional plain line in a log file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG_EVERY_SECONDS = 10.0


@contextlib.contextmanager
def progress_bar(description: str, total: float | None) -> Iterator[Callable[[float, float | None], None]]:
    """Yield ``update(done, total=None)``; ``done`` and ``total`` are in any one unit."""
    console = Console()
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(description, total=total)

            def update(done: float, new_total: float | None = None) -> None:
                bar.update(task, completed=done, **({} if new_total is None else {"total": new_total}))

            yield update
            # A cap on the input ends the work early; the bar should still close full.
            bar.update(task, completed=bar.tasks[task].total or 1)
    else:
        yield _plain_lines(description, total)


def _plain_lines(description: str, total: float | None) -> Callable[[float, float | None], None]:
    started = last = time.monotonic()

    def update(done: float, new_total: float | None = None) -> None:
        nonlocal last, total
        total = new_total if new_total is not None else total
        now = time.monotonic()
        if now - last < LOG_EVERY_SECONDS:
            return
        last = now
        share = f"{done / total:.0%}, ETA {(now - started) * (total - done) / done:.0f} s" if total and done else f"{done:g}"
        print(f"{description}: {share}", flush=True)

    return update
