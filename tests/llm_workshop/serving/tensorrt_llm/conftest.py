"""A small model, a pretended GPU, and the engine around the stand-in."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from llm_workshop.serving.engine import Sampling
from llm_workshop.serving.tensorrt_llm import engine as engine_module
from llm_workshop.serving.tensorrt_llm.stamp import present, write_stamp
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.serving.triton.job import Job, Wishes
from scratch_llm.models import load_model
from scratch_llm.models.llama import Llama, LlamaConfig
from scratch_llm.tokenizers import CHAT_TEMPLATE, SPECIAL_TOKENS, ByteLevelBPE
from scratch_llm.weights.huggingface import save_model

from . import fake_tensorrt_llm

TEXTS = ["안녕하세요! 오늘은 2024년 11월 21일입니다. 김치찌개는 이렇게 끓여요.", "고양이가 GPU를 좋아해요ㅋㅋㅋ 정말 재밌다ㅠㅠ"] * 8


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    torch.manual_seed(3)
    tokenizer = ByteLevelBPE.train(TEXTS, 320, SPECIAL_TOKENS)
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size, context_length=64, n_layers=1, d_model=32, n_heads=4, n_kv_heads=2, d_ff=64,
        bos_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    save_model(Llama(config), folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def gpu(monkeypatch):
    """PyTorch says that there is an H200."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200")
    monkeypatch.setattr(torch.version, "cuda", "13.1")


@pytest.fixture
def fake(monkeypatch, folder, gpu):
    return fake_tensorrt_llm.install(monkeypatch, load_model(folder).eval())


class Harness:
    """The engine as python_model.py drives it: jobs go in, states are recorded."""

    def __init__(self, folder, **settings):
        self.settings = EngineSettings(model=folder, engine="tensorrt_llm", device="cuda", **settings)
        self.states: dict[Job, list] = {}
        self._wake = threading.Condition()
        self.engine = engine_module.load(self.settings, self.changed)

    def changed(self, job):
        with self._wake:
            self.states.setdefault(job, []).append(job.state)
            self._wake.notify_all()

    def submit(self, text="안녕", *, wishes=None, **sampling):
        job = Job(text, Sampling(**{"max_new_tokens": 12, "temperature": 0} | sampling), wishes or Wishes(streaming=True))
        self.engine.submit(job)
        return job

    def wait(self, job, seconds=20):
        with self._wake:
            assert self._wake.wait_for(lambda: job.state.done, seconds), "the job did not end"
        return job.state

    def wait_for_tokens(self, job, n, seconds=20):
        deadline = time.monotonic() + seconds
        while job.state.n_tokens < n:
            assert time.monotonic() < deadline and not job.state.done
            time.sleep(0.005)


@pytest.fixture
def start(fake, folder):
    """A function that starts the engine; what it started is closed afterwards."""
    started = []

    def start(**settings) -> Harness:
        write_stamp(folder, present(folder))
        started.append(Harness(folder, **settings))
        return started[-1]

    yield start
    for harness in started:
        harness.engine.close()
