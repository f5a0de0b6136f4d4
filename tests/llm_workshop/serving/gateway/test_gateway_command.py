"""The command in a process of its own: how it starts, refuses to start, and ends; and the whole way to a real Triton."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import openai
import pytest
from support.gateway import ScriptedEngine, wait_until
from support.triton_stack import ANSWER, QUESTION, RHYME

from llm_workshop.serving.gateway.http_server import is_loopback, listen
from llm_workshop.serving.gateway.run import keys_from_text, run_gateway


def start(arguments: Sequence[str], key: str | None = None) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != "WORKSHOP_API_KEY"}
    if key is not None:
        environment["WORKSHOP_API_KEY"] = key
    command = [sys.executable, "-m", "llm_workshop.serving.gateway", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@contextmanager
def gateway(triton: str, *arguments: str, key: str | None = None) -> Iterator[tuple[str, subprocess.Popen]]:
    """Its address and process, for as long as the block runs."""
    process = start(["--triton", triton, "--port", "0", *arguments], key)
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+/v1", line)
        assert found, line + process.communicate(timeout=20)[1]
        yield found[0], process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def refusal(*arguments: str, key: str | None = None) -> str:
    """The one line of a start that fails."""
    process = start(arguments, key)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in errors, errors
    return errors.strip().splitlines()[-1]


def test_an_address_that_others_reach_needs_a_key():
    for host in ("0.0.0.0", "::"):
        message = refusal("--triton", "tiny=127.0.0.1:1", "--host", host, "--port", "0")
        assert message.startswith("error:") and "WORKSHOP_API_KEY" in message and "--no-key" in message


@pytest.mark.parametrize("arguments, key", [(["--no-key"], None), ([], "a,b")])
def test_it_listens_there_with_a_key_or_when_told(arguments, key):
    with gateway("tiny=127.0.0.1:1", "--host", "0.0.0.0", *arguments, key=key) as (url, process):
        status = httpx.get(f"{url}/models").status_code
        assert status == (401 if key else 200)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_a_port_in_use_and_a_server_that_is_not_there():
    with listen("127.0.0.1", 0) as taken:
        message = refusal("--triton", "tiny=127.0.0.1:1", "--port", str(taken.getsockname()[1]))
        assert "in use" in message and "--port" in message
    assert "127.0.0.1:1" in refusal("--triton", "127.0.0.1:1", "--wait", "0.1", "--port", "0")
    assert "two models" in refusal("--triton", "a=127.0.0.1:1", "--triton", "a=127.0.0.1:2", "--port", "0")
    assert "max_tokens=-1" in refusal("--max-tokens", "-1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_end_it_well_and_an_unreachable_triton_is_503_meanwhile(number):
    with gateway("tiny=127.0.0.1:1") as (url, process):
        asker = openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=30)
        with pytest.raises(openai.InternalServerError) as caught:
            asker.completions.create(model="tiny", prompt="안녕")
        assert (caught.value.status_code, caught.value.code) == (503, "engine_unavailable")
        health = httpx.get(url.replace("/v1", "/health"), timeout=20)
        assert health.status_code == 503 and health.json()["models"]["tiny"] != "ok"
        process.send_signal(number)
        _, errors = process.communicate(timeout=15)
        assert process.returncode == 0 and "Traceback" not in errors
        assert '"POST /v1/completions" 503' in errors and "안녕" not in errors


def test_loopback_addresses():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "no.such.name.invalid")))


def test_bad_hosts_and_keys_are_told_in_one_line():
    with pytest.raises(OSError, match=r"--host 192\.0\.2\.1|cannot listen on 192\.0\.2\.1"):
        run_gateway({"tiny": ScriptedEngine()}, host="192.0.2.1", port=0, api_key="k")
    with pytest.raises(ValueError, match="--no-key"):
        run_gateway({"tiny": ScriptedEngine()}, host="0.0.0.0", port=0)
    assert keys_from_text(" one, two ,") == ("one", "two") and keys_from_text(None) == ()


@pytest.fixture(scope="module")
def real(triton_stack):
    with gateway(triton_stack.server.grpc_address) as (url, _):
        yield url


def ask(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=60)


@pytest.mark.slow
def test_openai_client_to_gateway_to_triton(real):
    asker = ask(real)
    [model] = asker.models.list().data
    messages = [{"role": "user", "content": QUESTION}]
    answer = asker.chat.completions.create(model=model.id, messages=messages, temperature=0, max_tokens=60)
    assert answer.choices[0].message.content == ANSWER and answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens > 5 and answer.usage.completion_tokens > 5
    chunks = list(
        asker.chat.completions.create(
            model=model.id, messages=messages, temperature=0, max_tokens=60, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == ANSWER
    assert chunks[-1].usage == answer.usage
    stopped = asker.chat.completions.create(model=model.id, messages=messages, temperature=0, max_tokens=60, stop="반가")
    assert stopped.choices[0].message.content == ANSWER.partition("반가")[0]
    continued = asker.completions.create(model=model.id, prompt=RHYME, temperature=0, max_tokens=12, extra_body={"top_k": 5})
    assert RHYME.startswith(continued.choices[0].text) and continued.choices[0].finish_reason == "length"
    assert httpx.get(real.replace("/v1", "/health")).json()["status"] == "ok"
    with pytest.raises(openai.BadRequestError) as caught:
        asker.completions.create(model=model.id, prompt="바다 " * 5000, max_tokens=1)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


@pytest.mark.slow
def test_eight_at_once_and_one_that_leaves(real):
    asker = ask(real)
    model = asker.models.list().data[0].id

    def one(_: int) -> str:
        stream = asker.completions.create(model=model, prompt=RHYME, temperature=0, max_tokens=40, stream=True)
        return "".join(chunk.choices[0].text for chunk in stream)

    with ThreadPoolExecutor(8) as pool:
        texts = set(pool.map(one, range(8)))
    [text] = texts
    assert (RHYME * 3).startswith(text) and len(text) > 20
    stream = asker.completions.create(model=model, prompt=RHYME, temperature=0, max_tokens=3000, stream=True)
    next(stream)
    stream.close()
    wait_until(lambda: httpx.get(real.replace("/v1", "/health")).json()["in_flight"] == 0, 10)
    text = httpx.get(real.replace("/v1", "/metrics")).text
    assert re.search(r'answers_total\{model="[^"]+",outcome="cancelled"\} 1\.0', text)
