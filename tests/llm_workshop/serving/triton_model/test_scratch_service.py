"""The engine's loop without a server: joining, leaving, cancelling, being busy, breaking down."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from llm_workshop.serving.engine import BusyError, PromptTooLongError, Sampling
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.serving.triton.job import Job, Wishes
from llm_workshop.serving.triton.scratch_service import ScratchService
from scratch_llm.generation import ContinuousBatch, SamplingConfig, generate_tokens
from scratch_llm.models import LlamaConfig, LSTMConfig, build_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

CONTEXT = 256


@pytest.fixture(scope="module")
def tokenizer():
    return ByteLevelBPE.train(["바다는 푸르고 하늘은 높다 🌊 산에는 꽃이 피네 🌸"] * 20, 300, SPECIAL_TOKENS)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(2)
    return build_model(
        LlamaConfig(vocab_size=tokenizer.vocab_size, context_length=CONTEXT, n_layers=2, n_heads=2, n_kv_heads=1, d_model=32, d_ff=48)
    ).eval()


class Ends:
    """Collects jobs as they end; ``changed`` for a service."""

    def __init__(self):
        self.events = {}

    def __call__(self, job):
        if job.state.done:
            self.of(job).set()

    def of(self, job):
        return self.events.setdefault(job, threading.Event())

    def wait(self, *jobs):
        for job in jobs:
            assert self.of(job).wait(20), "the job did not end"


@pytest.fixture
def ends():
    return Ends()


@pytest.fixture
def service(model, tokenizer, ends, tmp_path):
    service = ScratchService(model, tokenizer, EngineSettings(tmp_path, max_rows=3, max_waiting=2), ends)
    service.warm_up()
    service.start()
    yield service
    service.close()


def job(text="바다는", wishes=None, **sampling):
    return Job(text, Sampling(**{"max_new_tokens": 20, "temperature": 0} | sampling), wishes or Wishes())


class Gate:
    """Holds every step of the service's batch until it is opened."""

    def __init__(self, service, monkeypatch):
        self.open = threading.Event()
        step = service._batch.step
        monkeypatch.setattr(service._batch, "step", lambda: self.open.wait(20) and step())


def test_each_job_gets_the_tokens_that_it_gets_alone(service, model, tokenizer, ends):
    jobs = [job(max_new_tokens=n, temperature=0.9 * (n % 2), seed=n, frequency_penalty=0.3 * (n % 3)) for n in (5, 40, 17)]
    for each in jobs:
        service.submit(each)
    ends.wait(*jobs)
    ids = [*service.prompts.beginning, *tokenizer.encode("바다는")]
    for each in jobs:
        s = each.sampling
        config = SamplingConfig(s.max_new_tokens, s.temperature, seed=s.seed, frequency_penalty=s.frequency_penalty)
        alone = generate_tokens(model, ids, config, stop_ids=service.prompts.stop_ids, n_ids=tokenizer.vocab_size)
        assert each.state.text == tokenizer.decode(alone, skip_special=True, errors="ignore")
        assert each.state.n_tokens == len(alone) and each.n_prompt_tokens == len(ids)
        assert each.state.finish_reason == ("length" if len(alone) == s.max_new_tokens else "stop")
        assert each.arrived_ns <= each.scheduled_ns <= each.first_token_ns <= each.last_token_ns


def test_the_log_probability_is_that_of_the_model(service, model, tokenizer, ends):
    one = job(wishes=Wishes(cumulative_logprob=True), max_new_tokens=6, repetition_penalty=1.3, temperature=0.5, seed=1)
    service.submit(one)
    ends.wait(one)
    ids = [*service.prompts.beginning, *tokenizer.encode("바다는")]
    config = SamplingConfig(6, 0.5, repetition_penalty=1.3, seed=1)
    new = generate_tokens(model, ids, config, stop_ids=service.prompts.stop_ids)
    with torch.inference_mode():
        logprobs_TV = model(torch.tensor([ids + new]))[0].log_softmax(-1)
    expected = sum(float(logprobs_TV[len(ids) - 1 + i, token]) for i, token in enumerate(new))
    assert one.state.cumulative_logprob == pytest.approx(expected, abs=1e-3) and expected < 0


def test_more_than_rows_and_waiting_places_is_busy_and_room_comes_back(service, ends, monkeypatch):
    gate = Gate(service, monkeypatch)
    jobs = [job() for _ in range(5)]
    for each in jobs:
        service.submit(each)
    with pytest.raises(BusyError, match="3 requests are being answered and 2 wait"):
        service.submit(job())
    gate.open.set()
    ends.wait(*jobs)
    again = job()
    service.submit(again)
    ends.wait(again)
    assert service.counts()["running"] == service.counts()["waiting"] == 0 and service.counts()["steps"] > 0


