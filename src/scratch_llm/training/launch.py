"""Start the processes of one training on this machine, and stop them all when one fails.

``torchrun`` does the same, and more: several machines, restarts.  This one starts faster and tells in one line why a
training ended; what it starts finds the variables that torchrun would set.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.distributed as dist

from scratch_llm.training.distributed import PARENT

_RANK = re.compile(r"^\[rank\d+\]: ?")  # torch puts it before what a rank writes about an exception
_GRACE_SECONDS = 3.0  # for the others, to see for themselves that one is missing


class LaunchError(OSError):
    """A process failed; the message says which one, and why."""


def launch(command: Sequence[str], n_processes: int, *, variables: Mapping[str, str] | None = None) -> None:
    """Run ``command`` in ``n_processes`` processes that find one another over this machine's loopback.

    Each has RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and so on, and its share of the cores (OMP_NUM_THREADS) unless
    ``variables`` or the environment say otherwise.  All may print; what they write to standard error is shown at the end.

    Raises:
        ValueError: fewer than one process.
        LaunchError: a process failed, and the others were ended.
        KeyboardInterrupt: Ctrl-C, after all have ended by themselves (a second one ends them at once).
    """
    if n_processes < 1:
        raise ValueError(f"the number of processes is {n_processes}: it must be at least 1")
    # The store lives here and not in rank 0, so that it outlives every rank, and its port is free for sure.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "WORLD_SIZE": str(n_processes), "LOCAL_WORLD_SIZE": str(n_processes), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True", PARENT: str(os.getpid()),
    }
    defaults = {
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // n_processes) if sys.platform == "linux" else 1),
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        processes = []
        stack.callback(_end, processes)
        errors = [Path(folder) / f"rank-{rank}" for rank in range(n_processes)]
        for rank, path in enumerate(errors):
            environment = {**defaults, **os.environ, **(variables or {}), **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            stream = stack.enter_context(open(path, "wb"))
            processes.append(subprocess.Popen(list(command), env=environment, stderr=stream))
        try:
            failed = _wait(processes)
        except KeyboardInterrupt:  # the terminal told them, too
            _wait_for_all(processes, 600.0)
            raise
        if failed:
            _wait_for_all(processes, _GRACE_SECONDS)
            raise LaunchError(_why(processes, errors))
        sys.stderr.write(errors[0].read_text(encoding="utf-8", errors="replace"))


def _wait(processes: Sequence[subprocess.Popen]) -> bool:
    """Until all have ended well (False) or one has failed (True)."""
    while True:
        codes = [process.poll() for process in processes]
        if any(codes):
            return True
        if None not in codes:
            return False
        time.sleep(0.05)


def _wait_for_all(processes: Sequence[subprocess.Popen], seconds: float) -> None:
    end = time.monotonic() + seconds
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))


def _end(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def _why(processes: Sequence[subprocess.Popen], errors: Sequence[Path]) -> str:
    """One line about the process that failed first: one that was killed, else one that did not fail because of another."""
    ended = [rank for rank, process in enumerate(processes) if process.poll()]
    texts = {rank: errors[rank].read_text(encoding="utf-8", errors="replace").strip() for rank in ended}
    guilty = min(ended, key=lambda rank: (processes[rank].returncode > 0, "RankLost" in texts[rank] or "stops: " in texts[rank]))
    code, text = processes[guilty].returncode, texts[guilty]
    if len(text.splitlines()) > 1:
        sys.stderr.write(text + "\n")
    how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"failed (exit code {code})"
    reason = f": {_RANK.sub('', text.splitlines()[-1]).removeprefix('error: ')}" if text and code > 0 else ""
    others = "" if len(processes) == 1 else "; the others were stopped"
    return f"process {guilty} of {len(processes)} {how}{others}{reason}"
