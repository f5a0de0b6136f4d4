"""Uvicorn with the limits on connections that an app cannot set: slow heads, slow readers, and too many at once."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from llm_workshop.serving.gateway.limits import Limits

#: Bytes of a request's head, and seconds that a connection may wait for its next request or an answer for the end.
_HEAD_BYTES, _KEEP_ALIVE, _GRACE = 32 << 10, 15, 5


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``; a name is looked up, and all its addresses must be loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(item[4][0].partition("%")[0]).is_loopback for item in found)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket (port 0: any free one); raises OSError in one line with the cure."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise OSError(f"--host {host} is no address of this machine ({error.strerror}): use 127.0.0.1") from None
    # With the protocol named, asyncio turns Nagle's algorithm off; otherwise each answer waits 40 ms for an ACK.
    listener = socket.socket(family, kind, protocol)
    try:
        # A port that a closed server left in TIME_WAIT is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except OSError as error:
        listener.close()
        cures = {
            errno.EADDRINUSE: "it is in use: close what uses it, or choose another with --port",
            errno.EACCES: "it needs administrator rights: choose one above 1023",
        }
        raise OSError(f"cannot listen on {host}:{port}: {cures.get(error.errno, error.strerror)}") from None
    return listener


def make_server(app: FastAPI, limits: Limits) -> uvicorn.Server:
    """A server for ``app``; run it with ``run(sockets=[listen(...)])``."""
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # the gate writes its own line
        server_header=False,
        proxy_headers=False,  # a client must not choose the address that it is counted under
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=_HEAD_BYTES,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """When it stops, answers in progress have a few seconds to end; what is left is told so, and then cut off."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stop_answers = getattr(self.config.app.state, "stop_answers", None)
        timer = asyncio.get_running_loop().call_later(_GRACE / 2, stop_answers) if stop_answers else None
        try:
            await super().shutdown(sockets)
        finally:
            if timer is not None:
                timer.cancel()


def _protocol(limits: Limits) -> type[H11Protocol]:
    """Uvicorn's own limit answers 503 to everybody while idle connections hold the places; here those make room."""

    class BoundedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None  # until the head of the next request must be there
        _stall: asyncio.TimerHandle | None = None  # until the client must have read something
        _idle_since = 0.0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._idle_since = self.loop.time()
            self._watch_head()
            if len(self.connections) > limits.max_connections:
                idle = [c for c in self.connections if not c._busy]
                min(idle, key=lambda c: c._idle_since, default=self).transport.abort()

        @property
        def _busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch_head()

        def on_response_complete(self) -> None:
            self._idle_since = self.loop.time()
            super().on_response_complete()

        def _watch_head(self) -> None:
            if self._busy or self.transport.is_closing():
                self._stop("_timer")
            elif self._timer is None:
                self._timer = self.loop.call_later(limits.header_seconds, self._cut, "_timer")

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._stall is None:
                self._stall = self.loop.call_later(limits.stall_seconds, self._cut, "_stall")

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop("_stall")

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._stop("_timer")
            self._stop("_stall")

        def _cut(self, name: str) -> None:
            setattr(self, name, None)
            if name == "_stall" or not self._busy:
                self.transport.abort()  # close() would wait for a client that does not read

        def _stop(self, name: str) -> None:
            if (timer := getattr(self, name)) is not None:
                timer.cancel()
                setattr(self, name, None)

    return BoundedProtocol
