"""A web server of ours as a child process: started under the guard, ready when it answers, ended with its starter."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from llm_workshop.serving.triton import guard
from llm_workshop.serving.triton.server import tail

#: Seconds between questions to a running part, for one answer, and unanswered ones in a row that mean it is stuck.
HEALTH_SECONDS = 5.0
ANSWER_SECONDS = 5.0
STUCK_AFTER = 3


def answers(host: str, port: int, path: str, seconds: float = ANSWER_SECONDS, below: int = 400) -> bool:
    """Whether ``GET path`` is answered with a status ``below`` this. Asks no proxy."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < below
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def reachable(host: str) -> str:
    """The address by which this machine reaches a server that listens on ``host``."""
    return "127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host


class Health:
    """Asks a running server from time to time; ``problem`` after several questions in a row without an answer.

    Once it runs, statuses ``below`` this mean that it lives: an endpoint whose Triton is being started again says 503
    itself, and needs no restart.
    """

    def __init__(self, host: str, port: int, path: str, below: int = 600):
        self._where, self._below = (reachable(host), port, path), below
        self.reset()

    def reset(self) -> None:
        self._failures, self._next = 0, time.monotonic() + HEALTH_SECONDS

    def ready(self, seconds: float = ANSWER_SECONDS) -> bool:
        return answers(*self._where, seconds)

    def problem(self) -> str | None:
        """Asks if it is time to; may take ANSWER_SECONDS."""
        if time.monotonic() < self._next:
            return None
        self._failures = 0 if answers(*self._where, ANSWER_SECONDS, self._below) else self._failures + 1
        self._next = time.monotonic() + HEALTH_SECONDS
        if self._failures < STUCK_AFTER:
            return None
        return f"http://{self._where[0]}:{self._where[1]}{self._where[2]} did not answer {self._failures} times in a row"


class WebPart:
    """``command`` as a process that serves HTTP at ``host:port``; ready when ``path`` is answered.

    ``log`` is begun anew at each start, what was there becomes NAME.previous.log.
    """

    def __init__(
        self, name: str, command: Sequence[str], host: str, port: int, path: str, log: Path,
        start_seconds: float = 90, stop_seconds: float = 4,
    ):  # fmt: skip
        self.name, self.command, self.log = name, list(command), Path(log)
        self.host, self.port = host, port
        self.address = f"http://{reachable(host)}:{port}"
        self.start_seconds, self.stop_seconds = start_seconds, stop_seconds
        self._health = Health(host, port, path)
        self._process: subprocess.Popen | None = None
        self._folder = ""
        self._stopped = threading.Event()

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start and return when the part answers; RuntimeError with the log's end if it ends or is not ready in time."""
        self._stopped.clear()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".previous.log"))
        # For its temporary files; the guard removes it where this process no longer can.
        folder = self._folder = tempfile.mkdtemp(prefix=f"workshop-{self.name}-")
        command = [sys.executable, "-I", guard.__file__, str(self.stop_seconds), folder, *self.command]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": folder, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        deadline = time.monotonic() + self.start_seconds
        while not self._health.ready(2):
            if problem := self._ended():
                raise RuntimeError(f"{problem}; the end of {self.log}:\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"not ready after {self.start_seconds:g} s; the end of {self.log}:\n{tail(self.log)}")
            if self._stopped.wait(0.1):
                raise RuntimeError("stopped while it started")
        self._health.reset()

    def problem(self) -> str | None:
        """What is wrong with a part that was ready, or None. May take ANSWER_SECONDS, if it is stuck."""
        return self._ended() or self._health.problem()

    def is_ready(self) -> bool:
        return self._ended() is None and self._health.ready(2)

    def stop(self) -> None:
        """End it and its processes, by SIGINT and after ``stop_seconds`` by force; does nothing where there is none."""
        self._stopped.set()
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # the guard's sign to stop
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.stop_seconds + 2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """End it at once."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.stop()

    def _ended(self) -> str | None:
        process = self._process
        if process is None:
            return "it is not running"
        code = process.poll()
        return None if code is None else f"its process ended with exit code {code}"
