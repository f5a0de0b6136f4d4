"""Continuous batching: requests join and leave a running batch at any step (Yu et al. 2022, Orca, section 3).

A decoding step reads all weights for however few rows, so eight requests together cost little more than one.  Waiting
until a batch is full, or until its longest answer ends, would waste that; here a free row is filled at the next step, and
its prompt goes through the model beside the others' tokens (``layers/side_by_side.py``).

    batch = ContinuousBatch(model)
    request = batch.submit(prompt_ids, SamplingConfig(max_new_tokens=100))
    while not batch.idle:
        for request, token, finish_reason in batch.step():
            ...

One thread at a time may use it: a server gives it a worker thread of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from scratch_llm.generation.packing import Weights
from scratch_llm.generation.running_rows import RunningRows
from scratch_llm.generation.sampling import Sampler, SamplingConfig, sample_rows
from scratch_llm.generation.tokens import as_rows, eos_ids, is_one_prompt
from scratch_llm.models.base import LanguageModel

FinishReason = Literal["stop", "length", "cancelled"]


class QueueFullError(ValueError):
    """No room for another waiting request: try again later."""


@dataclass(eq=False)
class Request:
    """A prompt and its answer so far.  Times are those of ``time.perf_counter``; None: not yet."""

    prompt: list[int]
    sampling: SamplingConfig
    stop_ids: frozenset[int]
    tokens: list[int] = field(default_factory=list)
    """The answer, without the token that stopped it."""
    sums_logprobs: bool = False
    cumulative_logprob: float = 0.0
    """Where ``sums_logprobs``: of the answer's tokens by the model itself, before penalties and temperature."""
    finish_reason: FinishReason | None = None
    submitted_at: float = field(default_factory=time.perf_counter)
    admitted_at: float | None = None
    first_token_at: float | None = None
    finished_at: float | None = None

    @property
    def queue_seconds(self) -> float:
        """Time spent waiting for a row."""
        end = self.admitted_at or self.finished_at or time.perf_counter()
        return end - self.submitted_at


Event = tuple[Request, int | None, FinishReason | None]
"""A request, its new token (None: none), and why it ended (None: it goes on)."""


