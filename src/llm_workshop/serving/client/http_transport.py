"""Triton over HTTP, where gRPC cannot pass: /generate_stream with server-sent events, standard library only.

No proxy is asked.  A connection serves one question or one answer.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from llm_workshop.serving.client.errors import WireError
from llm_workshop.serving.client.grpc_transport import response_of, split_address
from llm_workshop.serving.client.pieces import Response
from llm_workshop.serving.client.request import Input, Interface
from llm_workshop.serving.client.watchdog import Timeouts

_STATUS = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 409: "ALREADY_EXISTS", 499: "CANCELLED", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE"}


class HttpStream:
    """One answer on its way; ``cancel`` closes its connection, from any thread."""

    def __init__(self, connection: http.client.HTTPConnection, path: str, body: bytes):
        self._connection, self._path, self._body = connection, path, body
        self._socket: socket.socket | None = None
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        if self._socket is not None:
            with suppress(OSError):  # closed already
                self._socket.shutdown(socket.SHUT_RDWR)

    def __iter__(self) -> Iterator[Response]:
        answer = None
        try:
            self._connection.connect()
            # Kept here: http.client lets go of it where the end of the connection ends the answer.
            self._socket = self._connection.sock
            self._socket.settimeout(None)  # the watchdog keeps the time from here on
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._cancelled:
                headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
                self._connection.request("POST", self._path, self._body, headers)
                answer = self._connection.getresponse()
                if answer.status != 200:
                    raise _refusal(answer.status, answer.read())
                yield from _events(answer)
        except (OSError, http.client.HTTPException) as error:
            raise WireError(str(error) or type(error).__name__, "CANCELLED" if self._cancelled else "UNAVAILABLE") from None
        finally:
            if answer is not None:
                answer.close()
            self._connection.close()
        if self._cancelled:  # a connection that we shut looks like the end of the answer
            raise WireError("cancelled here", "CANCELLED")


class HttpTransport:
    """The same calls as GrpcTransport; every failure is a WireError."""

    def __init__(self, address: str, timeouts: Timeouts):
        self.address, self.where = address, f"{address} (HTTP)"
        self._timeout = timeouts.connect
        self._host, self._port = split_address(address)

    def connect(self) -> None:
        self._ask("GET", "/v2/health/live")

    def lost(self) -> None:
        """Nothing to do: each question has a connection of its own."""

    def is_ready(self, model: str | None = None) -> bool:
        try:
            self._ask("GET", "/v2/health/ready" if model is None else f"/v2/models/{quote(model, safe='')}/ready")
        except WireError as error:
            if error.status in ("INVALID_ARGUMENT", "NOT_FOUND"):  # Triton's way to say no
                return False
            raise
        return True

    def models(self) -> list[dict[str, str]]:
        index = json.loads(self._ask("POST", "/v2/repository/index"))
        return [{key: model.get(key, "") for key in ("name", "version", "state", "reason")} for model in index]

    def interface(self, model: str) -> Interface:
        answer = json.loads(self._ask("GET", f"/v2/models/{quote(model, safe='')}"))
        inputs = {tensor["name"]: Input(tensor["datatype"], len(tensor["shape"])) for tensor in answer["inputs"]}
        return Interface(inputs, frozenset(tensor["name"] for tensor in answer["outputs"]))

    def parameters(self, model: str) -> dict[str, str]:
        answer = json.loads(self._ask("GET", f"/v2/models/{quote(model, safe='')}/config"))
        return {name: value.get("string_value", "") for name, value in answer.get("parameters", {}).items()}

    def statistics(self, model: str) -> dict[str, Any]:
        return json.loads(self._ask("GET", f"/v2/models/{quote(model, safe='')}/stats"))["model_stats"][0]

    def stream(self, model: str, values: dict[str, Any], interface: Interface, request_id: str) -> HttpStream:
        body = json.dumps({"id": request_id, **values}).encode()
        return HttpStream(self._connection(), f"/v2/models/{quote(model, safe='')}/generate_stream", body)

    def close(self) -> None:
        """Nothing is open between questions."""

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)

    def _ask(self, method: str, path: str) -> bytes:
        connection = self._connection()
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise WireError(str(error) or type(error).__name__, "UNAVAILABLE") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise _refusal(answer.status, body)
        return body


def _events(answer: http.client.HTTPResponse) -> Iterator[Response]:
    """Server-sent events: lines ``data: {JSON}``, with an empty line after each."""
    while line := answer.readline():
        if not line.startswith(b"data:"):
            continue
        values = json.loads(line[5:])
        if "error" in values:
            raise WireError(str(values["error"]), "UNKNOWN")
        if "text_output" in values:
            yield response_of({name: _first(value) for name, value in values.items()})


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _refusal(status: int, body: bytes) -> WireError:
    try:
        message = json.loads(body.removeprefix(b"data:"))["error"]  # an event even where it is the whole answer
    except (ValueError, KeyError, TypeError):
        message = body.decode("utf-8", "replace")[:300] or f"HTTP status {status}"
    return WireError(str(message), _STATUS.get(status, "INTERNAL"))
