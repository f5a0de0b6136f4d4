"""The client against a real Triton server that serves the workshop's own engine."""

from __future__ import annotations

import json
import threading
import time
import urllib.request

import pytest
from support.triton_stack import ANSWER, CONTEXT, QUESTION, answer_in_process

from llm_workshop.serving.client import Retry, TritonClient, TritonEngine
from llm_workshop.serving.engine import EngineError, PromptTooLongError, Sampling

GREEDY = Sampling(max_new_tokens=80, temperature=0)


@pytest.fixture(params=["grpc", "http"])
def client(request, triton_stack):
    server = triton_stack.server
    with TritonClient(server.grpc_address, server.http_address, protocol=request.param, retry=Retry(2, 0.01, 0.1)) as client:
        yield client


@pytest.fixture
def engine(client):
    return TritonEngine(client)


def text_of(deltas):
    return "".join(delta.text for delta in deltas)


def test_the_answer_is_that_of_the_engine_in_process(client, triton_stack):
    answer = client.generate("바다는", GREEDY, logprob=True)
    deltas = list(answer)
    assert text_of(deltas) == answer_in_process(triton_stack, "바다는", max_new_tokens=80, temperature=0)
    assert answer.n_tokens == 80 and answer.finish_reason == "length" and len(deltas) > 1
    tokenizer = triton_stack.in_process().tokenizer
    assert answer.n_prompt_tokens == len(tokenizer.encode("바다는")) + 1 and answer.cumulative_logprob < 0
    assert answer.timing.time_to_first_token < answer.timing.seconds


def test_a_seed_is_a_seed_and_none_is_a_fresh_one(client):
    wild = {"max_new_tokens": 20, "temperature": 3.0}
    assert text_of(client.generate("바다는", Sampling(seed=7, **wild))) == text_of(client.generate("바다는", Sampling(seed=7, **wild)))
    assert text_of(client.generate("바다는", Sampling(**wild))) != text_of(client.generate("바다는", Sampling(**wild)))


def test_every_setting_arrives(client):
    sampling = Sampling(12, 0.9, 5, 0.9, 0.01, 1.1, 0.1, 0.1, ("푸르",), 3)
    assert "푸르" not in text_of(client.generate("바다는", sampling))
    answer = client.generate("바다는", Sampling(80, 0, stop=("하늘",)))
    assert "하늘" not in text_of(answer) and answer.finish_reason == "stop"


def test_a_conversation(engine, triton_stack):
    messages = [{"role": "user", "content": QUESTION + "<|end|>"}]
    deltas = list(engine.stream(messages, GREEDY))
    in_process = triton_stack.in_process().stream([{"role": "user", "content": QUESTION}], GREEDY)
    assert text_of(deltas) == text_of(in_process) == ANSWER and deltas[-1].finish_reason == "stop"
    assert engine.info().supports_chat and engine.info().context_length == CONTEXT


def test_the_prompt_has_the_length_that_the_server_counts(engine, client):
    text = engine._chat_text(engine.info())
    prompt = text.render([{"role": "user", "content": "가나다 바다는 푸르고 🌊"}])
    answer = client.generate(prompt, Sampling(max_new_tokens=1))
    list(answer)
    assert answer.n_prompt_tokens == text.count(prompt)


def test_errors(client, engine):
    long = "가나다라 " * CONTEXT
    with pytest.raises(PromptTooLongError, match=f"at most {CONTEXT - 4} fit"):
        list(client.generate(long, Sampling(max_new_tokens=4)))
    with pytest.raises(PromptTooLongError, match=f"at most {CONTEXT - 4} fit"):
        list(engine.complete(long, Sampling(max_new_tokens=4)))
    assert client.is_live() and client.is_ready()
    client.model = "other"
    assert not client.is_ready()
    with pytest.raises(EngineError, match="no model 'other' is ready"):
        client.statistics()


def test_questions(client):
    assert [model["name"] for model in client.models()] == ["tensorrt_llm"]
    before = int(client.statistics().get("inference_count", 0))
    list(client.generate("가", Sampling(max_new_tokens=2)))
    assert int(client.statistics()["inference_count"]) == before + 1


def cancelled_requests(stack) -> float:
    """The server's own count of requests that were cancelled."""
    with urllib.request.urlopen(f"http://{stack.server.metrics_address}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("workshop_requests_total") and 'outcome="cancelled"' in line)


def test_closing_ends_the_answer_on_the_server(client, triton_stack):
    before = cancelled_requests(triton_stack)
    answer = client.generate("바다는", Sampling(max_new_tokens=400, temperature=0))
    next(answer)
    answer.close()
    deadline = time.monotonic() + 5
    while cancelled_requests(triton_stack) != before + 1:
        assert time.monotonic() < deadline, json.dumps(client.statistics())
        time.sleep(0.1)


def test_answers_at_once_are_those_of_answers_alone(client):
    prompts = ["바다는", "하늘은", "산에는", "강물은", "안녕", "고양이는"]
    alone = [text_of(client.generate(prompt, GREEDY)) for prompt in prompts]
    together = [""] * len(prompts)

    def ask(n):
        together[n] = text_of(client.generate(prompts[n], GREEDY))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert together == alone and all("\ufffd" not in text for text in together)