def test_cancelled_jobs_leave_whether_they_run_or_wait(service, ends, monkeypatch):
    gate = Gate(service, monkeypatch)
    jobs = [job(max_new_tokens=120) for _ in range(5)]
    for each in jobs:
        service.submit(each)
    for each in (jobs[0], jobs[4]):
        service.cancel(each)
    gate.open.set()
    ends.wait(*jobs)
    assert [each.state.finish_reason == "cancelled" for each in jobs] == [True, False, False, False, True]
    service.cancel(jobs[1])  # after its end
    service.cancel(job())  # never seen
    last = job()
    service.submit(last)
    ends.wait(last)
    assert last.state.finish_reason in ("stop", "length")


def test_a_stop_string_ends_the_answer_and_frees_the_row(service, ends):
    whole = job(max_new_tokens=100)
    service.submit(whole)
    ends.wait(whole)
    stop = whole.state.text[10:13]
    short = job(max_new_tokens=100, stop=(stop, "나오지 않는 말"))
    service.submit(short)
    ends.wait(short)
    assert short.state.text == whole.state.text[: whole.state.text.index(stop)]
    assert short.state.finish_reason == "stop" and short.state.stop_reason == stop and short.state.n_tokens < 100


def test_a_step_that_fails_takes_its_jobs_along_but_not_the_service(service, ends, monkeypatch):
    go_on = threading.Event()

    def step():
        go_on.wait(20)
        raise MemoryError("no memory left")

    monkeypatch.setattr(service._batch, "step", step)
    jobs = [job(), job()]
    for each in jobs:
        service.submit(each)
    go_on.set()
    ends.wait(*jobs)
    assert all("MemoryError: no memory left" in each.state.error for each in jobs)
    after = job()
    service.submit(after)
    ends.wait(after)
    assert after.state.error is None and after.state.n_tokens > 0 and isinstance(service._batch, ContinuousBatch)


def test_an_engine_that_cannot_be_mended_fails_each_request_and_tries_again(service, ends, monkeypatch):
    def no_memory():
        raise MemoryError("no memory left")

    monkeypatch.setattr(service, "_new_batch", no_memory)
    monkeypatch.setattr(service._batch, "step", no_memory)
    for _ in range(3):
        one = job()
        service.submit(one)
        ends.wait(one)
        assert "no memory left" in one.state.error and service.counts()["running"] == 0
    monkeypatch.undo()
    one = job()
    service.submit(one)
    ends.wait(one)
    assert one.state.n_tokens > 0


def test_a_recurrent_model_sets_no_memory_aside_for_millions_of_tokens(tokenizer, ends, tmp_path):
    config = LSTMConfig(vocab_size=tokenizer.vocab_size, context_length=64, n_layers=1, d_model=16, d_hidden=12)
    service = ScratchService(build_model(config).eval(), tokenizer, EngineSettings(tmp_path), ends)
    service.start()
    one = job(max_new_tokens=2**31 - 1, temperature=1.0, seed=0)
    service.submit(one)
    ends.wait(one)
    service.close()
    assert one.state.finish_reason in ("stop", "length") and one.state.n_tokens + one.n_prompt_tokens <= 64


def test_prompts_that_do_not_fit_are_refused_and_long_answers_end_with_the_context(service, ends, monkeypatch):
    with pytest.raises(PromptTooLongError) as error:
        service.submit(job("바다는 " * 300))
    assert error.value.limit == CONTEXT - 20 and error.value.n_tokens > error.value.limit
    monkeypatch.setattr(service.tokenizer, "encode", lambda *_, **__: pytest.fail("the text was cut up"))
    started = time.monotonic()
    with pytest.raises(PromptTooLongError):
        service.submit(job("가" * 3_000_000))
    assert time.monotonic() - started < 1
    monkeypatch.undo()
    long = job(max_new_tokens=10_000)
    service.submit(long)
    ends.wait(long)
    if long.state.finish_reason == "length":
        assert long.state.n_tokens + long.n_prompt_tokens == CONTEXT
    assert service.prompts.limit(10_000) == CONTEXT // 2


def test_special_tokens_in_the_text_count(service, tokenizer, ends):
    one = job("<|user|>\n바다<|end|>")
    service.submit(one)
    ends.wait(one)
    assert one.n_prompt_tokens == len(service.prompts.beginning) + len(tokenizer.encode("<|user|>\n바다<|end|>", allow_special=True))


def test_closing_fails_what_is_left(model, tokenizer, ends, tmp_path):
    service = ScratchService(model, tokenizer, EngineSettings(tmp_path), ends)
    service.start()
    one = job(max_new_tokens=200)
    service.submit(one)
    service.close()
    assert one.state.done
    with pytest.raises(BusyError, match="stopping"):
        service.submit(job())
