"""The naive server, as a peer to compare with: ``generate`` of transformers, one request after another.

First come, first served: a short question waits for the long answer before it.  That is what continuous batching
(scratch_service.py) is measured against, behind the same interface and with the same weights.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llm_workshop.serving.engine import BusyError, ModelInfo, Sampling
from llm_workshop.serving.scratch_prompts import ScratchPrompts
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.serving.triton.job import Job
from llm_workshop.serving.triton.model_folder import check_model_folder, model_info, resolved

if TYPE_CHECKING:
    from scratch_llm.tokenizers import ByteLevelBPE

log = logging.getLogger(__name__)


def load(settings: EngineSettings, changed: Callable[[Job], None]) -> TransformersService:
    """Load the model with transformers and write three tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    from scratch_llm.tokenizers import load_tokenizer

    check_model_folder(settings.model)
    settings = resolved(settings)
    if settings.weights != "same":
        raise ValueError(f"weights={settings.weights}: the engine transformers serves weights as stored, use weights=same")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    dtype = getattr(torch, settings.precision)
    model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=dtype, local_files_only=True).to(settings.device).eval()
    service = TransformersService(model, load_tokenizer(settings.model), settings, changed)
    service.start()
    return service


class TransformersService:
    """A ``ServedEngine`` (job.py) that answers one job at a time, in the order of their arrival."""

    def __init__(self, model: Any, tokenizer: ByteLevelBPE, settings: EngineSettings, changed: Callable[[Job], None]):
        context = model.config.max_position_embeddings
        self.model, self.tokenizer, self.settings, self.changed = model, tokenizer, settings, changed
        self.prompts = ScratchPrompts(model, tokenizer, min(context, settings.max_tokens or context))
        self._queue: deque[tuple[Job, list[int]]] = deque()
        self._running: Job | None = None
        self._cancelled: set[Job] = set()
        self._wake, self._closing, self._steps = threading.Condition(), False, 0
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)

    def info(self) -> ModelInfo:
        return model_info(self.settings)

    def start(self) -> None:
        warm = Job("가나다", Sampling(max_new_tokens=3, temperature=0))
        self._generate(warm, self.prompts.text_ids(warm.text, 3, allow_special=True), lambda job: None)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """See ServedEngine."""
        if job.sampling.frequency_penalty or job.sampling.presence_penalty:
            raise ValueError("frequency_penalty and presence_penalty are unknown to the engine transformers: leave them at 0")
        if job.wishes.cumulative_logprob:
            raise ValueError("return_cumulative_logprob is unknown to the engine transformers: leave it out")
        ids = self.prompts.text_ids(job.text, job.sampling.max_new_tokens, allow_special=True)
        if not ids:
            raise ValueError("text_input is empty and the model has no token to begin with: send a few words")
        with self._wake:
            if self._closing or len(self._queue) + (self._running is not None) > self.settings.max_waiting:
                raise BusyError(f"{self.settings.max_waiting} requests wait: try again later")
            job.n_prompt_tokens = len(ids)
            self._queue.append((job, ids))
            self._wake.notify()

    def cancel(self, job: Job) -> None:
        """See ServedEngine."""
        with self._wake:
            if job is self._running or any(job is waiting for waiting, _ in self._queue):
                self._cancelled.add(job)

    def counts(self) -> dict[str, int]:
        """See ServedEngine."""
        return {"running": int(self._running is not None), "waiting": len(self._queue), "steps": self._steps}

    def close(self) -> None:
        """See ServedEngine."""
        with self._wake:
            self._closing = True
            self._cancelled.update(job for job, _ in self._queue)
            if self._running is not None:
                self._cancelled.add(self._running)
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._queue or self._closing):
                    self._wake.wait()
                if not self._queue:
                    return
                self._running, ids = self._queue.popleft()
            job = self._running
            try:
                self._generate(job, ids, self.changed)
            except Exception as error:
                log.exception("an answer failed")
                job.fail(f"the engine failed while answering ({type(error).__name__}: {error}): send the request again")
            with self._wake:
                self._running = None
                self._cancelled.discard(job)
            self.changed(job)

    def _generate(self, job: Job, ids: list[int], changed: Callable[[Job], None]) -> None:
        """Answer one job; the last state is left for the caller to announce."""
        import torch

        if job in self._cancelled:
            job.finish("cancelled")
            return
        job.schedule()
        listener = _Listener(self, job, changed)
        wanted = min(job.sampling.max_new_tokens, self.prompts.context_length - len(ids))
        if job.sampling.seed is not None:
            torch.manual_seed(job.sampling.seed)
        tokens_1T = torch.tensor([ids], device=self.model.device)
        with torch.inference_mode():
            self.model.generate(
                tokens_1T,
                attention_mask=torch.ones_like(tokens_1T),
                stopping_criteria=[listener],
                max_new_tokens=wanted,
                **_options(job, self.prompts.stop_ids),
            )
        listener.finish()


class _Listener:
    """Asked by ``generate`` after every token whether to stop: makes text of it on the way."""

    def __init__(self, service: TransformersService, job: Job, changed: Callable[[Job], None]):
        from scratch_llm.generation import StopStringFilter
        from scratch_llm.tokenizers import StreamingDecoder

        self.service, self.job, self.changed = service, job, changed
        self.decoder = StreamingDecoder(service.tokenizer, skip_special=True)
        self.stops = StopStringFilter(job.sampling.stop)
        self.ended, self.cancelled = False, False

    def __call__(self, tokens_1T, scores, **_):
        import torch

        if not self.done:  # generate may ask once more after a yes
            self.service._steps += 1
            token = int(tokens_1T[0, -1])
            self.cancelled = self.job in self.service._cancelled
            self.ended = token in self.service.prompts.stop_ids
            if not (self.ended or self.cancelled):
                self.job.advance(self.stops.push(self.decoder.push(token)))
                self.changed(self.job)
        return torch.tensor([self.done], device=tokens_1T.device)

    @property
    def done(self) -> bool:
        return self.ended or self.cancelled or self.stops.stopped

    def finish(self) -> None:
        piece = self.stops.push(self.decoder.flush()) + self.stops.flush()
        reason = "cancelled" if self.cancelled else "stop" if self.ended or self.stops.stopped else "length"
        self.job.finish(reason, piece, self.stops.found)


def _options(job: Job, stop_ids: frozenset[int]) -> dict[str, Any]:
    """The job's wishes in the words of ``generate``."""
    sampling = job.sampling
    options: dict[str, Any] = {"do_sample": sampling.temperature >= 1e-5, "eos_token_id": sorted(stop_ids), "pad_token_id": 0}
    options["repetition_penalty"] = sampling.repetition_penalty
    if options["do_sample"]:
        options |= {"temperature": sampling.temperature, "top_k": sampling.top_k or 0, "top_p": sampling.top_p or 1.0}
        if sampling.min_p is not None:
            options["min_p"] = sampling.min_p
    return options
