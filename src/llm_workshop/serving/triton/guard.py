"""Runs one command and stops it when whoever started this ends, however that happens. Standard library only.

    python guard.py SECONDS FOLDER COMMAND...

Its standard input is a pipe whose other end the starter holds: the end of that pipe, or SIGTERM, means stop. The
command then gets SIGINT, and after SECONDS its whole process group, which is this one, is killed. A prctl death
signal would follow the thread that started the server, not the process, and an exit handler misses SIGKILL. FOLDER, the command's temporary files, is removed at the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading


def main() -> int:
    seconds, folder, command = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
    if os.getpgrp() != os.getpid():
        raise SystemExit("guard.py must lead its own process group: it kills the group")
    starter = os.getppid()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the starter, who then says stop
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_default_signals)

    def watch_the_pipe() -> None:
        while os.read(0, 4096):
            pass
        stop.set()

    def end() -> None:
        stop.wait()
        child.send_signal(signal.SIGINT)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            shutil.rmtree(folder, ignore_errors=True)
            os.killpg(0, signal.SIGKILL)

    for task in (watch_the_pipe, end):
        threading.Thread(target=task, daemon=True).start()
    while child.poll() is None:  # a short wait lets Python run the handler of SIGTERM
        try:
            child.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    shutil.rmtree(folder, ignore_errors=True)
    if os.getppid() != starter:  # nobody is left to end what the command may have left running
        os.killpg(0, signal.SIGKILL)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an ignored signal would stay ignored over exec


if __name__ == "__main__":
    sys.exit(main())
