"""The body of a request: JSON, of bounded size, in bounded time."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

from llm_workshop.serving.gateway.errors import ApiError, shown
from llm_workshop.serving.gateway.fields import parse_json
from llm_workshop.serving.gateway.limits import Limits

#: So many times the limit is read and thrown away: a client that is cut off while it sends never sees the answer.
_DRAINED = 4


async def read_json(http: Request, limits: Limits) -> dict[str, Any]:
    """Raises ApiError 415, 413, 408 or 400, and starlette's ClientDisconnect."""
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Any page of the web may make a browser send a form or plain text here unasked, but not JSON.
        raise ApiError(f"Content-Type is {shown(kind)}: send application/json", 415, code="unsupported_media_type", close=True)
    body, n_bytes, limit = [], 0, limits.max_body_bytes
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in http.stream():
                n_bytes += len(chunk)
                if n_bytes <= limit:
                    body.append(chunk)
                elif n_bytes > _DRAINED * limit:
                    break
    except TimeoutError:
        raise ApiError(
            f"the body did not arrive within {limits.body_seconds:g} s", 408, code="request_timeout", close=True
        ) from None
    if n_bytes > limit:
        raise ApiError(f"the body has more than {limit} bytes: send less", 413, code="request_too_large", close=True)
    return parse_json(b"".join(body))
