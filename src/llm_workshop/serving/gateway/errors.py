"""Errors in the shape that OpenAI's clients read: ``{"error": {message, type, param, code}}`` and a status."""

from __future__ import annotations

import json
import math
from typing import Any

from starlette.responses import Response

from llm_workshop.serving.engine import BusyError, EngineError, PromptTooLongError

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """What a client is told.  ``retry_after`` in seconds; ``close`` ends the connection after the answer."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        close: bool = False,
    ):
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code
        self.retry_after, self.close = retry_after, close

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.close:
            headers["connection"] = "close"
        return json_response(self.body(), self.status, headers)


def from_engine(error: BaseException, prompt_name: str = "messages") -> ApiError:
    """What a client is told about an engine's error; one that is none of the protocol's hides its text."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptTooLongError):
        return ApiError(str(error), param=prompt_name, code="context_length_exceeded")
    if isinstance(error, BusyError):
        return ApiError(str(error), 503, code="busy", retry_after=1)
    if isinstance(error, EngineError):
        return ApiError(str(error), 503, code="engine_unavailable", retry_after=5)
    if isinstance(error, ValueError):
        return ApiError(str(error), code="invalid_value")
    return ApiError("the server failed while answering; its log says more", 500, code="internal_error")


def json_bytes(value: Any) -> bytes:
    """Compact UTF-8 JSON: Hangul as it is.  Half a surrogate pair, which UTF-8 has not, becomes its JSON escape."""
    return _JSON.encode(value).encode("utf-8", "backslashreplace")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json_bytes(value), status, headers, media_type="application/json")


def shown(value: Any, length: int = 60) -> str:
    """A value as it may stand in a message: short, on one line."""
    text = repr(value[: length + 1] if isinstance(value, str) else value)
    return text if len(text) <= length else text[: length - 3] + "..."
