"""A request inside the served model, and what an engine has to offer to answer it.

The contract of an engine module (``ENGINES`` in engine_settings.py names them) is one function,

    def load(settings: EngineSettings, changed: Callable[[Job], None]) -> ServedEngine

It returns when the engine is warm, or raises ValueError or OSError with the cure.  The engine computes in threads of its
own; after each ``job.advance``, ``job.finish`` or ``job.fail`` it calls ``changed(job)``, from any thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from llm_workshop.serving.engine import FinishReason, ModelInfo, Sampling


class State(NamedTuple):
    """An answer at one moment.  ``text``: complete characters only, no part of a stop string."""

    text: str = ""
    n_tokens: int = 0
    cumulative_logprob: float = 0.0
    finish_reason: FinishReason | None = None
    stop_reason: str | None = None
    error: str | None = None

    @property
    def done(self) -> bool:
        return self.finish_reason is not None or self.error is not None


@dataclass(frozen=True)
class Wishes:
    """What the responses of a request shall hold beside the text."""

    streaming: bool = False
    finish_reason: bool = False
    stop_reason: bool = False
    cumulative_logprob: bool = False
    num_input_tokens: bool = False
    num_output_tokens: bool = False
    perf_metrics: bool = False
    exclude_input: bool = True


@dataclass(eq=False)
class Job:
    """One request and its answer so far.

    One thread, the engine's, changes it; others read ``state``, which is replaced as a whole and so never half new.
    Times are of ``time.monotonic_ns``, 0 where it has not come to that.
    """

    text: str
    sampling: Sampling
    wishes: Wishes = Wishes()
    request_id: str = ""
    responder: Any = None
    """The server's response sender; engines leave it alone."""
    n_prompt_tokens: int = 0
    """Set by the engine in ``submit``."""
    state: State = field(default_factory=State)
    arrived_ns: int = field(default_factory=time.monotonic_ns)
    scheduled_ns: int = 0
    first_token_ns: int = 0
    last_token_ns: int = 0

    def schedule(self, at: float | None = None) -> None:
        """The engine begins with it, or did so ``at`` that second of the monotonic clock."""
        self.scheduled_ns = time.monotonic_ns() if at is None else int(at * 1e9)

    def advance(self, piece: str, n_tokens: int = 1, logprob: float = 0.0) -> None:
        """The answer grew by ``piece`` (which may be empty: half a character) and ``n_tokens``."""
        now, old = time.monotonic_ns(), self.state
        self.first_token_ns = self.first_token_ns or now
        self.last_token_ns = now
        self.state = State(old.text + piece, old.n_tokens + n_tokens, old.cumulative_logprob + logprob)

    def finish(self, reason: FinishReason, piece: str = "", stop_reason: str | None = None) -> None:
        """The answer is complete; ``piece`` was held back until now."""
        old = self.state
        self.state = old._replace(text=old.text + piece, finish_reason=reason, stop_reason=stop_reason)

    def fail(self, message: str) -> None:
        """The engine broke down over it."""
        self.state = self.state._replace(error=message)


class ServedEngine(Protocol):
    """An engine behind the server.  ``submit`` and ``cancel`` are called from other threads than its own, and return at once."""

    def info(self) -> ModelInfo:
        """Facts about the model that is loaded."""

    def submit(self, job: Job) -> None:
        """Take a job in, with ``n_prompt_tokens`` set; raises PromptTooLongError, BusyError, or ValueError with the reason."""

    def cancel(self, job: Job) -> None:
        """End a job soon, with the finish reason "cancelled"; one that has ended stays as it is."""

    def counts(self) -> dict[str, int]:
        """Now ``running`` and ``waiting`` jobs, and ``steps`` since the start."""

    def close(self) -> None:
        """End the threads; jobs that run are cancelled."""
