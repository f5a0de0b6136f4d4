"""From tensors to a job, and from a job's states to responses."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from llm_workshop.serving.triton.inputs import DEFAULT_MAX_TOKENS, is_stop, read_job
from llm_workshop.serving.triton.job import Job, Wishes
from llm_workshop.serving.triton.sender import Sender


def tensors(**values):
    dtypes = {str: np.object_, int: np.int32, float: np.float32, bool: np.bool_, bytes: np.object_}
    return {
        name: np.array([value.encode() if isinstance(value, str) else value], dtype=dtypes[type(value)])
        for name, value in ({"text_input": "안녕"} | values).items()
    }


def sampling_of(**values):
    return read_job(tensors(**{f"sampling_param_{name}": value for name, value in values.items()})).sampling


def test_defaults_are_those_of_tensorrt_llm():
    job = read_job(tensors(), "id")
    assert (job.text, job.request_id, job.wishes) == ("안녕", "id", Wishes())
    assert job.sampling.max_new_tokens == DEFAULT_MAX_TOKENS and job.sampling.temperature == 0
    assert sampling_of(top_k=5).temperature == 1 and sampling_of(top_p=0.5).temperature == 1
    assert sampling_of(temperature=0.5, top_k=0).top_k is None
    assert sampling_of(top_p=0.0).temperature == 0 and sampling_of(temperature=0.0, top_k=3).temperature == 0


def test_every_wish_arrives():
    job = read_job(tensors(
        streaming=True, return_finish_reason=True, return_stop_reason=True, return_cumulative_logprob=True,
        return_num_input_tokens=True, return_num_output_tokens=True, sampling_param_return_perf_metrics=True,
        sampling_param_exclude_input_from_output=False, sampling_param_best_of=1, sampling_param_seed=3, sampling_param_min_p=0.25,
        sampling_param_repetition_penalty=1.5, sampling_param_frequency_penalty=-0.5, sampling_param_presence_penalty=0.5,
    ) | {"sampling_param_stop": np.array(["끝".encode(), b"\n"], dtype=np.object_)})  # fmt: skip
    assert job.wishes == Wishes(*[True] * 7, exclude_input=False)
    s = job.sampling
    assert (s.seed, s.min_p, s.repetition_penalty, s.frequency_penalty, s.presence_penalty, s.stop) == (3, 0.25, 1.5, -0.5, 0.5, ("끝", "\n"))
    assert is_stop(tensors(stop=True)) and not is_stop(tensors(stop=False)) and not is_stop(tensors())


@pytest.mark.parametrize(("values", "words"), [
    ({"sampling_param_temperature": float("nan")}, "sampling_param_temperature=nan: use a number"),
    ({"sampling_param_temperature": -1.0}, "temperature=-1.0: use a number at least 0"),
    ({"sampling_param_frequency_penalty": float("inf")}, "frequency_penalty=inf"),
    ({"sampling_param_presence_penalty": 3.0}, "presence_penalty=3.0.*at most 2"),
    ({"sampling_param_min_p": 1.5}, "min_p=1.5"),
    ({"sampling_param_top_k": -1}, "top_k=-1"),
    ({"sampling_param_repetition_penalty": 0.0}, "repetition_penalty=0.0.*above 0"),
    ({"sampling_param_max_tokens": -5}, "sampling_param_max_tokens=-5: use a whole number"),
    ({"sampling_param_best_of": 3}, "best_of=3: only 1"),
    ({"text_input": b"\xff\xfe"}, "text_input is not UTF-8 .byte 0"),
    ({"sampling_param_stop": b"\xed"}, "sampling_param_stop is not UTF-8"),
    ({"sampling_param_stop": ""}, "none of them empty"),
])
def test_what_is_not_allowed_is_named(values, words):
    with pytest.raises(ValueError, match=words):
        read_job(tensors(**values))


def test_one_text_and_one_number_in_a_tensor():
    with pytest.raises(ValueError, match="text_input has 2 texts"):
        read_job({"text_input": np.array([b"a", b"b"], dtype=np.object_)})
    with pytest.raises(ValueError, match="streaming has 2 values"):
        read_job(tensors() | {"streaming": np.array([True, False])})


class Wire:
    """Takes responses; slow if told so."""

    def __init__(self, seconds=0.0):
        self.seconds, self.got, self.ended = seconds, [], threading.Event()

    def __call__(self, job):
        state = job.state
        time.sleep(self.seconds)
        self.got.append((time.monotonic(), state))
        if state.done:
            self.ended.set()
        return state.done


def run(sender, job, n, pause=0.0):
    for number in range(n):
        job.advance(str(number % 10))
        sender.changed(job)
        time.sleep(pause)
    job.finish("length")
    sender.changed(job)


def streaming_job():
    job = read_job(tensors(streaming=True))
    return job


def test_a_slow_wire_skips_states_but_never_the_last():
    wire = Wire(seconds=0.05)
    sender, job = Sender(wire, 0.0), streaming_job()
    sender.start()
    run(sender, job, 300, pause=0.0005)
    assert wire.ended.wait(5)
    sender.close()
    states = [state for _, state in wire.got]
    assert 2 <= len(states) < 60 and states[-1].finish_reason == "length" and states[-1].n_tokens == 300
    assert [state.done for state in states].count(True) == 1
    assert all(b.text.startswith(a.text) for a, b in itertools.pairwise(states))


def test_the_interval_keeps_responses_apart_but_for_the_first_and_the_last():
    wire = Wire()
    sender, job = Sender(wire, 0.1), streaming_job()
    sender.start()
    started = time.monotonic()
    run(sender, job, 40, pause=0.01)
    assert wire.ended.wait(5)
    took = time.monotonic() - started
    sender.close()
    times = [at for at, _ in wire.got]
    assert times[0] - started < 0.09, "the first one goes at once"
    assert all(later - earlier > 0.09 for earlier, later in itertools.pairwise(times[:-1]))
    assert 3 <= len(times) <= took / 0.1 + 3


@pytest.mark.parametrize(("n_jobs", "milliseconds"), [(1, 20), (8, 160)])
def test_the_more_answers_stream_the_less_often_each_is_told_about(n_jobs, milliseconds):
    jobs, sent = [streaming_job() for _ in range(n_jobs)], []

    def send(job):
        sent.append((time.monotonic(), job))
        return job.state.done

    sender = Sender(send, 0.01, per_stream=0.02)
    sender.start()
    started = time.monotonic()
    while time.monotonic() - started < 0.5:
        for job in jobs:
            job.advance("가")
            sender.changed(job)
        time.sleep(0.002)
    took = time.monotonic() - started
    for job in jobs:
        job.finish("length")
        sender.changed(job)
    sender.close()
    for job in jobs:
        times = [at for at, its in sent if its is job]
        assert times[0] - started < 0.1, "the first one goes at once"
        # The first comes before all others stream, and so may the second.
        assert all(1000 * (later - earlier) > 0.9 * milliseconds for earlier, later in itertools.pairwise(times[2:-1]))
        assert len(times) <= 1000 * took / milliseconds + 4


def test_without_streaming_there_is_one_response():
    wire = Wire()
    sender, job = Sender(wire, 0.0), Job("", streaming_job().sampling)
    sender.start()
    run(sender, job, 20)
    assert wire.ended.wait(5)
    sender.close()
    assert len(wire.got) == 1 and wire.got[0][1].n_tokens == 20


def test_a_job_that_ends_while_its_turn_is_awaited_is_sent_once():
    wire = Wire()
    sender, job = Sender(wire, 0.2), streaming_job()
    sender.start()
    run(sender, job, 3)
    assert wire.ended.wait(0.15), "the end does not wait for its turn"
    time.sleep(0.3)
    sender.close()
    assert [state.done for _, state in wire.got].count(True) == 1 and wire.got[-1][1].done
