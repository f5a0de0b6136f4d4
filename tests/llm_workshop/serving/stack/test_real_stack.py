"""The stack with its real servers, as `workshop serve` starts it: asked, killed under load, stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from support.triton_stack import require_triton, small_artifacts

from llm_workshop.serving.client import TritonClient
from llm_workshop.serving.engine import BusyError, EngineError, Sampling
from llm_workshop.serving.stack.child import answers
from llm_workshop.serving.stack.service import Service

sys.path.insert(0, str(Path(__file__).parent))
from test_stack import free_ports, until

pytestmark = pytest.mark.slow
NAMES = ("serving.http_port", "serving.grpc_port", "serving.metrics_port", "serving.api_port", "chat.port")


class Running:
    """`workshop serve` over a small model."""

    def __init__(self, root: Path):
        self.ports = free_ports(5)
        self.artifacts = small_artifacts(root)
        self.service = Service(self.artifacts.root / "serving")
        self.out = root / "out"
        self.overrides = [f"{name}={port}" for name, port in zip(NAMES, self.ports, strict=True)]
        self.environment = {**os.environ, "ARTIFACTS_DIR": str(root), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "llm_workshop.cli", "serve", "--scale", "smoke", *self.overrides]
        self.process = subprocess.Popen(command, stdout=self.out.open("w"), stderr=subprocess.STDOUT, env=self.environment)

    def said(self, words: str, times: int = 1, seconds: float = 120) -> bool:
        def enough() -> bool:
            assert self.process.poll() is None, self.out.read_text()
            return len(re.findall(words, self.out.read_text())) >= times

        return until(enough, seconds)

    @property
    def triton(self) -> dict:
        return self.service.read()["parts"]["triton"]

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    require_triton()
    running = Running(tmp_path_factory.mktemp("stack"))
    try:
        assert running.said("Ctrl-C takes the stack down"), running.out.read_text()
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def test_every_part_answers(running):
    import httpx
    import openai

    http, _, metrics, api, page = running.ports
    assert answers("127.0.0.1", http, "/v2/models/tensorrt_llm/ready") and answers("127.0.0.1", metrics, "/metrics")
    assert answers("127.0.0.1", page, "/") and answers("127.0.0.1", api, "/monitor")
    with openai.OpenAI(base_url=f"http://127.0.0.1:{api}/v1", api_key="none", http_client=httpx.Client(trust_env=False)) as client:
        answer = client.chat.completions.create(
            model="smoke", messages=[{"role": "user", "content": "안녕?"}], temperature=0, max_tokens=32
        )
    assert answer.choices[0].message.content.startswith("안녕하세요!")
    assert running.triton["engine_pids"] and psutil.pid_exists(running.triton["engine_pids"][0])


class Load:
    """Clients that ask without a pause and write down when an answer or an error came."""

    def __init__(self, port: int, clients: int = 3):
        self.good: list[float] = []
        self.errors: list[tuple[float, Exception]] = []
        self._port, self._end = port, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "no client waits forever"

    def _ask(self):
        with TritonClient.from_url(f"127.0.0.1:{self._port}") as client:
            while not self._end.is_set():
                try:
                    list(client.generate("바다는", Sampling(max_new_tokens=200, temperature=0.0)))
                    self.good.append(time.monotonic())
                except Exception as error:
                    self.errors.append((time.monotonic(), error))
                    time.sleep(0.1)


@pytest.mark.parametrize("victim", ["engine", "triton"])
def test_a_kill_under_load_is_an_error_and_then_over(running, victim):
    restarts = len(re.findall("triton: ready again", running.out.read_text()))
    with Load(running.ports[1]) as load:
        assert until(lambda: len(load.good) > 5, 30)
        [engine] = running.triton["engine_pids"]
        pid = engine if victim == "engine" else psutil.Process(engine).ppid()
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert running.said("triton: .*: starting it again", restarts + 1, 20) and time.monotonic() - killed < 5
        assert until(lambda: any(moment > killed + 0.5 and moment > load.errors[-1][0] for moment in load.good if load.errors), 90)
        restored = min(moment for moment in load.good if moment > load.errors[0][0]) - killed
    assert running.said("triton: ready again", restarts + 1, 5)
    assert load.errors and all(isinstance(error, (EngineError, BusyError)) for _, error in load.errors), load.errors
    assert restored < 60  # about five seconds on two cores that do nothing else
    assert running.triton["restarts"] == restarts + 1 and running.triton["engine_pids"] != [engine]
    # It believes for 5 s what it heard last.
    assert until(lambda: answers("127.0.0.1", running.ports[3], "/health"), 10), "the endpoint needs no restart"
    assert "gateway: ready again" not in running.out.read_text() and "page: ready again" not in running.out.read_text()


def test_a_second_start_and_status(running):
    def workshop(*words):
        return subprocess.run([sys.executable, "-m", "llm_workshop.cli", "serve", "--scale", "smoke", *running.overrides, *words],
                              env=running.environment, capture_output=True, text=True, timeout=60)  # fmt: skip

    done = workshop()
    assert done.returncode == 1 and "running already" in done.stderr and len(done.stderr.splitlines()) == 1
    done = workshop("--status")
    assert done.returncode == 0 and len(re.findall(r" ready ", done.stdout)) == 3, done.stdout


def test_sigterm_leaves_nothing(running):
    """The last one: the stack is gone after it."""
    processes = running.processes()
    assert len(processes) >= 8, "a guard and a server of each, the engine, the supervisor"
    began = time.monotonic()
    running.process.terminate()
    assert running.process.wait(25) == 0 and time.monotonic() - began < 20
    assert not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not running.service.path.exists()
