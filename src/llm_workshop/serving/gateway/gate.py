"""What every request passes: its id, host, key and rate, one line of log, the metrics, and a last net for errors."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_workshop.serving.gateway.errors import ApiError
from llm_workshop.serving.gateway.limits import Limits, TokenBuckets
from llm_workshop.serving.gateway.metrics import Metrics

log = logging.getLogger("llm_workshop.gateway")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
#: Only what is here needs a key and counts against the rate; /health and /metrics are for machines that watch.
GUARDED = "/v1/"
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Record:
    """What is logged of a request: never its text."""

    request_id: str
    started: float
    status: int = 0
    model: str = "-"
    prompt_tokens: int | None = None
    answer_tokens: int = 0
    outcome: str = "-"

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


class Keys:
    """API keys as digests: compared in constant time, whatever their length and however many there are."""

    def __init__(self, keys: str | Sequence[str] | None):
        keys = (keys,) if isinstance(keys, str) else tuple(keys or ())
        if not all(key and key.isascii() and key.isprintable() and " " not in key for key in keys):
            raise ValueError("an API key has a character that no HTTP header may carry, or none: use letters and digits")
        self._digests = [_digest(key.encode()) for key in keys]

    def check(self, authorization: bytes) -> int:
        """The number of the key (0 where none is needed); raises ApiError 401."""
        if not self._digests:
            return 0
        scheme, _, key = authorization.partition(b" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() == b"bearer" and any(matches):
            return matches.index(True)
        what = "Incorrect API key provided." if key else "You didn't provide an API key."
        raise ApiError(f"{what} Send the header 'Authorization: Bearer KEY'.", 401, code="invalid_api_key")


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(
        self, app: ASGIApp, *, keys: Keys, limits: Limits, metrics: Metrics, allowed_hosts: Sequence[str] | None
    ):
        self.app, self.keys, self.metrics = app, keys, metrics
        self.buckets = TokenBuckets(limits.requests_per_minute)
        self.allowed_hosts = None if allowed_hosts is None else {host.lower() for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        record = Record(_request_id(headers.get(b"x-request-id", b"")), time.perf_counter())
        scope.setdefault("state", {})["record"] = record

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", record.request_id.encode())]
            await send(message)

        try:
            try:
                self._admit(scope, headers)
            except ApiError as error:
                await error.response()(scope, receive, noted)
            else:
                await self.app(scope, receive, noted)
        except Exception:
            # The last net: the traceback has no request text in it, for frames' values are not logged.
            log.exception("request %s failed", record.request_id)
            if record.status:
                raise  # the head is out: the server cuts the connection, so that nobody takes half for the whole
            await ApiError("the server failed; its log says more", 500, code="internal_error").response()(scope, receive, noted)
        finally:
            self._account(scope, record)

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if self.allowed_hosts is not None and _host(headers.get(b"host", b"")) not in self.allowed_hosts:
            # A page of the web whose name was made to point here (DNS rebinding) still sends its own name.
            raise ApiError("this server does not go by that name: use localhost, or allow the host", 403, code="host_not_allowed")
        if not scope["path"].startswith(GUARDED):
            return
        address = (scope.get("client") or ("-",))[0]
        try:
            client = (self.keys.check(headers.get(b"authorization", b"")), address)
        except ApiError:
            # Guessing keys is limited too, in a bucket of its own: it takes nothing from those who have one.
            self._take(("no key", address))
            raise
        self._take(client)

    def _take(self, client: tuple[object, str]) -> None:
        if wait := self.buckets.take(client):
            raise ApiError(
                f"Rate limit reached: {self.buckets.capacity:g} requests a minute. Try again in {wait:.1f} s.",
                429,
                code="rate_limit_exceeded",
                retry_after=wait,
            )

    def _account(self, scope: Scope, record: Record) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        # 499 as in nginx: the client was gone before the answer began.
        status = record.status or 499
        self.metrics.requests.labels(route, status).inc()
        self.metrics.seconds.labels(route).observe(record.seconds)
        path = scope.get("raw_path", b"").decode("latin-1")[:120]
        log.info(
            '%s "%s %s" %d %.0fms model=%s prompt=%s answer=%d outcome=%s id=%s',
            (scope.get("client") or ("-",))[0],
            scope["method"],
            path.encode("ascii", "backslashreplace").decode(),
            status,
            1000 * record.seconds,
            record.model,
            "-" if record.prompt_tokens is None else record.prompt_tokens,
            record.answer_tokens,
            record.outcome,
            record.request_id,
        )


def _request_id(given: bytes) -> str:
    text = given.decode("latin-1")
    return text if _GOOD_ID.fullmatch(text) else f"req-{uuid.uuid4().hex}"


def _host(header: bytes) -> str:
    """The name in a Host header, without port and brackets."""
    text = header.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
