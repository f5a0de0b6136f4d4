"""The TensorRT-LLM engine on a stand-in for the package that is as strict as its signatures."""

from __future__ import annotations

import json
import shutil
import sys
from itertools import pairwise

import pytest

from llm_workshop.serving.engine import BusyError, EngineError, PromptTooLongError, Sampling
from llm_workshop.serving.tensorrt_llm import engine as engine_module
from llm_workshop.serving.tensorrt_llm.stamp import StampError, present, write_stamp
from llm_workshop.serving.triton.engine_settings import EngineSettings, load_engine
from llm_workshop.serving.triton.job import Job, ServedEngine, Wishes
from scratch_llm.generation import SamplingConfig, generate_tokens
from scratch_llm.models import load_model
from scratch_llm.tokenizers import ByteLevelBPE, StreamingDecoder

from .conftest import Harness


def expected(folder, text, **sampling):
    """What our own generator writes: the same rule for the beginning and the end."""
    tokenizer = ByteLevelBPE.load(folder)
    ids = [tokenizer.eos_id, *tokenizer.encode(text)]
    config = SamplingConfig(**{"max_new_tokens": 12, "temperature": 0} | sampling)
    [new] = generate_tokens(load_model(folder).eval(), [ids], config, stop_ids=tokenizer.special_tokens.ids)
    decoder = StreamingDecoder(tokenizer, skip_special=True)
    return "".join(map(decoder.push, new)) + decoder.flush(), len(ids), len(new)


def test_an_answer_is_our_models_answer_and_grows_step_by_step(start, folder):
    harness = start()
    job = harness.submit("고양이가 ")
    state = harness.wait(job)
    text, n_prompt, n_new = expected(folder, "고양이가 ")
    assert state.text == text and state.n_tokens == n_new and job.n_prompt_tokens == n_prompt
    texts = [seen.text for seen in harness.states[job]]
    assert len(texts) > 3 and all(after.startswith(before) for before, after in pairwise(texts))
    assert not any("�" in seen.text for seen in harness.states[job]), "only whole characters on the way"
    assert job.arrived_ns <= job.scheduled_ns <= job.first_token_ns <= job.last_token_ns
    assert harness.engine.counts()["running"] == 0 and harness.engine.counts()["steps"] >= n_new


def test_the_engine_is_loaded_by_its_name_and_keeps_the_contract(start, folder, fake):
    harness = start()
    assert isinstance(harness.engine, engine_module.TensorRTLLMEngine)
    for name in ("info", "submit", "cancel", "counts", "close"):
        assert callable(getattr(harness.engine, name)) and hasattr(ServedEngine, name)
    assert harness.engine.info().device == "CUDA" and harness.engine.info().context_length == 64
    again = load_engine(harness.settings, lambda job: None)
    again.close()
    assert fake.instances[-1].closed


def test_sampling_reaches_the_engine(start, folder, fake):
    harness = start()
    state = harness.wait(harness.submit("안녕", temperature=0.8, top_k=20, top_p=0.9, seed=7))
    text, _, _ = expected(folder, "안녕", temperature=0.8, top_k=20, top_p=0.9, seed=7)
    assert state.text == text
    values = fake.instances[-1].requests[-1]._params._values
    assert values["stop_token_ids"] == sorted(harness.engine.stop_ids) and values["detokenize"] is False


def test_length_and_end_are_told_apart(start, folder, fake, monkeypatch):
    harness = start()
    assert harness.wait(harness.submit(max_new_tokens=5)).finish_reason == "length"
    ids = ByteLevelBPE.load(folder).encode("네!")
    end = ByteLevelBPE.load(folder).special_tokens["<|end|>"]
    monkeypatch.setattr(fake, "tokens", lambda self, prompt, values: iter([*ids, end, 65, 66]))
    state = harness.wait(harness.submit())
    assert state.finish_reason == "stop" and state.text == "네!" and state.n_tokens == len(ids) and state.stop_reason is None


def test_a_stop_string_ends_the_answer_and_the_request(start, folder, fake, monkeypatch):
    ids = ByteLevelBPE.load(folder).encode("하나 둘 셋 넷")
    monkeypatch.setattr(fake, "tokens", lambda self, prompt, values: iter(ids * 4))
    harness = start()
    state = harness.wait(harness.submit(stop=("셋", "다섯"), max_new_tokens=60 - 12))
    assert (state.text, state.finish_reason, state.stop_reason) == ("하나 둘 ", "stop", "셋")
    assert fake.instances[-1].aborted == [fake.instances[-1].requests[-1]], "the GPU does not go on for nobody"
    assert all("셋" not in seen.text for states in harness.states.values() for seen in states)


def test_half_a_character_at_the_end_is_held_back(start, folder, fake, monkeypatch):
    halves = list("🙂".encode())
    tokenizer = ByteLevelBPE.load(folder)
    ids = [tokenizer.token_to_id(bytes([byte])) for byte in halves]
    monkeypatch.setattr(fake, "tokens", lambda self, prompt, values: iter([*ids, *ids]))
    harness = start()
    job = harness.submit(max_new_tokens=8)
    assert harness.wait(job).text == "🙂🙂"
    assert {seen.text for seen in harness.states[job]} <= {"", "🙂", "🙂🙂"}


