"""The served model as Triton's Python backend sees it: ``1/model.py`` of the repository imports this class.

Triton's threads call ``execute``, which returns at once (decoupled); the engine computes in its thread, ``Sender`` sends
in another, and a third looks for clients that have gone and publishes the metrics.

If this process is killed (measured with server 2.51): requests in flight hang for ever on the server's side, the server
and the model go on saying that they are ready, nothing starts the process again, and every new request fails after a
second with "Stub process 'NAME_0_0' is not healthy".  So whoever supervises the server must watch for the process itself,
or for that message, and restart the whole server; clients then get a broken connection at once.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
from collections import defaultdict
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from llm_workshop.serving.engine import BusyError, PromptTooLongError
from llm_workshop.serving.triton import interface
from llm_workshop.serving.triton.engine_settings import load_engine, read_model_yaml
from llm_workshop.serving.triton.inputs import is_stop, read_job
from llm_workshop.serving.triton.job import Job
from llm_workshop.serving.triton.metrics import Metrics
from llm_workshop.serving.triton.sender import Sender

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
CANCELLATION_SECONDS = 0.1
#: How long the threads that send and watch may keep the interpreter from the one that decodes (Python's own: 5 ms).
SWITCH_SECONDS = 0.0005
METRICS_ROUNDS = 3  # of them between two publications
INPUT_NAMES = tuple(tensor.name for tensor in interface.INPUTS)

log = logging.getLogger(__name__)


class TritonPythonModel:
    """One instance of the model: one process with one engine."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        """Take ``triton_config`` over from model.yaml, as TensorRT-LLM's llmapi model does."""
        _, triton_config = read_model_yaml(Path(pb_utils.get_model_dir()))
        auto_complete_model_config.set_model_transaction_policy({"decoupled": bool(triton_config["decoupled"])})
        auto_complete_model_config.set_max_batch_size(int(triton_config["max_batch_size"]))
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine; what a person can mend becomes one line of the server's log."""
        logging.basicConfig(stream=sys.stderr, level=logging.INFO)
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            settings, _ = read_model_yaml(Path(pb_utils.get_model_dir()))
            self._sender = Sender(self._send, settings.response_interval_ms / 1000, settings.response_ms_per_stream / 1000)
            self._engine = load_engine(settings, self._sender.changed)
        except (ValueError, OSError) as error:
            raise pb_utils.TritonModelException(f"model {args['model_name']}: {error}") from error
        self._metrics = Metrics(pb_utils, args["model_name"], args["model_instance_name"])
        self._live: dict[Job, None] = {}
        self._of_id: dict[str, set[Job]] = defaultdict(set)
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._sender.start()
        self._watcher.start()

    def execute(self, requests) -> None:
        for request in requests:
            responder = request.get_response_sender()
            try:
                self._accept(request, responder)
            except BusyError as error:
                self._metrics.refused("busy")
                _refuse(responder, f"{interface.BUSY}{error}", pb_utils.TritonError.UNAVAILABLE)
            except PromptTooLongError as error:
                self._metrics.refused("invalid")
                message = f"{interface.PROMPT_TOO_LONG}{error.n_tokens} tokens, at most {error.limit}"
                _refuse(responder, message, pb_utils.TritonError.INVALID_ARG)
            except ValueError as error:
                self._metrics.refused("invalid")
                _refuse(responder, f"{interface.INVALID}{error}", pb_utils.TritonError.INVALID_ARG)
            except Exception as error:  # one bad request must not take the others along
                log.exception("a request could not be taken in")
                self._metrics.refused("error")
                _refuse(responder, f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)

    def finalize(self) -> None:
        self._closing.set()
        self._engine.close()
        self._sender.close()
        self._watcher.join()

    def _accept(self, request, responder) -> None:
        tensors = {}
        for name in INPUT_NAMES:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is not None:
                tensors[name] = tensor.as_numpy()
        if is_stop(tensors):
            self._stop(request.request_id())
            # As in TensorRT-LLM's model, a request to stop is answered by this error.
            _refuse(responder, "Request cancelled by client", pb_utils.TritonError.CANCELLED)
            return
        job = read_job(tensors, request.request_id(), responder)
        with self._lock:
            self._live[job] = None
            self._of_id[job.request_id].add(job)
        self._metrics.accepted(job)
        try:
            self._engine.submit(job)
        except BaseException:
            self._metrics.withdrawn(job)
            self._forget(job)
            raise

    def _stop(self, request_id: str) -> None:
        if not request_id:
            raise ValueError("stop: a request id must say which request to cancel")
        with self._lock:
            jobs = list(self._of_id.get(request_id, ()))
        for job in jobs:
            self._engine.cancel(job)

    def _send(self, job: Job) -> bool:
        """One response with the job's state of now; whether it was the last."""
        state = job.state
        if state.done:
            self._forget(job)  # before the last response: see _cancel_the_gone
        try:
            job.responder.send(_response(job, state), FINAL if state.done else 0)
        except Exception:  # the client has gone, or the server stops
            log.exception("a response could not be sent")
            self._engine.cancel(job)
        if state.done:
            self._metrics.ended(job)
        return state.done

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._live.pop(job, None)
            jobs = self._of_id[job.request_id]
            jobs.discard(job)
            if not jobs:
                del self._of_id[job.request_id]

    def _watch(self) -> None:
        for number in itertools.count():
            if self._closing.wait(CANCELLATION_SECONDS):
                return
            try:
                self._cancel_the_gone()
                if number % METRICS_ROUNDS == 0:
                    self._metrics.publish(self._engine.counts())
            except Exception:  # a request may have ended in between; the next round shall come all the same
                log.exception("looking after the requests failed")

    def _cancel_the_gone(self) -> None:
        with self._lock:
            jobs = list(self._live)
        for job in jobs:
            with self._lock:  # Triton dies (SIGSEGV) if it is asked about a request whose last response was sent
                gone = job in self._live and job.responder.is_cancelled()
            if gone:
                self._engine.cancel(job)


