"""What went wrong in a test, for the one whose code it is: where in their file, with which values."""

from __future__ import annotations

import linecache
import re
import reprlib
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from llm_workshop.learning.isolation import TimeIsUp
from llm_workshop.learning.plugin import MissingExercise

MAX_VALUES = 6
MAX_MESSAGE_LINES = 12
MAX_LINE = 200
COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = 8
_short.maxlong = 40
MAX_VALUE = 120


def describe_failure(error: BaseException, file: Path, grader: Path) -> dict[str, Any]:
    """An exception as JSON-able facts.

    Args:
        error: that ended the test.
        file: the participant's.
        grader: the file of the tests.

    Returns:
        "outcome" ("todo" for an exercise not begun, else "failed"), "kind" (name of the exception, "timeout" or
        "missing"), "message", and where there are any: "where" (the deepest line of the participant's file: line,
        function, code, values), "call" (the grader's line), "broken" (why the exercise is missing).
    """
    if isinstance(error, MissingExercise):
        facts = {"outcome": "failed", "kind": "missing", "message": str(error)}
        return facts | ({"broken": vars(error.broken)} if error.broken else {})
    facts: dict[str, Any] = {"outcome": "failed", "kind": _kind(error), "message": _message(error)}
    frames = [(trace.tb_frame, trace.tb_lineno) for trace in _traces(error.__traceback__)]
    theirs = [(frame, line) for frame, line in frames if frame.f_code.co_filename == str(file)]
    # The line of the test, not that of a helper which hides itself as pytest lets it.
    ours = [line for frame, line in frames if frame.f_code.co_filename == str(grader) and not frame.f_locals.get("__tracebackhide__")]
    if theirs:
        frame, line = theirs[-1]
        code = linecache.getline(str(file), line).strip()
        # A comprehension has a frame of its own: its variable is told, and those of the function around it.
        around = next((each for each, _ in reversed(theirs) if each.f_code.co_name not in COMPREHENSIONS), frame)
        values = {name: value for name, value in (frame.f_locals | {k: v for k, v in around.f_locals.items() if k not in frame.f_locals}).items()
                  if name.isidentifier() and not isinstance(value, ModuleType)}  # fmt: skip
        shown = {name: short(value) for name, value in list(values.items())[:MAX_VALUES]}
        facts["where"] = {"line": line, "function": around.f_code.co_name, "code": code[:MAX_LINE], "values": shown}
        if isinstance(error, NotImplementedError) and "NotImplementedError" in code:
            facts["outcome"] = "todo"
    if ours:
        facts["call"] = linecache.getline(str(grader), ours[-1]).strip()[:MAX_LINE]
    return facts


def _kind(error: BaseException) -> str:
    if isinstance(error, TimeIsUp):
        return "timeout"
    # NumPy has a subclass of its own, torch tells it as a RuntimeError.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return "MemoryError"
    return type(error).__name__


def short(value: object) -> str:
    """A value on one short line; arrays by their shape."""
    try:
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            shape = tuple(value.shape)
            many = 1
            for size in shape:
                many *= size
            if many > 8:
                return f"{type(value).__name__}(shape={shape}, dtype={value.dtype})"
        text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(_short.repr(value).split()))
        return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"
    except Exception as error:  # a __repr__ of theirs
        return f"<{type(value).__name__}, repr() 안에서 {type(error).__name__}>"


def _traces(trace: TracebackType | None):
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _message(error: BaseException) -> str:
    """The message without what only pytest's authors want to read."""
    try:
        text = str(error)
    except Exception as other:
        return f"<str() 안에서 {type(other).__name__}>"
    text = re.sub(r"<(?:function|bound method|class) '?(?:[\w]+\.)*(\w+)'?(?: (?:at|of) [^>]*>?)?>", r"\1", text[:20_000])
    lines = [line for line in text.splitlines() if "<module '" not in line and "Full output truncated" not in line and "Use -v" not in line]
    kept = [line[:MAX_LINE] + ("…" if len(line) > MAX_LINE else "") for line in lines if line.strip()]
    return "\n".join(kept[:MAX_MESSAGE_LINES] + (["…"] if len(kept) > MAX_MESSAGE_LINES else []))
