"""What a person types: lines with editing and history, pasted paragraphs as one message, settings."""

from __future__ import annotations

import dataclasses
import re
import select
import shlex
import sys
from typing import Any

from llm_workshop.serving.engine import Sampling

#: A line that follows so soon was pasted, not typed (seconds).
PASTE_SECONDS = 0.05
_NOTHING = ("없음", "none", "null", "off")
_WHOLE = {"max_new_tokens", "top_k", "seed"}


def prepare_line_editing() -> None:
    """Arrow keys and history where the system has them; pasted text arrives in brackets, newlines and all."""
    try:
        import readline
    except ImportError:
        return
    readline.parse_and_bind("set enable-bracketed-paste on")  # Python switches it off


def read_message(prompt: str) -> str:
    """One message from the terminal; the lines of a pasted text are one.  EOFError at the end of the input."""
    lines = [input(prompt)]
    # Terminals without bracketed paste send the lines as if they were typed very fast.
    while select.select([sys.stdin], [], [], PASTE_SECONDS)[0]:
        try:
            lines.append(input())
        except EOFError:
            break
    return "\n".join(lines)


def changed(sampling: Sampling, text: str) -> Sampling:
    """``sampling`` with "temperature=0.7 top_k=없음 stop=끝,그만" applied; ValueError says what is allowed."""
    names = [field.name for field in dataclasses.fields(Sampling)]
    changes = {}
    for part in shlex.split(text):
        name, equals, value = part.partition("=")
        if not equals or name not in names:
            raise ValueError(f"{part!r}: 이름=값으로 적어 주세요. 이름은 {', '.join(names)} 가운데 하나입니다.")
        changes[name] = _value(name, value)
    try:
        return dataclasses.replace(sampling, **changes)
    except ValueError as error:
        raise ValueError(_in_korean(str(error))) from None


def _in_korean(error: str) -> str:
    """Sampling's "top_p=7.0: use a number above 0 and at most 1" for the person who typed it."""
    match = re.fullmatch(r"(.*): use a (whole )?number (above|at least) (\S+?)(?: and at most (\S+))?", error)
    if match is None:
        return error
    given, whole, bound, low, high = match.groups()
    allowed = [f"{low}보다 큰" if bound == "above" else f"{low} 이상"] + ([f"{high} 이하"] if high else [])
    if bound == "above" and high:
        allowed[0] = f"{low}보다 크고"
    return f"{given}: {' '.join(allowed)}{'인' if high or bound != 'above' else ''} {'정수' if whole else '수'}를 적어 주세요."


def _value(name: str, text: str) -> Any:
    if name == "stop":
        return () if text.lower() in _NOTHING else tuple(filter(None, text.split(",")))
    if text.lower() in _NOTHING and name in ("top_k", "top_p", "min_p", "seed"):
        return None
    try:
        return int(text) if name in _WHOLE else float(text)
    except ValueError:
        raise ValueError(f"{name}={text!r}: {'정수' if name in _WHOLE else '수'}를 적어 주세요.") from None
