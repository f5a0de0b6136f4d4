"""The stack with stand-ins for its servers: what it refuses, starts again, gives up, and leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from llm_workshop.artifacts import Artifacts
from llm_workshop.serving.stack import child, keeper
from llm_workshop.serving.stack.child import WebPart, answers
from llm_workshop.serving.stack.keeper import GaveUpError
from llm_workshop.serving.stack.parts import dials
from llm_workshop.serving.stack.ports import check_ports, places
from llm_workshop.serving.stack.service import Service
from llm_workshop.serving.stack.supervisor import Stack
from llm_workshop.settings import load_settings

FAKE = Path(__file__).parent / "fake_parts.py"


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    numbers = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return numbers


def settings_on(ports: list[int], *overrides: str):
    names = ("serving.http_port", "serving.grpc_port", "serving.metrics_port", "serving.api_port", "chat.port")
    return load_settings("smoke", overrides=[*(f"{name}={port}" for name, port in zip(names, ports, strict=True)), *overrides])


def until(condition, seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def fakes_of(port: int) -> list[psutil.Process]:
    """The guard and the fake server on ``port``."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if str(FAKE) in words and str(port) in words:
            found.append(process)
    return found


@pytest.fixture
def ports() -> list[int]:
    return free_ports(5)


@pytest.fixture
def artifacts(tmp_path, ports, monkeypatch) -> Artifacts:
    artifacts = Artifacts(settings_on(ports, "serving.restarts=2"), root=tmp_path)
    monkeypatch.setattr(artifacts, "require", lambda stage: artifacts.path(stage))
    return artifacts


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Stand-ins for the three servers; ``make.behaviour`` by name, ``make.stuck`` is a file that makes them hang."""
    monkeypatch.setenv("STUCK_FILE", str(tmp_path / "stuck"))
    ports_of = {"triton": "http_port", "gateway": "api_port"}

    def make(name, settings, artifacts):
        port = settings.chat.port if name == "page" else getattr(settings.serving, ports_of[name])
        command = [sys.executable, str(FAKE), str(port), make.behaviour.get(name, "")]
        log = artifacts.root / "serving" / "logs" / f"{name}.log"
        return WebPart(name, command, "127.0.0.1", port, "/", log, start_seconds=make.start_seconds, stop_seconds=1)

    make.behaviour, make.stuck, make.unavailable, make.start_seconds = {}, tmp_path / "stuck", tmp_path / "unavailable", 20
    return make


def stack_of(artifacts, make, lines=None, only=None) -> Stack:
    return Stack(artifacts.settings, artifacts, only, say=(lines if lines is not None else []).append, make_part=make)


def test_up_and_down(artifacts, make, ports):
    lines = []
    with stack_of(artifacts, make, lines) as stack:
        assert all(answers("127.0.0.1", port, "/") for port in (ports[0], ports[3], ports[4]))
        assert not stack.stopped
        facts = json.loads(stack.service.path.read_text())
        assert facts["pid"] == os.getpid() and facts["run"] == "smoke" and set(facts) >= {"started", "commit", "host"}
        assert {name: part["address"] for name, part in facts["parts"].items()} == stack.addresses
        assert all(psutil.pid_exists(part["pid"]) for part in facts["parts"].values())
        assert lines[0].startswith("triton: "), "what asks Triton waits for it"
        assert all(re.search(rf"^{name}: ready at http://127.0.0.1:\d+ \(", "\n".join(lines), re.M) for name in stack.names)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert not stack.service.path.exists() and not stack.service.runs()
    assert not [p for port in ports for p in fakes_of(port)]
    logs = artifacts.root / "serving" / "logs"
    assert "line 39" in (logs / "page.log").read_text()
    (logs / "page.log").write_text("the time before")
    with stack_of(artifacts, make):
        assert (logs / "page.previous.log").read_text() == "the time before"


def test_without_the_page_and_only_a_part(artifacts, make):
    settings = artifacts.settings.model_copy(update={"serving": artifacts.settings.serving.model_copy(update={"page": False})})
    assert Stack(settings, artifacts, make_part=make).names == ("triton", "gateway")
    with stack_of(artifacts, make, only=["gateway"]) as stack:
        assert list(stack.addresses) == ["gateway"] and stack.service.path.name == "service-gateway.json"
        assert not Service(artifacts.root / "serving").runs(), "a part alone is another stack"
    with pytest.raises(ValueError, match="unknown part pages: the stack has triton, gateway, page"):
        stack_of(artifacts, make, only=["pages"])


def test_without_a_model_the_cure_is_named(tmp_path, ports):
    artifacts = Artifacts(settings_on(ports), root=tmp_path)
    with pytest.raises(ValueError, match="run 'make week5-pretrain SCALE=smoke' first"):
        Stack(artifacts.settings, artifacts).start()
    assert not artifacts.root.exists()


def test_a_second_start_is_refused_and_harms_nothing(artifacts, make, ports):
    with stack_of(artifacts, make) as first:
        with pytest.raises(OSError, match=rf"running already \(process {os.getpid()}, .*--status.*--stop") as error:
            stack_of(artifacts, make).start()
        assert "\n" not in str(error.value)
        assert first.service.runs() and first.service.path.exists() and answers("127.0.0.1", ports[0], "/")


@pytest.mark.parametrize("i", range(5))
def test_a_port_in_use_is_told_before_anything_starts(artifacts, make, ports, i):
    names = ("serving.http_port", "serving.grpc_port", "serving.metrics_port", "serving.api_port", "chat.port")
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports[i]))
        other.listen()
        with pytest.raises(OSError, match=rf"port {ports[i]} on 127.0.0.1 \(.*{names[i]}\) is in use: close") as error:
            stack_of(artifacts, make).start()
    message = str(error.value)
    assert "\n" not in message
    cure = re.search(r'ARGS="serving\.\w+=(\d+)"$' if i < 4 else r"PORT=(\d+)$", message)
    assert cure and int(cure[1]) not in ports
    assert not (artifacts.root / "serving" / "logs").exists() and not Service(artifacts.root / "serving").path.exists()


def test_all_ports_in_use_are_named_at_once(ports):
    settings = settings_on(ports)
    with socket.socket() as one, socket.socket() as two:
        for sock, port in ((one, ports[1]), (two, ports[3])):
            sock.bind(("127.0.0.1", port))
            sock.listen()
        with pytest.raises(OSError, match=r'grpc_port.*api_port.*ARGS="serving.grpc_port=\d+ serving.api_port=\d+"$'):
            check_ports(places(settings))
        check_ports(places(settings, ["page"]))


def test_impossible_ports(ports):
    same = settings_on([ports[0], ports[0], *ports[2:]])
    with pytest.raises(ValueError, match=rf"http_port and serving.grpc_port are both {ports[0]}"):
        check_ports(places(same))
    with pytest.raises(OSError, match=r"203.0.113.9 \(Triton's HTTP\) is no address of this machine"):
        check_ports(places(settings_on(ports, "serving.host=203.0.113.9")))


def test_children_get_the_same_settings(ports):
    settings = settings_on(ports, "generate.temperature=0.25", "serving.max_tokens=64", "chat.system_prompt=너는 선생님")
    words = dials(settings)
    assert words[:6] == ["--scale", "smoke", "--data", "sample", "--seed", "0"]
    again = load_settings("smoke", overrides=words[6:])
    assert (again.serving, again.chat, again.generate) == (settings.serving, settings.chat, settings.generate)


@pytest.mark.parametrize("name", ["triton", "gateway", "page"])
def test_a_part_that_dies_is_started_again(artifacts, make, name):
    lines = []
    with stack_of(artifacts, make, lines) as stack:
        before = json.loads(stack.service.path.read_text())["parts"]
        began = time.monotonic()
        os.kill(before[name]["pid"], signal.SIGKILL)
        assert until(lambda: any("starting it again" in line for line in lines)) and time.monotonic() - began < 3
        assert until(lambda: any(line.startswith(f"{name}: ready again") for line in lines))
        after = json.loads(stack.service.path.read_text())["parts"]
        assert after[name]["pid"] != before[name]["pid"] and after[name]["restarts"] == 1
        assert all(after[other] == before[other] for other in before if other != name)
        stack.check()
        folders = [Path(keeper.part._folder) for keeper in stack.keepers]
        assert all(folder.is_dir() for folder in folders)
    assert not any(folder.exists() for folder in folders)
    assert "exit code -9" in "\n".join(lines)


def test_a_part_that_leaves_by_itself_is_started_again(artifacts, make, ports):
    lines = []
    with stack_of(artifacts, make, lines):
        assert answers("127.0.0.1", ports[3], "/leave")
        assert until(lambda: any("its process ended with exit code 3: starting it again (1 of 2 in ten minutes)" in line for line in lines))
        assert until(lambda: any("ready again" in line for line in lines))


def test_a_part_that_hangs_is_started_again(artifacts, make, monkeypatch):
    monkeypatch.setattr(child, "HEALTH_SECONDS", 0.2)
    monkeypatch.setattr(child, "ANSWER_SECONDS", 0.3)
    lines = []
    with stack_of(artifacts, make, lines, only=["gateway"]):
        make.stuck.touch()
        assert until(lambda: any("did not answer 3 times in a row" in line for line in lines))
        make.stuck.unlink()
        assert until(lambda: any("ready again" in line for line in lines))


def test_an_endpoint_that_says_it_cannot_answer_now_lives(artifacts, make, monkeypatch):
    monkeypatch.setattr(child, "HEALTH_SECONDS", 0.1)
    with stack_of(artifacts, make, lines := [], only=["gateway"]) as stack:
        part = stack.keepers[0].part
        assert part.is_ready()
        make.unavailable.touch()
        assert not part.is_ready()
        time.sleep(1)
        stack.check()
    assert len(lines) == 1, lines


def test_a_part_that_keeps_dying_is_given_up_with_its_log(artifacts, make):
    stack = stack_of(artifacts, make, only=["page"])
    with stack:
        make_it_fail(stack.keepers[0].part)
        os.kill(stack.keepers[0].part.pid, signal.SIGKILL)
        with pytest.raises(GaveUpError) as error:
            stack.wait()
    text = str(error.value)
    assert "page: its process ended with exit code 1; it was started again 2 times in ten minutes (serving.restarts=2)" in text
    assert "cannot work" in text and "line 39" in text


def make_it_fail(part: WebPart) -> None:
    part.command[-1] = "fails"


def test_restarts_of_long_ago_do_not_count(artifacts, make, monkeypatch):
    monkeypatch.setattr(keeper, "WINDOW", 0.0)
    lines = []
    with stack_of(artifacts, make, lines, only=["page"]) as stack:
        for i in range(3):  # one more than serving.restarts
            os.kill(stack.keepers[0].part.pid, signal.SIGKILL)
            assert until(lambda n=i + 1: sum("ready again" in line for line in lines) == n)


def test_a_part_that_cannot_start_shows_its_log_and_nothing_stays(artifacts, make, ports):
    make.behaviour["gateway"] = "fails"
    with pytest.raises(RuntimeError, match=r"gateway: its process ended with exit code 1; the end of (.|\n)*cannot work"):
        stack_of(artifacts, make).start()
    assert not [p for port in ports for p in fakes_of(port)] and not Service(artifacts.root / "serving").path.exists()


def test_a_part_that_is_never_ready_is_killed(artifacts, make, ports):
    make.behaviour["triton"], make.start_seconds = "hangs", 5
    with pytest.raises(RuntimeError, match=r"triton: not ready after 5 s(.|\n)*line 39"):
        stack_of(artifacts, make).start()
    assert not fakes_of(ports[0])


def test_a_part_that_is_deaf_is_killed(artifacts, make, ports):
    make.behaviour["page"] = "deaf"
    began = None
    with stack_of(artifacts, make):
        began = time.monotonic()
    assert 1 <= time.monotonic() - began < 8 and not fakes_of(ports[4])


# --- the stack as a program of its own -----------------------------------------------------------------------------

PROGRAM = """\
import sys
from pathlib import Path
sys.path[:0] = {folders!r}
import test_stack as t
from llm_workshop.artifacts import Artifacts
from llm_workshop.serving.stack import command, supervisor
settings = t.settings_on({ports!r})
def make(name, settings, artifacts):
    port = dict(triton=settings.serving.http_port, gateway=settings.serving.api_port, page=settings.chat.port)[name]
    log = artifacts.root / "serving" / "logs" / (name + ".log")
    return t.WebPart(name, [sys.executable, str(t.FAKE), str(port), {behaviour!r}], "127.0.0.1", port, "/", log, stop_seconds=1)
