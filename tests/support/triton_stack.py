"""A real Triton server over a small model that writes Korean and emoji, for the tests of everything in front of it.

    def test_it(triton_stack):          # session-scoped; skips loudly where there is no Triton server
        client = tritonclient.grpc.InferenceServerClient(triton_stack.server.grpc_address)

``running_server`` starts another one, with other settings.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.serving.engine import Sampling
from llm_workshop.serving.scratch_engine import ScratchEngine
from llm_workshop.serving.triton.installation import find_installation
from llm_workshop.serving.triton.repository import write_repository
from llm_workshop.serving.triton.server import Ports, TritonServer
from llm_workshop.settings import load_settings
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE, render_chat

CONTEXT = 4096
TAUGHT = 512  # beyond so many tokens it goes on somehow, so that there is time to interrupt it
# It never ends: what follows it is the whole again.
RHYME = "바다는 푸르고 🌊 하늘은 높다 🐋 산에는 꽃이 피네 🌸 강물은 흘러가네. "
#: A question that the model answers, and how.
QUESTION, ANSWER = "안녕?", "안녕하세요! 반가워요 👋🏽 오늘도 좋은 하루예요."


@dataclass(frozen=True)
class TritonStack:
    """A server that is ready, and what it serves."""

    artifacts: Artifacts
    server: TritonServer

    def in_process(self) -> ScratchEngine:
        """The same model in this process, in the precision of the server."""
        from llm_workshop.serving.triton.engine_settings import read_model_yaml
        from scratch_llm.models import load_model

        settings, _ = read_model_yaml(self.server.repository / "tensorrt_llm" / "1")
        model = load_model(settings.model, dtype=getattr(torch, settings.precision))
        info = ScratchEngine.from_artifacts(self.artifacts, "cpu").info()
        return ScratchEngine(model, ByteLevelBPE.load(settings.model), info)


def free_ports() -> Ports:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return Ports(*(each.getsockname()[1] for each in sockets))


def small_artifacts(root: Path, *overrides: str) -> Artifacts:
    """A run whose base model knows RHYME by heart, and the answer to QUESTION; about three seconds."""
    # In bfloat16 the number of rows decides which of two near ties wins, so that answers differ from those in process.
    # A model so small gains nothing from a second thread, and where other work keeps a core busy it waits for that.
    artifacts = Artifacts(load_settings("smoke", overrides=("serving.threads=1", "serving.precision=float32", *overrides)), root)
    chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    texts = [RHYME * 4, "다른 이야기: 고양이는 야옹, 강아지는 멍멍 짖어요. 2026년 11월 21일.", render_chat(chat)]
    tokenizer = ByteLevelBPE.train(texts * 5, 384, SPECIAL_TOKENS)
    with one_thread():
        model = _taught(texts, tokenizer)
    with artifacts.write_stage("base-model", {"model": artifacts.settings.model}) as stage:
        model.save_pretrained(stage.folder)
        tokenizer.save(stage.folder)
        stage.metrics.update({"chat": True, "bits_per_byte": 1.5, "steps": 100})
    return artifacts


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _taught(texts: list[str], tokenizer: ByteLevelBPE):
    """A tiny Llama that has seen the texts at many places of its context."""
    torch.manual_seed(0)
    model = build_model(
        LlamaConfig(
            vocab_size=tokenizer.vocab_size, context_length=CONTEXT, n_layers=2, n_heads=4, n_kv_heads=2,
            d_model=64, d_ff=128, bos_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id, rope_theta=1e6,
        )
    )  # fmt: skip
    end = [tokenizer.eos_id]
    rows = [[*end, *tokenizer.encode(text), *end] for text in texts]
    rows[0] = (end + tokenizer.encode(RHYME) * 40)[: TAUGHT + 1]
    length = TAUGHT + 1
    tokens_BT = torch.tensor([(row * (length // len(row) + 1))[:length] for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        logits_BTV = model(tokens_BT[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def require_triton():
    """The Triton installation; skips loudly where there is none."""
    try:
        return find_installation()
    except ValueError as error:
        pytest.skip(f"NOT TESTED on a real Triton server: {error}")


@contextlib.contextmanager
def running_server(artifacts: Artifacts, models: Mapping[str, Path] | None = None) -> Iterator[TritonServer]:
    """A server over the run's model repository, written anew; ready inside the ``with`` block, gone after it."""
    installation = require_triton()
    repository = write_repository(artifacts, models)
    logs = artifacts.root / "serving" / "logs"
    with TritonServer(
        repository, logs, ports=free_ports(), installation=installation, start_seconds=90, stop_seconds=5
    ) as server:
        yield server


@pytest.fixture(scope="session")
def triton_stack(tmp_path_factory) -> Iterator[TritonStack]:
    """One server for the whole session; tests leave it as they found it."""
    require_triton()
    artifacts = small_artifacts(tmp_path_factory.mktemp("triton"))
    with running_server(artifacts) as server:
        yield TritonStack(artifacts, server)


def answer_in_process(stack: TritonStack, text: str, **sampling) -> str:
    """What the model goes on with after ``text``, computed here."""
    return "".join(delta.text for delta in stack.in_process().complete(text, Sampling(**sampling)))