def _response(job: Job, state) -> pb_utils.InferenceResponse:
    if state.error is not None:
        return pb_utils.InferenceResponse([], pb_utils.TritonError(state.error, pb_utils.TritonError.INTERNAL))
    wishes = job.wishes
    text = state.text if wishes.exclude_input else job.text + state.text
    tensors = [_text("text_output", text)]
    if wishes.num_output_tokens:
        tensors.append(_number("num_output_tokens", state.n_tokens, np.int32))
    if wishes.num_input_tokens:
        tensors.append(_number("num_input_tokens", job.n_prompt_tokens, np.int32))
    if wishes.cumulative_logprob:
        tensors.append(_number("cumulative_logprob", state.cumulative_logprob, np.float32))
    if state.done:
        if wishes.finish_reason:
            tensors.append(_text("finish_reason", state.finish_reason))
        if wishes.stop_reason:
            tensors.append(_text("stop_reason", str(state.stop_reason)))  # "None", as TensorRT-LLM's
        if wishes.perf_metrics:
            tensors.append(_number("arrival_time_ns", job.arrived_ns, np.int64))
            tensors.append(_number("first_scheduled_time_ns", job.scheduled_ns, np.int64))
            tensors.append(_number("first_token_time_ns", job.first_token_ns, np.int64))
            tensors.append(_number("last_token_time_ns", job.last_token_ns, np.int64))
    return pb_utils.InferenceResponse(tensors)


def _text(name: str, text: str) -> pb_utils.Tensor:
    return pb_utils.Tensor(name, np.array([text.encode("utf-8")], dtype=np.object_))


def _number(name: str, value: float, dtype) -> pb_utils.Tensor:
    return pb_utils.Tensor(name, np.array([value], dtype=dtype))


def _refuse(responder, message: str, code) -> None:
    error = pb_utils.TritonError(message, code)
    responder.send(pb_utils.InferenceResponse([], error), FINAL)
