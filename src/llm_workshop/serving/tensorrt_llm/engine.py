"""TensorRT-LLM behind the server, by its LLM API on the PyTorch backend; tensorrt_llm is imported when a model is loaded.

It schedules and batches by itself (in-flight batching, paged KV cache), in processes of its own.  Here one thread runs
an asyncio loop, where each job is a task that follows its stream.  Prompts go in as ids and ids come back: text is cut
and joined by our tokenizer, so answers are read exactly as the scratch engine's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_workshop.serving.conversation import prompt_limit
from llm_workshop.serving.engine import BusyError, EngineError, ModelInfo, PromptTooLongError
from llm_workshop.serving.tensorrt_llm.arguments import llm_arguments, sampling_arguments
from llm_workshop.serving.tensorrt_llm.stamp import check_stamp, present
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.serving.triton.job import Job
from llm_workshop.serving.triton.model_folder import check_model_folder, model_info

if TYPE_CHECKING:
    from scratch_llm.tokenizers import ByteLevelBPE

log = logging.getLogger(__name__)
STOP_SECONDS = 20.0


def load(settings: EngineSettings, changed: Callable[[Job], None]) -> TensorRTLLMEngine:
    """Check the stamp, load the checkpoint and answer once; see job.py.

    Raises:
        ValueError: no TensorRT-LLM or GPU here, settings it does not have, a stamp that does not fit.
        EngineError: it could not load the checkpoint.
    """
    from scratch_llm.tokenizers import ByteLevelBPE

    check_model_folder(settings.model)
    here = present(Path(settings.model))
    check_stamp(Path(settings.model), here)
    settings = dataclasses.replace(settings, device="cuda")
    info = model_info(settings)
    arguments = llm_arguments(settings, info.context_length, here.tensorrt_llm, known_arguments())
    engine = TensorRTLLMEngine(arguments, ByteLevelBPE.load(settings.model), info, settings, changed)
    engine.start()
    return engine


def known_arguments() -> frozenset[str] | None:
    """The arguments of ``LLM`` in the installed version; None where it does not tell."""
    from tensorrt_llm import llmapi

    fields = getattr(getattr(llmapi, "TorchLlmArgs", None), "model_fields", None)
    return None if fields is None else frozenset(fields)


class TensorRTLLMEngine:
    """A ``ServedEngine`` (job.py) around ``tensorrt_llm.LLM``; ``arguments`` as ``llm_arguments`` makes them."""

    def __init__(
        self, arguments: dict[str, Any], tokenizer: ByteLevelBPE, info: ModelInfo, settings: EngineSettings,
        changed: Callable[[Job], None],
    ):  # fmt: skip
        self.arguments, self.tokenizer, self.settings, self.changed = arguments, tokenizer, settings, changed
        self._info = info
        self.context_length = arguments["max_seq_len"]
        self.stop_ids = frozenset(tokenizer.special_tokens.values())
        self.longest_token = max(map(len, [*tokenizer.ordinary_tokens(), *(t.encode() for t in tokenizer.special_tokens)]))
        self._tasks: dict[Job, asyncio.Task | None] = {}
        self._lock, self._closing, self._steps = threading.Lock(), False, 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="tensorrt_llm", daemon=True)
        self._llm: Any = None

    def info(self) -> ModelInfo:
        """See ServedEngine."""
        return self._info

    def start(self) -> None:
        """Load the model, start the loop, and write one token, so that a wrong checkpoint is found before any request."""
        from tensorrt_llm import LLM
        from tensorrt_llm.llmapi import KvCacheConfig

        arguments = self.arguments | {"kv_cache_config": KvCacheConfig(**self.arguments["kv_cache_config"])}
        try:
            self._llm = LLM(**arguments)
        except Exception as error:
            raise EngineError(f"TensorRT-LLM could not load {self.settings.model} ({type(error).__name__}: {error})") from error
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._warm_up(), self._loop).result()
        except Exception as error:
            self.close()
            raise EngineError(f"TensorRT-LLM loaded {self.settings.model} but cannot generate ({type(error).__name__}: {error})") from error

    def submit(self, job: Job) -> None:
        """See ServedEngine."""
        ids = self._encode(job)
        job.n_prompt_tokens = len(ids)
        with self._lock:
            if self._closing:
                raise BusyError("the server is stopping")
            if len(self._tasks) >= self.settings.max_rows + self.settings.max_waiting:
                raise BusyError(
                    f"{self.settings.max_rows} requests are being answered and {self.settings.max_waiting} wait: try again later"
                )
            self._tasks[job] = None
        self._loop.call_soon_threadsafe(self._begin, job, ids)

    def cancel(self, job: Job) -> None:
        """See ServedEngine."""
        self._loop.call_soon_threadsafe(self._cancel, job)

    def counts(self) -> dict[str, int]:
        """See ServedEngine.  TensorRT-LLM does not tell its own queue; what exceeds its rows must be waiting."""
        n = len(self._tasks)
        running = min(n, self.settings.max_rows)
        return {"running": running, "waiting": n - running, "steps": self._steps}

    def close(self) -> None:
        """See ServedEngine."""
        with self._lock:
            self._closing = True
            jobs = list(self._tasks)
        if self._thread.is_alive():
            for job in jobs:
                self.cancel(job)
            try:
                asyncio.run_coroutine_threadsafe(self._wait_for_all(), self._loop).result(STOP_SECONDS)
            except TimeoutError:
                log.warning("%d requests did not end within %.0f s", len(self._tasks), STOP_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if self._llm is not None:
            self._llm.shutdown()
            self._llm = None

    # ---------------------------------------------------------------- in the loop's thread

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _begin(self, job: Job, ids: list[int]) -> None:
        self._tasks[job] = task = self._loop.create_task(self._answer(job, ids))
        # Not at the end of the task itself: one that is cancelled before its first step never runs at all.
        task.add_done_callback(lambda _: self._ended(job))

    def _cancel(self, job: Job) -> None:
        if (task := self._tasks.get(job)) is not None:
            task.cancel()

    def _ended(self, job: Job) -> None:
        if not job.state.done:
            job.finish("cancelled")
        with self._lock:
            self._tasks.pop(job, None)
        self.changed(job)

    async def _answer(self, job: Job, ids: list[int]) -> None:
        """Follow one request to its end; whatever happens, the job is done afterwards."""
        output, answer = None, Answer(job, self.tokenizer)
        try:
            output = self._generate(job, ids)
            async for step in output:
                self._steps += 1
                if answer.take(step.outputs[0]):
                    break
                self.changed(job)
            if not job.state.done:
                job.fail("TensorRT-LLM ended the stream without a reason: send the request again")
        except asyncio.CancelledError:
            if not job.state.done:
                answer.finish("cancelled")
        except Exception as error:
            log.exception("a request failed")
            if not job.state.done:
                job.fail(f"the engine failed while answering ({type(error).__name__}: {error}): send the request again")
        finally:
            if output is not None and not output.finished:
                output.abort()

    def _generate(self, job: Job, ids: list[int]) -> Any:
        from tensorrt_llm import SamplingParams

        room = self.context_length - len(ids)
        values = sampling_arguments(
            job.sampling, room, self.tokenizer.eos_id, self.stop_ids, logprobs=job.wishes.cumulative_logprob
        )
        job.schedule()
        return self._llm.generate_async(ids, SamplingParams(**values), streaming=True)

    async def _warm_up(self) -> None:
        from tensorrt_llm import SamplingParams

        values = {"max_tokens": 1, "end_id": self.tokenizer.eos_id, "pad_id": self.tokenizer.eos_id, "detokenize": False, "top_k": 1}
        async for _ in self._llm.generate_async([self.tokenizer.eos_id], SamplingParams(**values), streaming=True):
            pass

    async def _wait_for_all(self) -> None:
        tasks = [task for task in self._tasks.values() if task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---------------------------------------------------------------- in the callers' threads

    def _encode(self, job: Job) -> list[int]:
        """Ids of the prompt, begun as training documents are; a hopelessly long text is refused by its bytes alone."""
        limit = prompt_limit(self.context_length, job.sampling.max_new_tokens)
        at_least = -(-len(job.text.encode("utf-8")) // self.longest_token)
        if at_least > limit:
            raise PromptTooLongError(at_least, limit)
        ids = [self.tokenizer.eos_id, *self.tokenizer.encode(job.text, allow_special=True)]
        if len(ids) > limit:
            raise PromptTooLongError(len(ids), limit)
        return ids


class Answer:
    """A job whose tokens become text: whole characters only, and nothing of a stop string."""

    def __init__(self, job: Job, tokenizer: ByteLevelBPE):
        from scratch_llm.generation import StopStringFilter
        from scratch_llm.tokenizers import StreamingDecoder

        self.job, self.special = job, frozenset(tokenizer.special_tokens.values())
        self.decoder = StreamingDecoder(tokenizer, skip_special=True)
        self.stops = StopStringFilter(job.sampling.stop)
        self.n_seen, self.logprob = 0, 0.0

    def take(self, output: Any) -> bool:
        """The new tokens of a CompletionOutput (its ``token_ids`` are all so far); whether the answer is complete."""
        new, self.n_seen = list(output.token_ids[self.n_seen :]), len(output.token_ids)
        if new and new[-1] in self.special:
            new.pop()  # the token that ended the answer is not part of it
        pieces = []
        for token in new:
            pieces.append(self.stops.push(self.decoder.push(token)))
            if self.stops.stopped:
                break
        logprob = output.cumulative_logprob or 0.0
        if pieces:
            self.job.advance("".join(pieces), len(pieces), logprob - self.logprob)
            self.logprob = logprob
        if self.stops.stopped:
            self.finish("stop")
        elif output.finish_reason == "timeout":
            self.job.fail("TensorRT-LLM gave up over the request (timeout): send it again")
        elif output.finish_reason is not None:
            self.finish(output.finish_reason)
        return self.job.state.done

    def finish(self, reason: Any) -> None:
        """End the job with what was held back."""
        piece = "" if self.stops.stopped else self.stops.push(self.decoder.flush()) + self.stops.flush()
        self.job.finish("stop" if self.stops.stopped else reason, piece, self.stops.found)