Artifacts.require = lambda self, stage: None
supervisor.Stack.__init__.__defaults__ = (None, supervisor.say, make)
sys.exit(command.serve(settings))
"""


class Program:
    def __init__(self, tmp_path, ports, behaviour=""):
        self.out = tmp_path / "out"
        folders = [str(Path(__file__).parent)]
        script = PROGRAM.format(folders=folders, ports=ports, behaviour=behaviour)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=self.out.open("w"), stderr=subprocess.PIPE, text=True,
            env={**os.environ, "ARTIFACTS_DIR": str(tmp_path)}, start_new_session=True,
        )  # fmt: skip
        self.ports = ports
        self.service = Service(tmp_path / "smoke" / "serving")

    def ready(self) -> bool:
        return until(lambda: self.process.poll() is not None or "Ctrl-C takes" in self.out.read_text())

    def end(self) -> tuple[str, str]:
        """Its output and its errors, once it has ended."""
        _, errors = self.process.communicate(timeout=20)
        return self.out.read_text(), errors

    def gone(self, seconds: float) -> bool:
        return until(lambda: not [p for port in self.ports for p in fakes_of(port)], seconds)


@pytest.fixture
def program(tmp_path, ports):
    started = []

    def start(behaviour=""):
        started.append(Program(tmp_path, ports, behaviour))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
    assert all(each.gone(10) for each in started)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_take_it_down(program, number):
    running = program()
    assert running.ready() and running.service.path.exists()
    running.process.send_signal(number)
    out, err = running.end()
    assert running.process.returncode == 0 and err == ""
    assert "ask Triton:" in out and "client.chat.completions.create" in out and out.rstrip().endswith("the stack is down")
    assert running.gone(0) and not running.service.path.exists()


def test_a_signal_during_the_start_takes_it_down(program):
    running = program("hangs")
    assert until(lambda: fakes_of(running.ports[0]))
    running.process.send_signal(signal.SIGTERM)
    out, err = running.end()
    assert running.process.returncode == 0 and err == "" and running.gone(0)
    assert "ask Triton" not in out


def test_nothing_outlives_a_killed_supervisor(program):
    running = program("deaf")
    assert running.ready()
    running.process.kill()
    assert running.gone(10)
    assert running.service.path.exists() and not running.service.runs(), "what is left is known to be stale"
    again = program()
    assert again.ready() and again.process.poll() is None, "and stands in nobody's way"


def test_status_and_stop_from_another_process(program, tmp_path):
    def workshop(*words):
        return subprocess.run([sys.executable, "-m", "llm_workshop.cli", "serve", "--scale", "smoke", *words],
                              env={**os.environ, "ARTIFACTS_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=60)  # fmt: skip

    done = workshop("--status")
    assert done.returncode == 3 and "no serving stack of run smoke is running" in done.stdout
    done = workshop("--stop")
    assert done.returncode == 1 and "no serving stack of this run is running" in done.stderr and len(done.stderr.splitlines()) == 1
    running = program()
    assert running.ready()
    done = workshop("--status")
    assert done.returncode == 0, done.stdout
    assert all(re.search(rf"{name} +http://127.0.0.1:\d+ +ready +process \d+ ", done.stdout) for name in ("triton", "gateway", "page"))
    os.kill(json.loads(running.service.path.read_text())["parts"]["page"]["pid"], signal.SIGKILL)
    assert until(lambda: re.search(r"page +http\S+ +ready +process \d+, started again 1 time  log", workshop("--status").stdout))
    assert workshop("--stop").returncode == 0
    assert running.process.wait(1) == 0 and not running.service.path.exists()


def test_a_stack_in_a_container_is_not_stopped_from_outside(tmp_path):
    service = Service(tmp_path)
    with service.hold():
        service.write({"started": "now"})
        service.path.write_text(json.dumps({**service.read(), "host": "0123456789ab"}))
        with pytest.raises(ValueError, match=r"another machine or container, 0123456789ab: end it there"):
            Service(tmp_path).stop()