def test_cancelling_ends_a_job_here_and_there(start, fake):
    harness = start()
    fake.instances[-1].step_seconds = 0.02
    job, other = harness.submit(max_new_tokens=40), harness.submit("오늘은", max_new_tokens=6)
    harness.wait_for_tokens(job, 2)
    harness.engine.cancel(job)
    state = harness.wait(job)
    assert state.finish_reason == "cancelled" and 2 <= state.n_tokens < 40
    assert fake.instances[-1].requests[1].aborted()
    assert harness.wait(other).finish_reason == "length", "the neighbour goes on"
    harness.engine.cancel(job)  # of no effect any more
    assert harness.wait(job) == state


def test_a_job_cancelled_at_once_ends_too(start):
    harness = start()
    jobs = [harness.submit(max_new_tokens=30) for _ in range(5)]
    for job in jobs:
        harness.engine.cancel(job)
    assert {harness.wait(job).finish_reason for job in jobs} == {"cancelled"}
    assert harness.engine.counts() | {"steps": 0} == {"running": 0, "waiting": 0, "steps": 0}


def test_too_many_requests_are_told_so(start, fake):
    harness = start(max_rows=1, max_waiting=1)
    fake.instances[-1].step_seconds = 0.05
    jobs = [harness.submit(max_new_tokens=4) for _ in range(2)]
    assert harness.engine.counts()["waiting"] == 1
    with pytest.raises(BusyError, match="1 requests are being answered and 1 wait"):
        harness.submit()
    assert all(harness.wait(job).finish_reason == "length" for job in jobs)
    assert harness.wait(harness.submit(max_new_tokens=1)).n_tokens == 1


@pytest.mark.parametrize("text", ["가나다라마바사아자차카타파하" * 5, "a" * 100_000])
def test_a_prompt_that_does_not_fit_is_refused(start, text):
    harness = start()
    with pytest.raises(PromptTooLongError) as caught:
        harness.submit(text)
    assert caught.value.limit == 64 - 12 and caught.value.n_tokens > caught.value.limit
    assert harness.engine.counts()["waiting"] == 0


def test_an_answer_never_leaves_the_context(start, fake):
    harness = start(max_tokens=40)
    assert fake.instances[-1]._values["max_seq_len"] == 40
    job = harness.submit("안녕", max_new_tokens=1000)
    assert harness.wait(job).n_tokens == 40 - job.n_prompt_tokens


def test_a_failing_engine_fails_the_job_in_words(start, fake):
    harness = start()
    fake.instances[-1].fail_after = 2
    state = harness.wait(harness.submit())
    assert "RuntimeError: CUDA error" in state.error and "send the request again" in state.error
    fake.instances[-1].fail_after = None
    fake.instances[-1].end_with = "timeout"
    assert "timeout" in harness.wait(harness.submit()).error
    fake.instances[-1].end_with = None
    assert harness.wait(harness.submit()).finish_reason == "length"


def test_logprobs_are_summed_where_they_are_asked_for(start):
    harness = start()
    with_sum = harness.wait(harness.submit(wishes=Wishes(streaming=True, cumulative_logprob=True), max_new_tokens=4))
    assert with_sum.cumulative_logprob == pytest.approx(-2.0)
    assert harness.wait(harness.submit(max_new_tokens=4)).cumulative_logprob == 0


def test_closing_ends_what_runs(start, fake):
    harness = start()
    fake.instances[-1].step_seconds = 0.05
    job = harness.submit(max_new_tokens=40)
    harness.wait_for_tokens(job, 1)
    harness.engine.close()
    assert job.state.finish_reason == "cancelled" and fake.instances[-1].closed
    with pytest.raises(BusyError, match="stopping"):
        harness.engine.submit(Job("가", Sampling()))


def test_a_checkpoint_that_does_not_load_is_an_error_with_its_name(start, fake, folder, monkeypatch):
    start()
    monkeypatch.setattr(fake, "fails_to_load", "unsupported dtype")
    with pytest.raises(EngineError, match=rf"could not load {folder} .*unsupported dtype"):
        start()
    monkeypatch.setattr(fake, "fails_to_load", None)

    def broken(self, prompt, values):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(fake, "tokens", broken)
    with pytest.raises(EngineError, match=r"cannot generate .*no kernel image"):
        start()
    assert fake.instances[-1].closed


def test_without_the_package_the_cure_is_named(folder, gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    settings = EngineSettings(model=folder, engine="tensorrt_llm")
    with pytest.raises(ValueError, match=r"no TensorRT-LLM here .*image 'serving-gpu'"):
        load_engine(settings, lambda job: None)


def test_a_quantised_export_is_served_from_its_folder(start, fake, folder, tmp_path):
    """ModelOpt leaves its own section in config.json; the stamp then asks what the GPU can run."""
    export = tmp_path / "export-fp8"
    shutil.copytree(folder, export)
    config = json.loads((export / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"]}
    (export / "config.json").write_text(json.dumps(config))
    (export / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "FP8"}}))
    write_stamp(export, present(export))
    harness = Harness(export)
    assert harness.wait(harness.submit()).finish_reason == "length"
    assert fake.instances[-1]._values["model"] == str(export)
    harness.engine.close()
    (export / "tokenizer.json").write_text((export / "tokenizer.json").read_text() + "\n")
    with pytest.raises(StampError, match=r"the checkpoint's digest \w{12} there, \w{12} here"):
        Harness(export)
