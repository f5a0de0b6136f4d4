"""One-line errors for people who run commands; the traceback on request."""

from __future__ import annotations

import os
import select
import sys
import warnings
from collections.abc import Callable

DEBUG_VARIABLE = "WORKSHOP_DEBUG"


def one_line(error: BaseException) -> str:
    """The message of ``error`` folded onto one line, with the file name for an ``OSError``."""
    if isinstance(error, MemoryError):
        return "out of memory: choose a smaller SCALE or batch (ARGS=\"pretrain.micro_batch_size=...\")"
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        hint = {28: f" (free some disk space, then run {same_command()} again: finished work is kept)"}
        return f"{error.strerror}{where}{hint.get(error.errno, '')}"
    return " ".join(str(error).split()) or type(error).__name__


def same_command() -> str:
    """What to run to go on: FORCE=1 would begin again."""
    return "the same command without FORCE=1 (--force)" if os.environ.get("FORCE") == "1" else "the same command"


def exit_code(error: BaseException) -> int:
    return 130 if isinstance(error, KeyboardInterrupt) else 1


def report_error(error: BaseException) -> int:
    """Print ``error: ...`` on stderr and return the exit code that belongs to it."""
    if isinstance(error, KeyboardInterrupt):
        print(f"\ninterrupted: finished work is kept; run {same_command()} to go on", file=sys.stderr)
    else:
        print(f"error: {one_line(error)}", file=sys.stderr)
    return exit_code(error)


def one_line_warning(message, category, filename, lineno, line=None) -> str:
    """A ``warnings.formatwarning`` without the line of source, which tells a user nothing."""
    return f"warning: {' '.join(str(message).split())}\n"


def is_user_error(error: BaseException) -> bool:
    """Errors that a person can mend; anything else is our fault and keeps its traceback."""
    return isinstance(error, (ValueError, OSError, KeyboardInterrupt, MemoryError))


def exit_code_of(work: Callable[[], int | None]) -> int:
    """Do a command's work: its exit code, 0 for None; user errors become one line (unless WORKSHOP_DEBUG asks for more).

    Whoever reads standard output may have enough of it (``| head``): that is no error.
    """
    try:
        code = work() or 0
        sys.stdout.flush()  # the interpreter's own, at its end, would complain
        return code
    except BaseException as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 0
        if os.environ.get(DEBUG_VARIABLE) or not is_user_error(error):
            raise
        return report_error(error)


def _nobody_reads() -> bool:
    """Whether it is standard output that is closed; if so, what is still to come goes nowhere."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are told unasked
    if not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def install_one_line_errors() -> None:
    """Make uncaught user errors one line long; ``WORKSHOP_DEBUG=1`` keeps the traceback."""
    if os.environ.get(DEBUG_VARIABLE):
        return
    warnings.formatwarning = one_line_warning
    previous = sys.excepthook

    def hook(kind, error, traceback):
        if is_user_error(error):
            report_error(error)
        else:
            previous(kind, error, traceback)

    sys.excepthook = hook
