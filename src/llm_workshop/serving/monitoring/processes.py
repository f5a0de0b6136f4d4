"""The memory of a Triton server on this machine and of the engine processes below it."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import psutil


class MemoryReading(NamedTuple):
    """Resident bytes: of the server itself, and of all its engine processes together."""

    server: int
    engines: int


class ServerProcesses:
    """The process that listens on ``port`` of this machine, and its descendants.

    Looking for the listener reads every process of the machine, so what was found is kept until it ends.
    """

    def __init__(self, port: int):
        self.port = port
        self._server: psutil.Process | None = None

    def read(self) -> MemoryReading | None:
        """The memory now; None if nothing listens there that we may see (another machine, user or container)."""
        if self._server is None or not self._server.is_running():
            self._server = self._find()
        if self._server is None:
            return None
        try:
            server = self._server.memory_info().rss
            children = self._server.children(recursive=True)
        except psutil.Error:
            return None
        engines = 0
        for child in children:
            with contextlib.suppress(psutil.Error):  # it may end at any moment
                engines += child.memory_info().rss
        return MemoryReading(server, engines)

    def _find(self) -> psutil.Process | None:
        with contextlib.suppress(psutil.Error):
            for connection in psutil.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.port and connection.pid:
                    return psutil.Process(connection.pid)
        return None
