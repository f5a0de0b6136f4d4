"""Loading a model so that the thread which will decode gets all the cores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_own_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """``function(*arguments)`` in a thread that ends with it; its exceptions are raised here.

    OpenMP keeps a team of threads for each thread that ever computed.  With more of them than cores, those that wait
    sleep at once instead of spinning, and each product of a small decoding step pays for waking them: a model that was
    loaded and warmed up in the main thread and decodes in another took 5.0 ms a token instead of 2.4 (15M, 2 cores).
    The team of a thread that has ended is gone.
    """
    done: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(function(*arguments))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="load", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
