"""What Triton's Python backend calls, with a stand-in for its module and for the engine."""

from __future__ import annotations

import importlib
import sys
import time
import types
import typing

import numpy as np
import pytest

from llm_workshop.serving.engine import BusyError, PromptTooLongError
from llm_workshop.serving.triton import interface
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.serving.triton.job import Job


class TritonError(Exception):
    UNAVAILABLE, INVALID_ARG, INTERNAL, CANCELLED = "unavailable", "invalid", "internal", "cancelled"

    def __init__(self, message, code=INTERNAL):
        super().__init__(message)
        self.message, self.code = message, code


class Tensor:
    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


class Response:
    def __init__(self, tensors, error=None):
        self.tensors, self.error = {tensor.name: tensor.array.item() for tensor in tensors}, error


class Metric:
    def __init__(self, labels, buckets=None):
        self.labels, self.value, self.observed = labels, 0, []

    def increment(self, value):
        assert value > 0
        self.value += value

    def set(self, value):
        self.value = value

    def observe(self, value):
        self.observed.append(value)


class OldFamily:
    """Of a server that knows no histograms."""

    COUNTER, GAUGE = "counter", "gauge"
    all: typing.ClassVar[dict] = {}

    def __init__(self, name, description, kind):
        self.metrics = OldFamily.all.setdefault(name, [])

    def Metric(self, labels, buckets=None):
        self.metrics.append(Metric(labels, buckets))
        return self.metrics[-1]


class NewFamily(OldFamily):
    HISTOGRAM = "histogram"


class Responder:
    def __init__(self):
        self.sent, self.gone, self.broken = [], False, False

    def send(self, response, flags=0):
        if self.broken:
            raise RuntimeError("the wire is cut")
        self.sent.append((response, flags))

    def is_cancelled(self):
        return self.gone


class Request:
    def __init__(self, request_id="", **values):
        values = {"text_input": "안녕"} | values
        self.tensors = {k: Tensor(k, np.array([v.encode() if isinstance(v, str) else v])) for k, v in values.items()}
        self.responder, self._id = Responder(), request_id

    def request_id(self):
        return self._id

    def get_response_sender(self):
        return self.responder


class Engine:
    """Does what the test says."""

    def __init__(self, changed):
        self.changed, self.jobs, self.cancelled, self.error = changed, [], [], None

    def submit(self, job):
        if self.error is not None:
            raise self.error
        job.n_prompt_tokens = 7
        self.jobs.append(job)

    def cancel(self, job):
        self.cancelled.append(job)
        if not job.state.done:
            job.finish("cancelled")
            self.changed(job)

    def counts(self):
        return {"running": len(self.jobs), "waiting": 0, "steps": 3}

    def close(self):
        pass


@pytest.fixture(params=[NewFamily, OldFamily], ids=["histograms", "none"])
def backend(request, monkeypatch, tmp_path):
    """(the instance, its engine)"""
    OldFamily.all = {}
    fake = types.ModuleType("triton_python_backend_utils")
    fake.TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
    fake.TritonError, fake.TritonModelException = TritonError, RuntimeError
    fake.Tensor, fake.InferenceResponse, fake.MetricFamily = Tensor, Response, request.param
    fake.get_input_tensor_by_name = lambda triton_request, name: triton_request.tensors.get(name)
    fake.get_model_dir = lambda: str(tmp_path)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake)
    monkeypatch.delitem(sys.modules, "llm_workshop.serving.triton.python_model", raising=False)
    module = importlib.import_module("llm_workshop.serving.triton.python_model")
    (tmp_path / "model.yaml").write_text(EngineSettings(tmp_path, response_interval_ms=0).to_yaml())
    monkeypatch.setattr(module, "load_engine", lambda settings, changed: Engine(changed))
    instance = module.TritonPythonModel()
    instance.initialize({"model_name": "tensorrt_llm", "model_instance_name": "tensorrt_llm_0_0"})
    yield instance, instance._engine
    instance.finalize()
    sys.modules.pop("llm_workshop.serving.triton.python_model", None)


