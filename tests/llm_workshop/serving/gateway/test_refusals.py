"""Requests that are refused: each with its status, the parameter's name and what to do."""

from __future__ import annotations

import json
import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.gateway import ScriptedEngine, serving

from llm_workshop.serving.gateway.limits import Limits

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "안녕"}]}
TEXT = {"model": "tiny", "prompt": "안녕"}
LIMITS = Limits(max_body_bytes=20_000, max_prompt_characters=500, max_messages=4, max_tokens=100, requests_per_minute=10**6)


@pytest.fixture(scope="module")
def url():
    with serving(ScriptedEngine(["가 "] * 5), limits=LIMITS) as url:
        yield url


@pytest.fixture(scope="module")
def session():
    with httpx.Client(timeout=10) as session:
        yield session


def ask(url: str, body: object, path: str = "chat/completions", **options) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | options.pop("headers", {})
    return httpx.post(f"{url}/v1/{path}", content=content, headers=headers, timeout=20, **options)


def refusal(response: httpx.Response, status: int = 400) -> dict:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    assert response.headers["x-request-id"]
    return error


def test_too_many_tokens_are_refused_with_what_the_model_can_hold():
    """Up to the gateway's limit many tools ask for more than the context without looking: that is cut, not refused."""
    with serving(ScriptedEngine(["가 "] * 5)) as url:
        for path, body in (("chat/completions", CHAT), ("completions", TEXT)):
            assert ask(url, body | {"max_tokens": 8192}, path).status_code == 200
            error = refusal(ask(url, body | {"max_tokens": 8193}, path))
            context = httpx.get(f"{url}/v1/models").json()["data"][0]["max_model_len"]
            assert error["param"] == "max_tokens" and error["message"].endswith(f"at most {context}.") and context < 8192


@pytest.mark.parametrize(
    "change, param, word",
    [
        ({"temperature": 3}, "temperature", "at most 2"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"temperature": True}, "temperature", "number"),
        ({"top_p": -0.1}, "top_p", "at least 0"),
        ({"top_k": 1.5}, "top_k", "whole"),
        ({"min_p": 2}, "min_p", "at most 1"),
        ({"repetition_penalty": 0}, "repetition_penalty", "above 0"),
        ({"frequency_penalty": 2.1}, "frequency_penalty", "at most 2"),
        ({"seed": 2**63}, "seed", "whole"),
        ({"n": 2}, "n", "at most 1"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"max_tokens": 101}, "max_tokens", "at most 100"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens", "not both"),
        ({"stop": [""]}, "stop", "1 to 1000"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"stop": {"a": 1}}, "stop", "list"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream"),
        ({"stream": True, "stream_options": {"include_usge": True}}, "include_usge", "include_usage"),
        ({"logprobs": True}, "logprobs", "log-probability"),
        ({"tools": [{"type": "function"}]}, "tools", "tools"),
        ({"functions": [{}]}, "functions", "tools"),
        ({"tool_choice": "required"}, "tool_choice", "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format", "plain text"),
        ({"modalities": ["audio"]}, "modalities", "text"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "biased"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "leave it out"),
        ({"temprature": 1}, "temprature", "'temperature'"),
        ({"echo": True}, "echo", "Unknown"),
        ({"model": None}, "model", "/v1/models"),
        ({"model": 5}, "model", "text"),
        ({"messages": None}, "messages", "Missing"),
        ({"messages": []}, "messages", "1 to 4"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": CHAT["messages"] * 5}, "messages", "1 to 4"),
        ({"messages": ["hi"]}, "messages[0]", "object"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "text"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role", "developer"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "tools"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "messages[0].role", "user"),
        ({"messages": [*CHAT["messages"], {"role": "system", "content": "a"}]}, "messages[1].role", "start"),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": [1]}]}, "messages[0].tool_calls", "Unsupported"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]", "image_url"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages[0].content[0]", "text parts"),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, "messages[0].content", "surrogate"),
        ({"messages": [{"role": "user", "content": "가" * 501}]}, "messages", "501 characters"),
    ],
)
def test_chat_requests(url, change, param, word):
    error = refusal(ask(url, CHAT | change))
    assert error["param"] == param and word in error["message"], error


@pytest.mark.parametrize(
    "change, param",
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": "가" * 501}, "prompt"),
        ({"logprobs": 0}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"messages": []}, "messages"),
    ],
)
def test_completion_requests(url, change, param):
    assert refusal(ask(url, TEXT | change, "completions"))["param"] == param


def test_an_unknown_model_is_404(url):
    assert refusal(ask(url, CHAT | {"model": "gpt-4o"}), 404)["code"] == "model_not_found"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b'{"model": NaN}', b"\xff\xfe{}", b"[" * 9000, b'{"seed": ' + b"9" * 9000 + b"}"],
    ids=["empty", "cut", "list", "null", "text", "nan", "utf-16", "deep", "long number"],
)
def test_bodies_that_are_no_json_object(url, body):
    assert refusal(ask(url, body))["code"] == "invalid_json"


