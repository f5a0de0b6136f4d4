"""A Triton server as a child process: started, watched until it is ready, and stopped without a trace.

    with TritonServer(repository, artifacts.root / "serving" / "logs") as server:
        print(server.http_address)     # 127.0.0.1:8000, ready

The server runs under ``guard.py`` in a process group of its own, so that it ends when this process does, even by
SIGKILL. If its Python backend cannot start a model's process, Triton waits forever, at the start and at SIGINT:
both have a deadline here.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from llm_workshop.serving.serve import try_to_listen
from llm_workshop.serving.triton import guard
from llm_workshop.serving.triton.installation import Installation, find_installation

HOST = "127.0.0.1"
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Ports:
    """Where the server listens; the defaults are Triton's own."""

    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002

    def check(self, host: str = HOST) -> None:
        """Raise ValueError for an impossible choice and OSError, with the cure, for a port in use."""
        ports = {"http": self.http, "grpc": self.grpc, "metrics": self.metrics}
        for name, port in ports.items():
            if not 1 <= port <= 65535:
                raise ValueError(f"Triton's {name} port {port} is no port: use 1024 to 65535")
        if len(set(ports.values())) < len(ports):
            raise ValueError(f"Triton's ports must differ, these do not: {ports}")
        for name, port in ports.items():
            try:
                try_to_listen(host, port)
            except OSError as error:
                raise OSError(
                    f"Triton's {name} port {port} on {host} cannot be used ({error.strerror}): close what uses it, "
                    f"such as another Triton server, or choose another {name} port"
                ) from None


def command_line(
    installation: Installation,
    repository: Path,
    ports: Ports,
    backends: Path | None,
    shared_memory: str,
    exit_seconds: int,
    host: str = HOST,
) -> list[str]:
    """The command that serves the model repository on ``host`` only."""
    command = [str(installation.program), f"--model-repository={repository}"]
    for name, port in (("http", ports.http), ("grpc", ports.grpc), ("metrics", ports.metrics)):
        command += [f"--{name}-address={host}", f"--{name}-port={port}"]
    if backends is not None:
        command += [f"--backend-directory={backends}", "--allow-gpu-metrics=false"]  # the bundled one has no NVML
    command += [f"--backend-config=python,shm-region-prefix-name={shared_memory}", f"--exit-timeout-secs={exit_seconds}"]
    return command


#: What every server says without a GPU, and what no failure comes from: in a short tail it would look like the cause.
USUAL = ("pinned_memory_manager.cc", "cuda_memory_manager.cc", "CudaDriverHelper has not been initialized")


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, without the empty ones, ``USUAL``, and the tables of options that Triton ends its start with."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"({log}: {error.strerror})"
    telling = [
        line for line in text.splitlines()
        if line.strip() and not line.startswith(("|", "+")) and not any(usual in line for usual in USUAL)
    ]  # fmt: skip
    return "\n".join(telling[-lines:])


class TritonServer:
    """One Triton server over ``repository``, ready inside the ``with`` block.

    ``log_folder`` gets ``triton.log``; the log of the time before becomes ``triton.previous.log``. The server must
    be ready ``start_seconds`` after its start, and gets ``stop_seconds`` to end by itself. It listens on ``host``:
    loopback, but in a container of its own, where that would reach nobody.
    """

    def __init__(
        self,
        repository: Path,
        log_folder: Path,
        *,
        ports: Ports | None = None,
        installation: Installation | None = None,
        start_seconds: float = 120,
        stop_seconds: float = 15,
        host: str = HOST,
    ):
        self.repository = Path(repository)
        self.log = Path(log_folder) / "triton.log"
        self.ports, self.host = ports or Ports(), host
        self.start_seconds, self.stop_seconds = start_seconds, stop_seconds
        self._installation = installation
        self._process: subprocess.Popen | None = None
        self._folder: Path | None = None
        self._shared_memory = ""

    @property
    def http_address(self) -> str:
        return f"{HOST}:{self.ports.http}"

    @property
    def grpc_address(self) -> str:
        return f"{HOST}:{self.ports.grpc}"

    @property
    def metrics_address(self) -> str:
        return f"{HOST}:{self.ports.metrics}"

    @property
    def pid(self) -> int | None:
        """The leader of the server's process group, which is the guard; None where there is no server."""
        process = self._process
        return None if process is None else process.pid

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return when every model is ready.

        Raises ValueError or OSError before the start for what a person can mend, and RuntimeError with the last
        lines of the log if the server ends or is not ready in time.
        """
        if self._process is not None:
            raise RuntimeError("this server has been started already: stop it first")
        if not any(self.repository.glob("*/config.pbtxt")):
            raise ValueError(f"no model in {self.repository}: a Triton model repository holds NAME/config.pbtxt and NAME/1/")
        installation = self._installation or find_installation()
        self.ports.check(self.host)
        self._folder = Path(tempfile.mkdtemp(prefix="workshop-triton-"))
        atexit.register(self.stop)
        try:
            self._launch(installation)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raise RuntimeError with the last lines of the log if the server is not running."""
        process = self._process  # another thread may stop the server now
        if process is None:
            raise RuntimeError("the Triton server is not running: it was not started, or it was stopped")
        code = process.poll()
        if code is not None:
            raise RuntimeError(f"the Triton server ended with exit code {code}; the end of {self.log}:\n{tail(self.log)}")

    def is_ready(self) -> bool:
        """Whether the server and all of its models answer that they are ready."""
        connection = http.client.HTTPConnection(HOST, self.ports.http, timeout=2)  # asks no proxy
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """Like ``stop``, at once: for a server that is broken, whose answers are lost anyway."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End the server and all of its processes; does nothing where there is none.

        Another thread may do so while ``start`` waits, which then raises RuntimeError.
        """
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is not None:
            self._end_processes(process)
            # What killed processes leave in shared memory stays until the machine restarts.
            for region in SHARED_MEMORY.glob(f"{self._shared_memory}*"):
                region.unlink(missing_ok=True)
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _launch(self, installation: Installation) -> None:
        backends = installation.make_backends(self._folder / "backends")
        self._shared_memory = f"{self._folder.name}-"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_name("triton.previous.log"))
        command = command_line(
            installation, self.repository.resolve(), self.ports, backends, self._shared_memory, max(1, int(self.stop_seconds) - 1), self.host
        )
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, str(self.stop_seconds), str(self._folder), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=installation.variables(dict(os.environ)),
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.start_seconds
        while not self.is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"the Triton server was not ready after {self.start_seconds:g} s; the end of {self.log}:\n{tail(self.log)}"
                )
            time.sleep(0.1)
        self.check()  # another server may have taken the port in between and have answered

    def _end_processes(self, process: subprocess.Popen) -> None:
        with contextlib.suppress(OSError):
            process.stdin.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self.stop_seconds + 2)  # the guard kills after stop_seconds
        # The group outlives its leader if a model's process hangs.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
