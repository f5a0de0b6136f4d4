"""What a chat page or a terminal needs of a model, whatever runs it.

The protocol imports no torch: the same page talks to the scratch engine in this process and, through a
client, to engines in another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

Message = dict[str, str]
ROLES = ("system", "user", "assistant")
FinishReason = Literal["stop", "length", "cancelled"]


class BusyError(OSError):
    """Too many requests are waiting already: nothing was begun, so the same request may be sent again later."""


class EngineError(OSError):
    """The engine cannot be reached, or failed while answering; the message says what to do."""


class PromptTooLongError(ValueError):
    """The newest message alone does not fit the context; ``n_tokens`` of it against ``limit`` tokens."""

    def __init__(self, n_tokens: int, limit: int):
        super().__init__(f"the message has {n_tokens} tokens, at most {limit} fit the context: shorten it")
        self.n_tokens, self.limit = n_tokens, limit


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    ``temperature`` 0 is greedy.  ``top_k``, ``top_p`` (Holtzman et al., 2020) and ``min_p`` (Nguyen et al.,
    2024) are off at None.  ``repetition_penalty`` above 1 discourages tokens already seen (Keskar et al.,
    2019); ``frequency_penalty`` (times how often a token was written) and ``presence_penalty`` (once) are
    subtracted from the logits of tokens of the answer, as in OpenAI's interface.  ``stop`` texts end the
    answer and are not part of it.  ``seed`` None draws a fresh one.  Raises ValueError naming the value and
    what is allowed.
    """

    max_new_tokens: int = 160
    temperature: float = 0.7
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self):
        _check("max_new_tokens", self.max_new_tokens, 1, None, integer=True)
        _check("temperature", self.temperature, 0, 10)
        _check("top_k", self.top_k, 1, None, integer=True)
        _check("top_p", self.top_p, 0, 1, open_low=True)
        _check("min_p", self.min_p, 0, 1)
        _check("repetition_penalty", self.repetition_penalty, 0, 10, open_low=True)
        _check("frequency_penalty", self.frequency_penalty, -2, 2)
        _check("presence_penalty", self.presence_penalty, -2, 2)
        _check("seed", self.seed, 0, 2**63 - 1, integer=True)
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise ValueError(f"stop={self.stop!r}: use a tuple of texts, none of them empty")


@dataclass(frozen=True)
class ModelInfo:
    """What the page shows about a model; None where it is not known."""

    name: str
    architecture: str
    n_parameters: int
    context_length: int
    vocab_size: int
    supports_chat: bool
    bits_per_byte: float | None = None
    trained_on: str | None = None
    trained_tokens: int | None = None
    commit: str | None = None
    created: str | None = None
    artifact: str | None = None
    device: str | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Delta:
    """A piece of an answer: complete characters only, and how many tokens it took.

    ``finish_reason`` is set on the last piece: "stop" (the model ended its answer), "length" or "cancelled".
    ``dropped_messages`` of the first piece tells how many old messages no longer fitted the context.
    ``n_prompt_tokens`` and ``cumulative_logprob`` (of the answer so far) where the engine tells them.
    """

    text: str = ""
    n_tokens: int = 0
    finish_reason: FinishReason | None = None
    dropped_messages: int = 0
    n_prompt_tokens: int | None = None
    cumulative_logprob: float | None = None


@runtime_checkable
class ChatEngine(Protocol):
    """A model that answers.  Generators stop cleanly when closed; one runs at a time per engine."""

    def info(self) -> ModelInfo:
        """Facts about the model and the artifact it comes from."""

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        """Answer the last message of a conversation; raises PromptTooLongError before the first piece."""

    def complete(self, text: str, sampling: Sampling) -> Iterator[Delta]:
        """Go on writing after ``text``; raises PromptTooLongError before the first piece."""


def _check(name: str, value: float | None, low: float, high: float | None, integer=False, open_low=False) -> None:
    if value is None:
        return
    kinds = (int,) if integer else (int, float)
    sane = isinstance(value, kinds) and not isinstance(value, bool) and value == value
    if sane and (value > low if open_low else value >= low) and (high is None or value <= high):
        return
    bound = f"{'above' if open_low else 'at least'} {low}" + (f" and at most {high}" if high is not None else "")
    raise ValueError(f"{name}={value!r}: use {'a whole number' if integer else 'a number'} {bound}")