def test_infinity_written_as_a_number(url):
    assert refusal(ask(url, b'{"model": "tiny", "messages": [], "top_k": 1e999}'))["param"] == "top_k"


def test_only_json_is_taken_so_that_no_web_page_can_ask_unasked(url):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert refusal(ask(url, CHAT, headers={"content-type": kind}), 415)["code"] == "unsupported_media_type"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("times", [2, 50])
def test_a_large_body_is_413(url, chunked, times):
    body = b" " * (times * LIMITS.max_body_bytes)
    content = iter([body[: len(body) // 2], body[len(body) // 2 :]]) if chunked else body
    try:
        response = httpx.post(f"{url}/v1/completions", content=content, headers={"content-type": "application/json"})
    except httpx.TransportError:
        # Far beyond the limit the connection is cut while the client still sends.
        assert times == 50
    else:
        assert refusal(response, 413)["code"] == "request_too_large"


def test_paths_and_methods(url):
    for method, path, status in [
        ("GET", "/", 404), ("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405), ("DELETE", "/v1/models/tiny", 405),
        ("GET", "/docs", 404), ("GET", "/openapi.json", 404), ("GET", "/v1/models/no", 404),
    ]:  # fmt: skip
        refusal(httpx.request(method, url + path), status)


def test_keys_and_rates():
    with serving(ScriptedEngine(), api_key="the-key", limits=Limits(requests_per_minute=3)) as url:
        good = {"authorization": "Bearer the-key"}
        for header in ({}, {"authorization": "the-key"}, {"authorization": "Basic the-key"}):
            assert refusal(ask(url, CHAT, headers=header), 401)["code"] == "invalid_api_key"
        # Guesses are limited, and take nothing from whoever has the key.
        assert refusal(ask(url, CHAT, headers={"authorization": "Bearer guess"}), 429)["code"] == "rate_limit_exceeded"
        assert [ask(url, CHAT, headers=good).status_code for _ in range(3)] == [200, 200, 200]
        limited = ask(url, CHAT, headers=good)
        assert refusal(limited, 429)["type"] == "rate_limit_error"
        assert 1 <= int(limited.headers["retry-after"]) <= 20
        assert httpx.get(f"{url}/health").status_code == 200, "machines that watch need no key and are not counted"


def test_hosts(url):
    with serving(ScriptedEngine(), allowed_hosts=["localhost", "127.0.0.1", "::1"]) as guarded:
        for host, status in [("localhost:8080", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("", 403)]:
            response = httpx.get(f"{guarded}/v1/models", headers={"host": host})
            assert response.status_code == status, host
    assert httpx.get(f"{url}/v1/models", headers={"host": "any.example"}).status_code == 200


def test_cross_origin_pages_may_not_ask_unless_told(url):
    headers = {"origin": "http://page.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in httpx.options(f"{url}/v1/models", headers=headers).headers
    with serving(ScriptedEngine(), cors_origins=["http://page.example"], api_key="k") as open_url:
        answer = httpx.options(f"{open_url}/v1/chat/completions", headers=headers)
        assert answer.status_code == 200, "a preflight carries no key"
        assert answer.headers["access-control-allow-origin"] == "http://page.example"


def test_what_is_no_http_is_answered_and_the_server_lives(url):
    host, port = url.removeprefix("http://").split(":")
    for junk in (b"\x16\x03\x01\x00\xa5\x01", b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100_000):
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            raw.sendall(junk)
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{url}/health").status_code == 200


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(
    "model messages prompt temperature top_p top_k min_p seed stop n stream stream_options max_tokens logprobs tools "
    "max_completion_tokens response_format modalities tool_choice frequency_penalty user metadata echo suffix best_of".split()
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]) | VALUES, "content": st.text(max_size=20) | VALUES},
    optional={"name": VALUES, "tool_calls": VALUES},
)


@settings(max_examples=200, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    path=st.sampled_from(["chat/completions", "completions"]),
    base=st.sampled_from([{}, CHAT, TEXT]),
    changes=st.dictionaries(NAMES | st.text(max_size=20), VALUES, max_size=3),
    messages=st.none() | st.lists(MESSAGE, max_size=4),
)
def test_no_body_makes_the_server_fail_or_hang(url, session, path, base, changes, messages):
    body = base | changes | ({} if messages is None else {"messages": messages})
    response = session.post(f"{url}/v1/{path}", content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code == 200 and "text/event-stream" in response.headers["content-type"]:
        assert response.text.endswith("data: [DONE]\n\n")
    else:
        response.json()


@settings(max_examples=100, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_no_bytes_make_the_server_fail(url, session, body):
    refusal(session.post(f"{url}/v1/completions", content=body, headers={"content-type": "application/json"}))
