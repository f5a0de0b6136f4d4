"""What a failure of the server or of the way to it means, as the errors of engine.py."""

from __future__ import annotations

import re

from llm_workshop.serving.engine import BusyError, EngineError, PromptTooLongError
from llm_workshop.serving.triton.interface import BUSY, INVALID, PROMPT_TOO_LONG

#: Our errors stand at the start, or behind "message: " where the Python backend puts words of its own before them.
_BUSY = re.compile(rf"(?:^|message: ){re.escape(BUSY)}")
_INVALID = re.compile(rf"(?:^|message: ){re.escape(INVALID)}(.*)")
_TOO_LONG = re.compile(rf"(?:^|message: ){re.escape(PROMPT_TOO_LONG)}(\d+) tokens, at most (\d+)")
_UNKNOWN_MODEL = re.compile(r"unknown model|model .* is not (found|available)|is not ready|has no available versions", re.IGNORECASE)


class UnreachableError(EngineError):
    """No connection to the server, or it was lost: the same request may be sent again if no answer had begun."""


class WireError(Exception):
    """A transport's failure in the protocol's words: ``status`` is a gRPC code's name, None where nobody told it."""

    def __init__(self, message: str, status: str | None = None):
        super().__init__(message)
        self.message, self.status = message, status


def explain(error: WireError, where: str, model: str, started: bool) -> Exception:
    """The error for people; ``started`` says that a part of the answer had arrived already."""
    message = " ".join(error.message.split())
    if match := _TOO_LONG.search(message):
        return PromptTooLongError(int(match[1]), int(match[2]))
    if _BUSY.search(message):
        return BusyError(f"the server at {where} is busy ({message}): send the request again in a moment")
    if _UNKNOWN_MODEL.search(message):
        return EngineError(f"no model {model!r} is ready at {where} ({message}): wait until it is loaded, or name another")
    if (match := _INVALID.search(message)) or error.status == "INVALID_ARGUMENT":
        return ValueError(f"the server at {where} refused the request: {match[1] if match else message}")
    if error.status in ("UNAVAILABLE", None):
        if started:
            return UnreachableError(
                f"the server at {where} died, or the connection was lost, in the middle of the answer ({message}): "
                "see the log of the server, and ask again when it runs"
            )
        return UnreachableError(f"no server can be reached at {where} ({message}): start it with `make serve`, or wait if it is being started again")
    return EngineError(f"the server at {where} failed ({error.status}: {message}): its log tells why")
