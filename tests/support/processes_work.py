"""Work for worker processes: they import it by name."""

from __future__ import annotations

import os
import signal
import time


class NotPicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def power(exponent):
    return lambda number: (number**exponent, os.getpid())


def trouble(kind):
    def work(number):
        if number != 3:
            return number
        if kind == "value":
            raise ValueError("3 is not allowed: use 4")
        if kind == "disk":
            raise OSError(28, "No space left on device", "/somewhere")
        if kind == "bug":
            raise NotPicklable("a", "bug")
        os.kill(os.getpid(), signal.SIGKILL)

    return work


def bad_start(shared):
    raise ValueError(f"no model at {shared}: train it first")


def sleep_and_tell(folder):
    def work(number):
        (folder / f"{number}-{os.getpid()}").touch()
        time.sleep(60)

    return work
