"""What a running stack leaves for others to read: a lock that says it runs, and service.json with where and who."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from scratch_llm.io import atomic_write


class Service:
    """The files of one stack in ``folder``; ``kind`` tells apart stacks that have only a part, as in containers.

    The lock, not the file, says whether a stack runs: the system frees it however the process ends, and it knows
    no process id that somebody else may have by now.
    """

    def __init__(self, folder: Path, kind: str | None = None, dials: str = ""):
        """``dials``: what names this run on a command line, for the messages."""
        self.dials = dials
        suffix = f"-{kind}" if kind else ""
        self.path = folder / f"service{suffix}.json"
        self._lock = folder / f".service{suffix}.lock"

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Be the run's one stack inside the block; OSError in one line if there is one already."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a") as lock:
            if not _locked(lock, seconds=0.5):  # --status holds it for a moment
                facts = self.read() or {}
                raise OSError(
                    f"the serving stack of this run is running already (process {facts.get('pid', '?')}, started "
                    f"{facts.get('started', '?')}): `workshop serve --status{self.dials}` shows it, `workshop serve --stop{self.dials}` ends it"
                )
            try:
                yield
            finally:
                self.path.unlink(missing_ok=True)

    def runs(self) -> bool:
        """Whether a stack holds the lock."""
        if not self._lock.exists():
            return False
        with self._lock.open("a") as lock:
            return not _locked(lock)

    def write(self, facts: dict[str, Any]) -> None:
        with atomic_write(self.path) as stream:
            json.dump({"pid": os.getpid(), "host": socket.gethostname(), **facts}, stream, ensure_ascii=False, indent=2)

    def read(self) -> dict[str, Any] | None:
        """The facts as last written; None where there are none."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def triton_addresses(self) -> tuple[str, str] | None:
        """HOST:PORT of gRPC and of HTTP of the Triton that runs here now; None where there is none."""
        facts = self.read() if self.runs() else None
        part = facts["parts"].get("triton") if facts and facts["host"] == socket.gethostname() else None
        if not part or "grpc_address" not in part:
            return None
        return part["grpc_address"], part["address"].removeprefix("http://")

    def stop(self, seconds: float = 30) -> None:
        """Tell the running stack to end and wait until it has; ValueError if there is none, OSError if it does not."""
        facts = self.read()
        if not self.runs() or facts is None:
            raise ValueError(
                f"no serving stack of this run is running ({self.path} would tell): start it with `workshop serve`, "
                "or name its run with --scale and --data"
            )
        if facts["host"] != socket.gethostname():
            raise ValueError(f"the stack runs in another machine or container, {facts['host']}: end it there (`make down`)")
        with contextlib.suppress(ProcessLookupError):
            os.kill(facts["pid"], signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.runs():
            if time.monotonic() > deadline:
                raise OSError(f"the stack (process {facts['pid']}) has not ended after {seconds:g} s: kill {facts['pid']} by hand")
            time.sleep(0.1)


def _locked(file: IO, seconds: float = 0) -> bool:
    """Whether the lock on ``file`` could be had within ``seconds``; closing the file frees it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