class ContinuousBatch:
    """Answers many requests in one running batch; each gets the tokens that ``generate_tokens`` gives it alone.

    Attributes:
        tokens_made: of all requests so far.
        requests_done: finished for whatever reason.
    """

    def __init__(
        self,
        model: LanguageModel,
        max_rows: int = 8,
        max_tokens: int | None = None,
        *,
        max_waiting: int = 64,
        max_prefill_tokens: int = 512,
        weights: Weights = "same",
        n_ids: int | None = None,
    ):
        """Takes the weights as they are now, and puts the model into evaluation mode.

        Args:
            max_rows: requests decoded at the same time.
            max_tokens: of a prompt and its answer together; None: the context, or no limit for a recurrent model.
            max_waiting: requests that may wait for a row.
            max_prefill_tokens: of the prompts computed in one step, beyond the first, so that running answers do not stall.
            weights, n_ids: as in ``TokenStream``.
        """
        for name, value, least in (
            ("max_rows", max_rows, 1),
            ("max_waiting", max_waiting, 0),
            ("max_prefill_tokens", max_prefill_tokens, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of at least {least}")
        self.max_tokens = _token_limit(model, max_tokens)
        self.max_waiting, self.max_prefill_tokens = max_waiting, max_prefill_tokens
        self.model = model.eval()
        self.n_ids = model.config.vocab_size if n_ids is None else n_ids
        self.tokens_made = self.requests_done = 0
        slots = None if model.recurrent else self.max_tokens
        self._rows = RunningRows(model, max_rows, slots, weights)
        self._waiting: deque[Request] = deque()
        self._samplers: dict[Request, Sampler] = {}
        self._cancelled: list[Event] = []

    @property
    def n_active(self) -> int:
        """Requests being answered."""
        return len(self._samplers)

    @property
    def n_waiting(self) -> int:
        """Requests without a row."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether ``step`` has nothing to do or to tell."""
        return not (self._samplers or self._waiting or self._cancelled)

    def submit(
        self,
        prompt_ids: Sequence[int] | Tensor,
        sampling: SamplingConfig | None = None,
        stop_ids: Collection[int] | None = None,
        *,
        sums_logprobs: bool = False,
    ) -> Request:
        """Put a request into the queue; ``step`` does the work.

        Stop strings of ``sampling`` are for those who see text: they cancel.  ``stop_ids`` None: the configuration's
        eos_token_id.  ``sums_logprobs``: count up ``Request.cumulative_logprob``.  ValueError: a prompt that is
        empty, has ids out of the vocabulary or is too long for its answer; ``QueueFullError``: too many requests wait.
        """
        sampling = sampling or SamplingConfig()
        if not is_one_prompt(prompt_ids):
            raise ValueError(
                "a request is one prompt, a row of token ids: submit each row of a batch by itself"
            )
        if hasattr(prompt_ids, "tolist"):
            prompt_ids = prompt_ids.tolist()
        wrong = next((token for token in prompt_ids if not isinstance(token, Integral)), None)
        if wrong is not None:
            raise ValueError(f"token id {wrong!r} is no whole number: give the ids that the tokenizer gives")
        (prompt,) = as_rows(prompt_ids, self.model.config, recurrent=True)
        total = len(prompt) + sampling.max_new_tokens
        if self.max_tokens is not None and total > self.max_tokens:
            raise ValueError(
                f"{len(prompt)} tokens of prompt and max_new_tokens of {sampling.max_new_tokens} are {total}, more than "
                f"the {self.max_tokens} of a request here: shorten the prompt or lower max_new_tokens"
            )
        if len(self._waiting) >= self.max_waiting + self._rows.max_rows - self.n_active:
            raise QueueFullError(
                f"{self.n_active} requests are being answered and {len(self._waiting)} wait, of which max_waiting allows "
                f"{self.max_waiting}: try again later"
            )
        stops = eos_ids(self.model.config) if stop_ids is None else stop_ids
        request = Request(prompt, sampling, frozenset(stops), sums_logprobs=sums_logprobs)
        self._waiting.append(request)
        return request

    def cancel(self, request: Request) -> None:
        """End a request now; the next ``step`` tells of it.  One that has ended stays as it is."""
        if request.finish_reason is not None:
            return
        if request in self._samplers:
            self._leave(request)
        elif request in self._waiting:
            self._waiting.remove(request)
        else:
            raise ValueError("this request was submitted to another batch: cancel it there")
        self._finish(request, "cancelled")
        self._cancelled.append((request, None, "cancelled"))

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One more token for every running request and the first one for those that now get a row.

        After an exception (no memory left) the rows are in no known state: make another batch.
        """
        events, self._cancelled = self._cancelled, []
        tokens = {request: request.tokens[-1] for request in self._samplers}
        admitted, now = self._admit(), time.perf_counter()
        for request in admitted:
            request.admitted_at = now
            self._samplers[request] = Sampler(
                request.sampling, [request.prompt], self.n_ids, self.model.device
            )
        if self._samplers:
            prompts = {request: request.prompt for request in admitted}
            events += self._sample(*self._rows.step(tokens, prompts))
        return events

    def _admit(self) -> list[Request]:
        """Of those that wait, the first for whom there are rows, within ``max_prefill_tokens`` (but at least one)."""
        admitted: list[Request] = []
        n_left = self.max_prefill_tokens
        while self._waiting and self.n_active + len(admitted) < self._rows.max_rows:
            n_left -= len(self._waiting[0].prompt)
            if admitted and n_left < 0:
                break
            admitted.append(self._waiting.popleft())
        return admitted

    def _sample(self, requests: list[Request], logits_BV: Tensor) -> list[Event]:
        """The next token of each request, and the end of those that end with it."""
        samplers = [self._samplers[request] for request in requests]
        logits_BV = logits_BV[:, : self.n_ids]
        tokens_B = sample_rows(samplers, logits_BV)
        if any(request.sums_logprobs for request in requests):
            self._sum_logprobs(requests, logits_BV, tokens_B)
        tokens = tokens_B.tolist()
        now = time.perf_counter()
        events: list[Event] = []
        for request, token in zip(requests, tokens):
            reason: FinishReason | None = None
            if token in request.stop_ids:
                token, reason = None, "stop"
            else:
                request.tokens.append(token)
                request.first_token_at = request.first_token_at or now
                self.tokens_made += 1
                if len(request.tokens) == request.sampling.max_new_tokens:
                    reason = "length"
            if reason is not None:
                self._leave(request)
                self._finish(request, reason)
            events.append((request, token, reason))
        return events

    def _sum_logprobs(self, requests: list[Request], logits_BV: Tensor, tokens_B: Tensor) -> None:
        """Add the log probability of each request's token, unless it only ends the answer."""
        logits_BV = logits_BV.float()
        logprobs_B = logits_BV.gather(1, tokens_B[:, None])[:, 0] - logits_BV.logsumexp(dim=-1)
        for request, token, logprob in zip(requests, tokens_B.tolist(), logprobs_B.tolist()):
            if request.sums_logprobs and token not in request.stop_ids:
                request.cumulative_logprob += logprob

    def _leave(self, request: Request) -> None:
        del self._samplers[request]
        self._rows.remove(request)

    def _finish(self, request: Request, reason: FinishReason) -> None:
        request.finish_reason, request.finished_at = reason, time.perf_counter()
        self.requests_done += 1


def _token_limit(model: LanguageModel, max_tokens: int | None) -> int | None:
    """``max_tokens``, checked; by default the context of a model that has one."""
    most = None if model.recurrent else model.config.context_length
    if max_tokens is None:
        return most
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 2:
        raise ValueError(f"max_tokens is {max_tokens!r}: it must be a whole number of at least 2, or None")
    if most is not None and max_tokens > most:
        raise ValueError(f"max_tokens is {max_tokens}: it must be at most the model's context_length, {most}")
    return max_tokens
