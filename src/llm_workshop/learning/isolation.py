"""Running somebody's unfinished code in a child process that cannot take the machine, or the grader, with it.

This guards against mistakes, not against malice: the code runs as the same user and could get out if it tried to.
What it cannot do by accident: run for ever, eat the memory, start processes, reach the network, flood the terminal,
end the grader by ``sys.exit()`` or ``os._exit()``.

Memory is limited twice.  ``RLIMIT_AS`` (Linux) makes an allocation fail as ``MemoryError`` in the very line that asked
for too much, which is what somebody who learns needs to see; it is set relative to what the process has mapped
already, because torch maps gigabytes that it never uses.  Where the system does not keep that limit (macOS), the
parent watches the resident memory and kills.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

MEGABYTE = 1 << 20
MEMORY = 1024 * MEGABYTE
#: Bytes of printed text after which a child is stopped, and how many of them are kept.
MAX_OUTPUT = 4 * MEGABYTE
KEPT_OUTPUT = 4000
MAX_MESSAGES = 4 * MEGABYTE
#: Kept free of the memory limit, so that a MemoryError can still be reported.
RESERVE = 128 * MEGABYTE
#: A child is asked to stop (an exception, which shows its line) and killed this many seconds later.
GRACE_SECONDS = 1.0
#: Key of the last message of a child, which says how it ended.
LAST = "\0ended"

Send = Callable[[dict[str, Any]], None]


class TimeIsUp(BaseException):
    """Raised in a child whose time is over, wherever it is.  Not an Exception: ``except Exception`` lets it pass."""


@dataclass
class Ended:
    """How a child ended.

    Attributes:
        how: "done", "timeout", "memory", "output", "exit" (left by itself) or "signal".
        code: exit status, or number of the signal.
        messages: what the child sent.
        output: the beginning of what it printed.
        seconds: it ran.
    """

    how: str
    code: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    output: str = ""
    seconds: float = 0.0


def run_isolated(work: Callable[[Send], None], *, seconds: float, memory: int = MEMORY) -> Ended:
    """Fork, do ``work(send)`` in the child under limits, and wait.

    Args:
        work: gets a function that sends a JSON-able dict to the parent.
        seconds: wall-clock limit.
        memory: bytes that the child may take beyond what this process has.

    Raises:
        OSError: no child can be started.
    """
    from_output, output = os.pipe()
    from_child, to_parent = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(from_output)
        os.close(from_child)
        _be_the_child(work, output, to_parent, seconds, memory)
    os.close(output)
    os.close(to_parent)
    try:
        ended = _watch(child, from_output, from_child, seconds + GRACE_SECONDS, memory)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # what it may have left behind
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
        os.close(from_output)
        os.close(from_child)
    ended.seconds = time.monotonic() - started
    return ended


# --- the parent's side ----------------------------------------------------------------------------------------


def _watch(child: int, output: int, messages: int, seconds: float, memory: int) -> Ended:
    until = time.monotonic() + seconds
    process = psutil.Process(child)
    allowed = psutil.Process().memory_info().rss + memory + RESERVE
    got = {output: bytearray(), messages: bytearray()}
    printed = 0
    how = ""
    status = None
    with selectors.DefaultSelector() as selector:
        for end in got:
            os.set_blocking(end, False)
            selector.register(end, selectors.EVENT_READ)
        while status is None and not how:
            for key, _ in selector.select(timeout=0.02):
                data = _read(key.fd)
                if data is None:
                    selector.unregister(key.fd)
                elif key.fd == output:
                    printed += len(data)
                    got[output] += data[: max(0, KEPT_OUTPUT - len(got[output]))]
                else:
                    got[messages] += data
            if printed > MAX_OUTPUT or len(got[messages]) > MAX_MESSAGES:
                how = "output"
            elif time.monotonic() > until:
                how = "timeout"
            elif _resident(process) > allowed:
                how = "memory"
            if not selector.get_map():
                time.sleep(0.02)
            done, raw = os.waitpid(child, os.WNOHANG)
            status = raw if done else None
    if how and status is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    for end in got:  # what was still in the pipes
        while data := _read(end):
            room = (KEPT_OUTPUT if end == output else MAX_MESSAGES) - len(got[end])
            got[end] += data[: max(0, room)]
            if room <= 0:
                break
    code = os.waitstatus_to_exitcode(status)
    sent = _lines(bytes(got[messages]))
    said = sent.pop()[LAST] if sent and LAST in sent[-1] else None
    if not how:
        how = said or ("exit" if code >= 0 else "timeout" if -code == signal.SIGXCPU else "signal")
    return Ended(how, abs(code), sent, got[output].decode("utf-8", "replace"))


def _read(end: int) -> bytes | None:
    """What is there to read: b"" for nothing at the moment, ``None`` for the end."""
    try:
        return os.read(end, 1 << 16) or None
    except BlockingIOError:
        return b""


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _lines(data: bytes) -> list[dict[str, Any]]:
    found = []
    for line in data.splitlines():
        with contextlib.suppress(ValueError):  # a line cut off by a kill
            found.append(json.loads(line))
    return found


# --- the child's side -----------------------------------------------------------------------------------------


def _be_the_child(work: Callable[[Send], None], output: int, to_parent: int, seconds: float, memory: int) -> None:
    """Never returns."""
    code = 70
    try:
        faulthandler.disable()  # it would write to the parent's stderr
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # Whatever captured them before; Hangul in any locale.
        sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)

        def send(message: dict[str, Any]) -> None:
            rest = json.dumps(message).encode() + b"\n"
            while rest:
                rest = rest[os.write(to_parent, rest) :]

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, _time_is_up)
        limit_resources(seconds, memory)
        refuse_the_outside()
        signal.setitimer(signal.ITIMER_REAL, seconds)
        work(send)
        signal.setitimer(signal.ITIMER_REAL, 0)
        send({LAST: "done"})  # not by the exit code alone: os._exit(0) is no end of the work
        code = 0
    except TimeIsUp:
        with contextlib.suppress(BaseException):
            send({LAST: "timeout"})
    except BaseException as error:
        with contextlib.suppress(BaseException):
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _time_is_up(number: int, frame: object) -> None:
    raise TimeIsUp


def limit_resources(seconds: float, memory: int) -> None:
    """Limits of this process: address space (Linux), processor time, the size of files, no core dumps."""
    with contextlib.suppress(OSError, ValueError):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, mapped + memory + RESERVE))
    with contextlib.suppress(OSError, ValueError):
        # Seconds of all threads together: a backstop for a parent that was killed.
        resource.setrlimit(resource.RLIMIT_CPU, (int(4 * seconds) + 5,) * 2)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * MEGABYTE, 64 * MEGABYTE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def free_the_reserve() -> None:
    """Let this process use what was kept for reporting a MemoryError."""
    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


#: Audit events (see "Audit events table" of Python's documentation) that start another program or end another process.
_PROCESSES = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system", "os.kill", "os.killpg",
                        "subprocess.Popen", "pty.spawn"})  # fmt: skip
_NAMES = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})


def refuse_the_outside() -> None:
    """From now on this process starts no other, opens no network and reads no ``solutions.py``; never undone.

    An audit hook sees the calls of Python code, ``import`` included.  What is written in C and calls the system by
    itself is not seen.
    """
    with contextlib.suppress(ImportError):  # multiprocessing's way, which has no audit event before Python 3.12
        import _posixsubprocess

        _posixsubprocess.fork_exec = _refuse_processes
    sys.addaudithook(_refuse)


def _refuse_processes(*_: object) -> None:
    raise PermissionError("채점할 때는 다른 프로세스를 시작하거나 끝낼 수 없습니다")


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _PROCESSES:
        _refuse_processes()
    if event in _NAMES or (event == "socket.__new__" and arguments[1] != socket.AF_UNIX):
        raise PermissionError("채점할 때는 네트워크를 쓸 수 없습니다")
    # "solutions.": also what Python has compiled of it.
    if event == "open" and isinstance(arguments[0], str) and os.path.basename(arguments[0]).startswith("solutions."):
        raise PermissionError("채점할 때는 solutions.py를 읽을 수 없습니다")
