"""Triton as a part of the stack: its process, the processes of its engines, and whether these still answer."""

from __future__ import annotations

import http.client
import json
import threading
import time

import psutil

from llm_workshop.serving.stack.child import Health
from llm_workshop.serving.triton.interface import BUSY, METRIC_STEPS, MODEL_NAME
from llm_workshop.serving.triton.server import TritonServer

STUB = "triton_python_backend_stub"
#: A question of one token is asked this often (seconds), and must be answered in so many.
LIVE_EVERY = 20.0
LIVE_WITHIN = 30.0
#: So many in a row must fail where no metric tells whether the engine computes.
BLIND_FAILURES = 3


class TritonPart:
    """``server`` with what its own health does not show: a killed engine process, an engine that hangs.

    Triton answers that it is ready although an engine's process is dead; it would start another one at the next
    request, which fails, and requests of the dead one can wait forever. So the whole server is started again.
    """

    name = "triton"

    def __init__(self, server: TritonServer):
        self.server, self.log = server, server.log
        self.address = f"http://{server.http_address}"
        self.grpc_address = server.grpc_address
        self._health = Health(server.host, server.ports.http, "/v2/health/ready", below=400)
        self._engines: list[psutil.Process] = []
        self._live = LiveCheck(server)

    @property
    def pid(self) -> int | None:
        return self.server.pid

    @property
    def engine_pids(self) -> list[int]:
        return [process.pid for process in self._engines]

    def start(self) -> None:
        """See TritonServer.start."""
        self.server.start()
        self._engines = engine_processes(self.server.pid)
        self._health.reset()
        self._live.reset()

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        self.server.kill()

    def is_ready(self) -> bool:
        return self.server.is_ready()

    def problem(self) -> str | None:
        """What is wrong with a server that was ready, or None."""
        try:
            self.server.check()
        except RuntimeError as error:
            return str(error).splitlines()[0].partition(";")[0]
        for process in self._engines:
            if not _alive(process):
                return f"the engine's process {process.pid} died"
        return self._health.problem() or self._live.problem()


def engine_processes(leader: int | None) -> list[psutil.Process]:
    """The processes of Python models below the process ``leader``."""
    found = []
    for process in psutil.Process(leader).children(recursive=True) if leader else []:
        try:
            if any(word.endswith(STUB) for word in process.cmdline()[:1]):
                found.append(process)
        except psutil.Error:
            continue  # it ended in between
    return found


class LiveCheck:
    """Asks the model for one token now and then, in a thread, so that an engine that hangs is noticed.

    A server that is busy is alive; so is one that is slow, as long as it computes steps.
    """

    def __init__(self, server: TritonServer):
        self._server = server
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._round = object()  # answers of a question to an earlier server do not count
            self._next, self._asking, self._verdict, self._failures = time.monotonic() + LIVE_EVERY, False, None, 0

    def problem(self) -> str | None:
        with self._lock:
            if self._verdict is None and not self._asking and time.monotonic() >= self._next:
                self._asking = True
                threading.Thread(target=self._ask, args=(self._round,), name="live-check", daemon=True).start()
            return self._verdict

    def _ask(self, question: object) -> None:
        began, before = time.monotonic(), steps_computed(self._server)
        alive = self._answered() or steps_computed(self._server) != before
        with self._lock:
            if question is not self._round:
                return
            self._next, self._asking = time.monotonic() + LIVE_EVERY, False
            self._failures = 0 if alive else self._failures + 1
            if self._failures >= (1 if before else BLIND_FAILURES):
                self._verdict = f"the engine computed nothing in {time.monotonic() - began:.1f} s although it was asked"

    def _answered(self) -> bool:
        body = json.dumps({"text_input": "가", "sampling_param_max_tokens": 1, "sampling_param_temperature": 0.0})
        connection = http.client.HTTPConnection("127.0.0.1", self._server.ports.http, timeout=LIVE_WITHIN)
        try:
            connection.request("POST", f"/v2/models/{MODEL_NAME}/generate", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            return answer.status == 200 or BUSY in text
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def steps_computed(server: TritonServer) -> str:
    """The engines' step counters as the metrics give them; empty where there are none."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.metrics, timeout=5)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode("utf-8", "replace").splitlines()
        return "\n".join(line for line in lines if line.startswith(METRIC_STEPS))
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