def eventually(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def metric(name, **labels):
    return next(m for m in OldFamily.all[name] if labels.items() <= m.labels.items())


def test_responses_hold_what_was_asked_for(backend):
    instance, engine = backend
    request = Request(streaming=True, return_finish_reason=True, return_num_output_tokens=True, return_cumulative_logprob=True,
                      return_stop_reason=True, return_num_input_tokens=True, sampling_param_return_perf_metrics=True)  # fmt: skip
    instance.execute([request])
    (job,) = engine.jobs
    job.schedule()
    job.advance("가", 1, -0.5)
    engine.changed(job)
    eventually(lambda: len(request.responder.sent) == 1)
    job.advance("나", 1, -0.5)
    job.finish("stop", "다", "라")
    engine.changed(job)
    eventually(lambda: len(request.responder.sent) == 2)
    (first, flag), (last, final) = request.responder.sent
    assert first.tensors == {"text_output": "가".encode(), "num_output_tokens": 1, "num_input_tokens": 7, "cumulative_logprob": -0.5}
    assert (flag, final) == (0, 1)
    assert last.tensors["text_output"].decode() == "가나다" and last.tensors["num_output_tokens"] == 2
    assert (last.tensors["finish_reason"], last.tensors["stop_reason"]) == (b"stop", "라".encode())
    times = [last.tensors[f"{name}_ns"] for name in ("arrival_time", "first_scheduled_time", "first_token_time", "last_token_time")]
    assert times == sorted(times) and times[0] > 0
    assert set(last.tensors) <= {tensor.name for tensor in interface.OUTPUTS}


@pytest.mark.parametrize(("error", "code", "words", "outcome"), [
    (BusyError("try again later"), "unavailable", "busy: try again later", "busy"),
    (PromptTooLongError(300, 128), "invalid", "prompt too long: 300 tokens, at most 128", "invalid"),
    (ValueError("so nicht"), "invalid", "invalid request: so nicht", "invalid"),
    (KeyError("oh"), "internal", "KeyError: 'oh'", "error"),
])
def test_refusals_have_their_code_and_are_counted(backend, error, code, words, outcome):
    instance, engine = backend
    engine.error = error
    good, bad = Request(), Request(sampling_param_temperature=float("nan"))
    instance.execute([good])
    ((response, flag),) = good.responder.sent
    assert (response.error.code, response.error.message, flag) == (code, words, 1)
    instance.execute([bad])
    assert bad.responder.sent[0][0].error.code == "invalid" and "temperature=nan" in bad.responder.sent[0][0].error.message
    eventually(lambda: metric(interface.METRIC_REQUESTS, outcome=outcome).value == (2 if outcome == "invalid" else 1))
    assert not instance._live and not instance._of_id


def test_an_engine_that_breaks_down_is_an_internal_error(backend):
    instance, engine = backend
    request = Request(streaming=True)
    instance.execute([request])
    engine.jobs[0].fail("no memory")
    engine.changed(engine.jobs[0])
    eventually(lambda: request.responder.sent)
    response, flag = request.responder.sent[0]
    assert (response.error.code, response.error.message, flag) == ("internal", "no memory", 1)


def test_a_client_that_has_gone_is_cancelled(backend):
    instance, engine = backend
    stays, leaves, cut = Request(), Request(), Request(streaming=True)
    instance.execute([stays, leaves, cut])
    leaves.responder.gone = True
    eventually(lambda: engine.jobs[1] in engine.cancelled)
    cut.responder.broken = True
    engine.jobs[2].advance("가")
    engine.changed(engine.jobs[2])
    eventually(lambda: engine.jobs[2] in engine.cancelled)
    eventually(lambda: list(instance._live) == [engine.jobs[0]])
    assert engine.jobs[0] not in engine.cancelled


def test_a_stop_request_cancels_those_with_its_id(backend):
    instance, engine = backend
    mine, other, stop, nameless = Request("a"), Request("b"), Request("a", stop=True), Request(stop=True)
    instance.execute([mine, other, stop, nameless])
    assert engine.cancelled == [engine.jobs[0]]
    assert stop.responder.sent[0][0].error.code == "cancelled"
    assert nameless.responder.sent[0][0].error.code == "invalid" and "request id" in nameless.responder.sent[0][0].error.message
    eventually(lambda: mine.responder.sent and mine.responder.sent[-1][1] == 1)


def test_metrics_are_published(backend):
    instance, engine = backend
    requests = [Request(), Request()]
    instance.execute(requests)
    for job, n in zip(engine.jobs, (3, 5), strict=True):
        for _ in range(n):
            job.advance("가")
    eventually(lambda: metric(interface.METRIC_TOKENS).value == 8)  # while they run
    engine.jobs[0].finish("length")
    engine.changed(engine.jobs[0])
    eventually(lambda: metric(interface.METRIC_REQUESTS, outcome="length").value == 1)
    assert metric(interface.METRIC_TOKENS, model="tensorrt_llm", instance="tensorrt_llm_0_0").value == 8
    assert metric(interface.METRIC_PROMPT_TOKENS).value == 14 and metric(interface.METRIC_STEPS).value == 3
    assert metric(interface.METRIC_RUNNING).value == 2 and metric(interface.METRIC_WAITING).value == 0
    name = interface.METRIC_FIRST_TOKEN
    if name in OldFamily.all:
        eventually(lambda: len(metric(name).observed) == 1)
    else:
        eventually(lambda: metric(f"{name}_count").value == 1)
        assert metric(f"{name}_sum").value > 0


@pytest.mark.usefixtures("backend")
def test_a_model_that_cannot_be_loaded_is_named(monkeypatch):
    module = sys.modules["llm_workshop.serving.triton.python_model"]

    def fail(settings, changed):
        raise ValueError("no model at /x: make one")

    monkeypatch.setattr(module, "load_engine", fail)
    with pytest.raises(RuntimeError, match="model other: no model at /x: make one"):
        module.TritonPythonModel().initialize({"model_name": "other", "model_instance_name": "other_0_0"})


def test_job_states_are_replaced_as_a_whole():
    job = Job("", None)
    before = job.state
    job.advance("가")
    assert before.n_tokens == 0 and job.state.n_tokens == 1 and job.state is not before
