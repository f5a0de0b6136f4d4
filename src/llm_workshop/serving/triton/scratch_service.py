"""The workshop's own model behind the server: one thread decodes a running batch that requests join and leave."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from llm_workshop.serving.engine import BusyError, ModelInfo, PromptTooLongError, Sampling
from llm_workshop.serving.scratch_prompts import ScratchPrompts, sampling_config
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.serving.triton.job import Job
from llm_workshop.serving.triton.model_folder import check_model_folder, model_info, resolved

if TYPE_CHECKING:
    from scratch_llm.generation import ContinuousBatch, Request
    from scratch_llm.models.base import LanguageModel
    from scratch_llm.tokenizers import ByteLevelBPE

log = logging.getLogger(__name__)


def load(settings: EngineSettings, changed: Callable[[Job], None]) -> ScratchService:
    """Load the model and decode a little, so that no request waits for the choice of kernels."""
    import torch

    from scratch_llm.models import load_model
    from scratch_llm.tokenizers import load_tokenizer

    check_model_folder(settings.model)
    settings = resolved(settings)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    model = load_model(settings.model, dtype=getattr(torch, settings.precision), device=settings.device)
    service = ScratchService(model, load_tokenizer(settings.model), settings, changed)
    service.warm_up()
    service.start()
    return service


class Answer:
    """A job in the batch: its tokens become text here."""

    def __init__(self, job: Job, request: Request, tokenizer: ByteLevelBPE):
        from scratch_llm.generation import StopStringFilter
        from scratch_llm.tokenizers import StreamingDecoder

        self.job, self.request = job, request
        self.decoder = StreamingDecoder(tokenizer, skip_special=True)
        self.stops = StopStringFilter(job.sampling.stop)
        self._logprob = 0.0

    def push(self, token: int) -> None:
        logprob, self._logprob = self.request.cumulative_logprob - self._logprob, self.request.cumulative_logprob
        self.job.advance(self.stops.push(self.decoder.push(token)), 1, logprob)

    def finish(self, reason) -> None:
        piece = self.stops.push(self.decoder.flush()) + self.stops.flush()
        self.job.finish("stop" if self.stops.stopped else reason, piece, self.stops.found)


class ScratchService:
    """A ``ServedEngine`` (job.py) around ``ContinuousBatch``.

    The thread that computes is the only one that touches the batch; ``submit`` and ``cancel`` leave word for it.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: ByteLevelBPE, settings: EngineSettings, changed: Callable[[Job], None]
    ):
        context = model.config.context_length
        self.model, self.tokenizer, self.settings, self.changed = model, tokenizer, settings, changed
        self.prompts = ScratchPrompts(model, tokenizer, min(context, settings.max_tokens or context))
        self.longest_token = max(map(len, [*tokenizer.ordinary_tokens(), *(t.encode() for t in tokenizer.special_tokens)]))
        self._batch: ContinuousBatch | None = self._new_batch()  # None: the last one broke down
        self._answers: dict[Request, Answer] = {}
        self._live: dict[Job, Request | None] = {}
        self._inbox: deque[tuple[Job, list[int] | None]] = deque()  # None: cancel it
        self._wake, self._closing, self._steps = threading.Condition(), False, 0
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)

    def info(self) -> ModelInfo:
        return model_info(self.settings)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job) -> None:
        """See ServedEngine."""
        ids = self._encode(job)
        with self._wake:
            room = self.settings.max_rows + self.settings.max_waiting
            if len(self._live) >= room:
                raise BusyError(
                    f"{self.settings.max_rows} requests are being answered and {self.settings.max_waiting} wait: try again later"
                )
            if self._closing:
                raise BusyError("the server is stopping")
            job.n_prompt_tokens = len(ids)
            self._live[job] = None
            self._inbox.append((job, ids))
            self._wake.notify()

    def cancel(self, job: Job) -> None:
        """See ServedEngine."""
        with self._wake:
            self._inbox.append((job, None))
            self._wake.notify()

    def counts(self) -> dict[str, int]:
        """See ServedEngine."""
        batch = self._batch
        running = 0 if batch is None else batch.n_active
        return {"running": running, "waiting": max(0, len(self._live) - running), "steps": self._steps}

    def close(self) -> None:
        """See ServedEngine."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def warm_up(self) -> None:
        """Decode with every number of rows that the batch will have, greedily and by chance."""
        batch, prompt = self._batch, [*self.prompts.beginning, *self.tokenizer.encode("가나다")]
        room = self.prompts.context_length - len(prompt)
        n_rows = 1
        while room > 0:
            for row in range(n_rows):
                sampling = Sampling(max_new_tokens=min(3, room), temperature=0.7 * (row % 2), top_p=0.9, seed=0)
                batch.submit(prompt, sampling_config(sampling), stop_ids=())
            while not batch.idle:
                batch.step()
            if n_rows >= self.settings.max_rows:
                break
            n_rows = min(2 * n_rows, self.settings.max_rows)

    def _encode(self, job: Job) -> list[int]:
        """The prompt's ids.  A text that is hopelessly long is refused by its bytes, without the work of cutting it up."""
        limit = self.prompts.limit(job.sampling.max_new_tokens)
        at_least = -(-len(job.text.encode("utf-8")) // self.longest_token)
        if at_least > limit:
            raise PromptTooLongError(at_least, limit)
        ids = self.prompts.text_ids(job.text, job.sampling.max_new_tokens, allow_special=True)
        if not ids:
            raise ValueError("text_input is empty and the model has no token to begin with: send a few words")
        return ids

    def _new_batch(self) -> ContinuousBatch:
        from scratch_llm.generation import ContinuousBatch

        settings = self.settings
        return ContinuousBatch(
            self.model,
            settings.max_rows,
            None if self.model.recurrent else self.prompts.context_length,
            max_waiting=settings.max_waiting,
            weights=settings.weights,
            n_ids=self.tokenizer.vocab_size,
        )

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._inbox or self._closing or self._has_work()):
                    self._wake.wait()
                if self._closing:
                    break
                inbox, self._inbox = self._inbox, deque()
            try:
                if self._batch is None:
                    self._batch = self._new_batch()
                self._take_in(inbox)
                self._step()
            except Exception as error:  # whatever it was, the next requests shall find a working engine
                log.exception("a decoding step failed")
                self._give_up(f"the engine failed while answering ({type(error).__name__}: {error}): send the request again")
        self._give_up("the server is stopping")

    def _has_work(self) -> bool:
        return self._batch is not None and not self._batch.idle

    def _take_in(self, inbox: Iterable[tuple[Job, list[int] | None]]) -> None:
        for job, ids in inbox:
            if ids is None:
                if (request := self._live.get(job)) is not None:
                    self._batch.cancel(request)
                continue
            # An answer that meets the end of the context ends there, with the reason "length".  A recurrent model could
            # go on, but memory is set aside for every token that was asked for.
            room = self.prompts.context_length - len(ids)
            sampling = dataclasses.replace(job.sampling, max_new_tokens=min(job.sampling.max_new_tokens, room))
            request = self._batch.submit(
                ids, sampling_config(sampling), self.prompts.stop_ids, sums_logprobs=job.wishes.cumulative_logprob
            )
            self._live[job], self._answers[request] = request, Answer(job, request, self.tokenizer)

    def _step(self) -> None:
        events = self._batch.step()
        self._steps += 1
        for request, token, reason in events:
            answer = self._answers.get(request)
            if answer is None:  # a stop string ended it before
                continue
            job = answer.job
            if token is not None:
                if not job.scheduled_ns:
                    job.schedule(request.admitted_at)
                answer.push(token)
                if answer.stops.stopped and reason is None:
                    self._batch.cancel(request)
                    reason = "stop"
            if reason is not None:
                answer.finish(reason)
                self._forget(job, request)
            self.changed(job)

    def _forget(self, job: Job, request: Request | None) -> None:
        self._answers.pop(request, None)
        with self._wake:
            del self._live[job]

    def _give_up(self, message: str) -> None:
        """Every job fails with ``message``; the batch, in no known state, is dropped, and made anew for the next request."""
        with self._wake:
            jobs = list(self._live)
            self._live.clear()
            self._inbox.clear()
        self._answers.clear()
        self._batch = None
        for job in jobs:
            job.fail(message)
            self.changed(job)
