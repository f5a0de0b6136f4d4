"""Children that misbehave end as facts, and the parent goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from llm_workshop.learning.isolation import KEPT_OUTPUT, MEGABYTE, run_isolated


def test_messages_and_output_arrive():
    def work(send):
        print("안녕")
        os.write(2, b"there")
        send({"n": 1})
        send({"text": "가" * 100_000})

    ended = run_isolated(work, seconds=20)
    assert ended.how == "done" and ended.code == 0
    assert ended.messages == [{"n": 1}, {"text": "가" * 100_000}]
    assert "안녕" in ended.output and "there" in ended.output


def test_an_endless_loop_is_asked_to_stop_and_then_killed():
    def polite(send):
        try:
            while True:
                pass
        except Exception:
            send({"caught": "Exception"})
        except BaseException as error:
            send({"asked": type(error).__name__})
            raise

    def stubborn(send):
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass

    started = time.monotonic()
    asked = run_isolated(polite, seconds=0.3)
    assert (asked.how, asked.messages) == ("timeout", [{"asked": "TimeIsUp"}])
    killed = run_isolated(stubborn, seconds=0.3)
    assert killed.how == "timeout"
    assert 1.3 <= killed.seconds and time.monotonic() - started < 30


@pytest.mark.parametrize(("work", "how", "code"), [
    (lambda send: os._exit(0), "exit", 0),
    (lambda send: os._exit(3), "exit", 3),
    (lambda send: sys.exit(0), "exit", 70),
    (lambda send: signal.raise_signal(signal.SIGSEGV), "signal", signal.SIGSEGV),
    (lambda send: signal.raise_signal(signal.SIGKILL), "signal", signal.SIGKILL),
])
def test_a_child_that_leaves(work, how, code):
    ended = run_isolated(work, seconds=20)
    assert (ended.how, ended.code, ended.messages) == (how, code, [])


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is kept by Linux alone")
def test_too_much_memory_is_a_memory_error_where_it_is_asked_for():
    def work(send):
        try:
            bytearray(4000 * MEGABYTE)  # more than an earlier test can have left in this process's heap
        except MemoryError:
            send({"MemoryError": True})
        bytearray(20 * MEGABYTE)
        send({"small": True})

    ended = run_isolated(work, seconds=20, memory=100 * MEGABYTE)
    assert ended.messages == [{"MemoryError": True}, {"small": True}]


def test_where_the_system_keeps_no_limit_the_parent_watches(monkeypatch):
    monkeypatch.setattr("llm_workshop.learning.isolation.limit_resources", lambda seconds, memory: None)

    def work(send):
        hoard = []
        while len(hoard) < 100:
            hoard.append(bytearray(os.urandom(16)) * MEGABYTE)  # 16 MB each
            time.sleep(0.01)

    assert run_isolated(work, seconds=30, memory=50 * MEGABYTE).how == "memory"


def test_endless_output_is_cut_off():
    def work(send):
        while True:
            print("ㅋ" * 1000)

    ended = run_isolated(work, seconds=30)
    assert ended.how == "output"
    assert 0 < len(ended.output.encode()) <= KEPT_OUTPUT + 3


@pytest.mark.parametrize("attempt", [
    os.fork,
    lambda: os.system("true"),
    lambda: subprocess.run(["true"]),
    lambda: os.execv("/bin/true", ["true"]),
    lambda: os.kill(os.getppid(), signal.SIGKILL),
    lambda: os.posix_spawn("/bin/true", ["true"], {}),
    lambda: __import__("multiprocessing").get_context("spawn").Process(target=print).start(),
], ids=["fork", "system", "subprocess", "exec", "kill", "posix_spawn", "multiprocessing"])
def test_no_other_process_is_started_or_ended(attempt):
    assert _refused(attempt) == [{"refused": "채점할 때는 다른 프로세스를 시작하거나 끝낼 수 없습니다"}]


@pytest.mark.parametrize("attempt", [
    lambda: socket.socket(),
    lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: socket.getaddrinfo("localhost", 80),
    lambda: __import__("urllib.request").request.urlopen("http://127.0.0.1:9/"),
], ids=["socket", "udp6", "connect", "resolve", "urlopen"])
def test_no_network(attempt):
    (message,) = _refused(attempt)
    assert "네트워크를 쓸 수 없습니다" in message["refused"]


def test_sockets_of_this_machine_alone_work():
    def work(send):
        one, other = socket.socketpair()
        one.sendall(b"x")
        send({"got": other.recv(1).decode()})

    assert run_isolated(work, seconds=20).messages == [{"got": "x"}]


def test_the_parent_keeps_its_freedom():
    run_isolated(lambda send: None, seconds=20)
    socket.socket().close()
    assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, text=True).stdout == "1\n"


def test_what_a_child_leaves_behind_is_ended(tmp_path):
    """A process that slipped through (here: started before the refusal) dies with its session."""
    mark = tmp_path / "alive"

    def work(send):
        import ctypes

        if ctypes.CDLL(None).fork() == 0:  # no audit event: C calls the system by itself
            while True:
                mark.write_text(str(time.time()))
                time.sleep(0.02)
        while not mark.exists():
            time.sleep(0.02)

    assert run_isolated(work, seconds=20).how == "done"
    last = mark.read_text()
    time.sleep(0.3)
    assert mark.read_text() == last


def _refused(attempt) -> list[dict]:
    def work(send):
        try:
            attempt()
        except OSError as error:
            send({"refused": str(error.reason if hasattr(error, "reason") else error)})

    return run_isolated(work, seconds=20).messages
