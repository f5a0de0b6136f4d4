"""Work in several processes: tasks go out over pipes, results come back as they are done.

``multiprocessing`` starts a process by running the main program once more, which a lab script or a notebook (all of it
at module level) does not survive.  Here a worker is ``python -m llm_workshop.curation.processes``: it imports what the
work names, and nothing of the main program.  It ends at once when its parent does, be it by ``kill -9``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from llm_workshop.errors import is_user_error, same_command

Task = TypeVar("Task")
Result = TypeVar("Result")
#: Each process computes with one thread; strings hash alike everywhere, so that no set is walked in another order.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def run_in_processes(
    make: Callable[[Any], Callable[[Task], Result]], shared: Any, tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    """Yield ``make(shared)(task)`` of every task, in the order in which they end.

    ``make`` is a function at the top of a module: it is called once in each process and returns what does a task, so
    that models and lists are loaded once.  ``shared``, tasks and results must be picklable; tasks should be small (the
    name of a file, not its text).  With ``workers=1`` all
    happens in this process, in order.  Tasks are drawn as they are needed, results kept by nobody: memory is bounded.

    An error of a task is raised here, as it was: nothing is started after it, what the others work on is abandoned.
    RuntimeError if a process dies (the kernel kills one when memory runs out).
    """
    if workers < 1:
        raise ValueError(f"{workers} workers: at least one process must do the work")
    if workers == 1:
        work = make(shared)
        yield from map(work, tasks)
        return
    with _Workers(_pickle(make, shared)) as started:
        yield from started.run(tasks, workers)


class _Workers:
    """The processes, each with a pipe of its own, and a further pipe whose end tells them that we are gone."""

    def __init__(self, job: bytes):
        self._job = job
        self._alive, self._here = os.pipe()
        self._processes: dict[Connection, subprocess.Popen] = {}

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: Any) -> None:
        os.close(self._here)  # every worker ends at this, whatever it is at
        os.close(self._alive)
        for connection, process in self._processes.items():
            connection.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, tasks: Iterable[Any], workers: int) -> Iterator[Any]:
        remaining, at_work = iter(tasks), []
        for task in itertools.islice(remaining, workers):
            at_work.append(self._start())
            self._send(at_work[-1], _pickle(task))
        while at_work:
            for connection in wait(at_work):
                result = self._receive(connection)
                if (task := next(remaining, _END)) is _END:
                    at_work.remove(connection)
                else:
                    self._send(connection, _pickle(task))
                yield result

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", __name__, str(theirs.fileno()), str(self._alive)]
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), self._alive),
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
        )
        theirs.close()
        self._processes[ours] = process
        self._send(ours, self._job)
        return ours

    def _send(self, connection: Connection, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send_bytes(message)  # one that failed has left its reason in the pipe: it is read from there

    def _receive(self, connection: Connection) -> Any:
        try:
            kind, value = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise RuntimeError(_how_it_died(self._processes[connection].wait())) from None
        if kind == "result":
            return value
        error, trace = value
        if not is_user_error(error):
            error.add_note(f"in a worker process:\n{trace}")
        raise error


_END = object()


def _pickle(*values: Any) -> bytes:
    """The values as bytes; ValueError for what another process could not find."""
    for value in values:
        if getattr(value, "__module__", None) == "__main__":
            raise ValueError(f"{value!r} is defined in the main program: move it to a module, or use one worker")
    try:
        return pickle.dumps(values if len(values) > 1 else values[0], pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"cannot be handed to another process ({error}): use one worker") from None


def _how_it_died(code: int) -> str:
    if code == -signal.SIGKILL:
        return f"a worker process was killed (signal 9): probably memory ran out; use fewer (curation.workers=1), then run {same_command()} again"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"a worker process ended by itself ({how}): run {same_command()} again; finished work is kept"


def _serve(connection: Connection) -> None:
    """A worker's life: the job first, then a task and its result, until nobody sends any more."""
    try:
        make, shared = pickle.loads(connection.recv_bytes())
        work = make(shared)
    except EOFError:
        return
    except Exception as error:
        return _fail(connection, error)
    while True:
        try:
            task = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        try:
            message = pickle.dumps(("result", work(task)), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            return _fail(connection, error)
        connection.send_bytes(message)


def _fail(connection: Connection, error: Exception) -> None:
    trace = "".join(traceback.format_exception(error))
    try:
        message = pickle.dumps(("error", (error, trace)))
        pickle.loads(message)  # an error with a constructor of its own may not come back
    except Exception:
        message = pickle.dumps(("error", (RuntimeError(f"{type(error).__name__}: {error}"), trace)))
    connection.send_bytes(message)


def _end_with_the_parent(alive: int) -> None:
    os.read(alive, 1)  # nothing is ever written: it returns when the other end closes
    os._exit(1)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair, and it ends us
    connection, alive = Connection(int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_end_with_the_parent, args=(alive,), daemon=True).start()
    _serve(connection)


if __name__ == "__main__":
    main()
