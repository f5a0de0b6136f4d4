"""Work in several processes: results, errors, deaths, and no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from support.processes_work import bad_start, power, trouble

from llm_workshop.curation.processes import run_in_processes


def at_main(shared):
    return lambda task: task


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_done_once(workers):
    results = list(run_in_processes(power, 2, range(20), workers))
    assert sorted(value for value, _ in results) == [n * n for n in range(20)]
    processes = {process for _, process in results}
    assert processes == {os.getpid()} if workers == 1 else os.getpid() not in processes and len(processes) <= workers


def test_fewer_tasks_than_workers_and_none_at_all():
    assert [value for value, _ in run_in_processes(power, 3, [2], 4)] == [8]
    assert list(run_in_processes(power, 3, [], 4)) == []


def test_tasks_are_drawn_only_as_they_are_needed():
    drawn = []
    results = run_in_processes(power, 1, (drawn.append(n) or n for n in range(1000)), 2)
    next(results)
    assert len(drawn) <= 3
    results.close()


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("value", ValueError, "3 is not allowed: use 4"),
        ("disk", OSError, "No space left on device.*somewhere"),
        ("bug", RuntimeError, "NotPicklable: a bug"),
        ("kill", RuntimeError, "killed .*memory"),
    ],
)
def test_an_error_of_a_task_is_raised_here(kind, error, message):
    with pytest.raises(error, match=message):
        list(run_in_processes(trouble, kind, range(8), 2))


def test_an_error_at_the_start_is_raised_here():
    with pytest.raises(ValueError, match="no model at x: train it first"):
        list(run_in_processes(bad_start, "x", [1], 2))


def test_what_another_process_cannot_have_is_told(monkeypatch):
    monkeypatch.setattr(at_main, "__module__", "__main__")
    with pytest.raises(ValueError, match=r"main program.*one worker"):
        list(run_in_processes(at_main, None, [1], 2))
    with pytest.raises(ValueError, match=r"another process.*one worker"):
        list(run_in_processes(power, lambda: 1, [1], 2))
    with pytest.raises(ValueError, match="0 workers"):
        list(run_in_processes(power, 1, [1], 0))


def test_a_program_without_a_main_guard_may_use_it(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "from llm_workshop.curation.processes import run_in_processes\n"
        "from support.processes_work import power\n"
        "print(sorted(v for v, _ in run_in_processes(power, 2, range(4), 2)))\n"
    )
    path = os.pathsep.join(folder for folder in sys.path if folder)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=60)
    assert done.stdout == "once\n[0, 1, 4, 9]\n" and done.stderr == ""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    code = (
        "import pathlib, sys; from llm_workshop.curation.processes import run_in_processes\n"
        "from support.processes_work import sleep_and_tell\n"
        f"list(run_in_processes(sleep_and_tell, pathlib.Path({str(tmp_path)!r}), range(2), 2))"
    )
    path = os.pathsep.join(folder for folder in sys.path if folder)
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    workers = wait_for(lambda: [int(f.name.split("-")[1]) for f in tmp_path.iterdir()], 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: [pid for pid in workers if not is_running(pid)], 2)


def wait_for(look, number, seconds=20):
    end = time.monotonic() + seconds
    while len(found := look()) < number:
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return found


def is_running(pid):
    """Not gone, and no zombie that its new parent has not looked at."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
