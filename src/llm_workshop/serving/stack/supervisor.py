"""A run's serving stack as child processes of this one: brought up, kept up, and taken down.

    with Stack(settings, Artifacts(settings)) as stack:    # Triton, the endpoint and the page are ready
        print(stack.addresses)

Each part has a thread that watches it and starts it again (keeper.py). All of them end with this process, even by
SIGKILL (triton/guard.py). While the stack runs, artifacts/<run>/serving/service.json tells where.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llm_workshop.artifacts import git_commit
from llm_workshop.serving.stack.keeper import Keeper, Part
from llm_workshop.serving.stack.parts import make_part
from llm_workshop.serving.stack.ports import PARTS, check_ports, places
from llm_workshop.serving.stack.service import Service

if TYPE_CHECKING:
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.settings import Settings


def say(line: str) -> None:
    print(line, flush=True)


class Stack:
    """The parts ``only`` (default: all, without the page where serving.page is false), ready inside ``with``."""

    def __init__(
        self,
        settings: Settings,
        artifacts: Artifacts,
        only: Sequence[str] | None = None,
        say: Callable[[str], None] = say,
        make_part: Callable[[str, Settings, Artifacts], Part] = make_part,
    ):
        self.settings, self.artifacts = settings, artifacts
        self.names = tuple(only or [name for name in PARTS if name != "page" or settings.serving.page])
        if unknown := set(self.names) - set(PARTS):
            raise ValueError(f"unknown part {', '.join(sorted(unknown))}: the stack has {', '.join(PARTS)}")
        self.service = service_of(artifacts, only)
        self.keepers: list[Keeper] = []
        self._say, self._make_part = say, make_part
        self._wake, self._facts = threading.Event(), threading.Lock()
        self._held = contextlib.ExitStack()
        self._started, self._commit = "", git_commit()

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def addresses(self) -> dict[str, str]:
        return {keeper.part.name: keeper.part.address for keeper in self.keepers}

    def start(self) -> None:
        """Start every part and return when all are ready.

        Raises ValueError or OSError in one line for what a person can mend (a port in use, no model, a stack of this
        run that runs already), RuntimeError with the end of a log for a part that does not start.
        """
        self.artifacts.require(self.artifacts.served)
        self._held.enter_context(self.service.hold())
        try:
            check_ports(places(self.settings, self.names))
            self._started = datetime.now(UTC).isoformat(timespec="seconds")
            self.service.write(self._describe())
            for name in self.names:
                part = self._make_part(name, self.settings, self.artifacts)
                needs = [keeper for keeper in self.keepers if keeper.part.name == "triton"]
                restarts = self.settings.serving.restarts
                self.keepers.append(Keeper(part, needs, restarts, self._say, self._changed, self._wake.set))
            for keeper in self.keepers:
                keeper.start()
            while not all(keeper.ready.is_set() for keeper in self.keepers):
                self._wake.wait(0.1)  # a timeout lets Python run the handlers of signals
                self.check()
                if self._wake.is_set():
                    return  # told to stop while it starts
        except BaseException:
            self.stop()
            raise

    @property
    def stopped(self) -> bool:
        """Whether it was told to end."""
        return self._wake.is_set()

    def check(self) -> None:
        """Raise the error of a part that could not be kept running."""
        for keeper in self.keepers:
            if keeper.failure is not None:
                raise keeper.failure

    def wait(self) -> None:
        """Return when somebody calls ``wake``; raise if a part cannot be kept running."""
        while not self._wake.wait(1.0):
            pass
        self.check()

    def wake(self) -> None:
        """Make ``start`` or ``wait`` return, from a signal's handler or another thread."""
        self._wake.set()

    @contextlib.contextmanager
    def woken_by_signals(self) -> Iterator[None]:
        """SIGINT (Ctrl-C) and SIGTERM end ``wait`` inside the block, instead of this process. Main thread only."""
        previous = {s: signal.signal(s, lambda *_: self.wake()) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """End all parts, those that ask Triton before Triton; at most about 20 s. Does nothing where none runs."""
        atexit.unregister(self.stop)
        keepers, self.keepers = self.keepers, []
        for keeper in keepers:
            keeper.stopping.set()  # nothing is started again from now on
        for group in ([k for k in keepers if k.part.name != "triton"], [k for k in keepers if k.part.name == "triton"]):
            if group:
                with ThreadPoolExecutor(len(group)) as pool:
                    list(pool.map(Keeper.stop, group))
        self._held.close()

    def _changed(self, part: Part) -> None:
        # A program that ends without stop(), by an error in a notebook's cell say: this must come before the handlers
        # of the parts, whose end would look like a death.
        atexit.unregister(self.stop)
        atexit.register(self.stop)
        with self._facts:
            self.service.write(self._describe())

    def _describe(self) -> dict:
        parts = {
            keeper.part.name: {
                "address": keeper.part.address,
                "pid": keeper.part.pid,
                "log": str(keeper.part.log),
                "restarts": len(keeper.times),
                **{name: getattr(keeper.part, name) for name in ("grpc_address", "engine_pids") if hasattr(keeper.part, name)},
            }
            for keeper in self.keepers
        }
        return {"started": self._started, "commit": self._commit, "run": self.settings.run_name, "parts": parts}


def service_of(artifacts: Artifacts, only: Sequence[str] | None = None) -> Service:
    """The files of the run's stack, or of a stack of only these parts."""
    settings = artifacts.settings
    dials = f" --scale {settings.scale}" + ("" if settings.data == ("sample",) else f" --data {','.join(settings.data)}")
    return Service(artifacts.root / "serving", "-".join(only) if only else None, dials)
