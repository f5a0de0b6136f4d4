"""Clients that leave, that send or read slowly, and too many of them; what is counted and logged of all that."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from contextlib import ExitStack

import httpx
import pytest
from fastapi import APIRouter
from support.gateway import PIECES, ScriptedEngine, serving, wait_until

from llm_workshop.serving.engine import EngineError
from llm_workshop.serving.gateway.http_server import listen
from llm_workshop.serving.gateway.limits import Limits, TokenBuckets

SECRET = "비밀 이야기"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": SECRET}]}


def dial(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=15)


def raw_request(body: dict, path: str = "/v1/chat/completions") -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def ask(url: str, **change) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=CHAT | change, timeout=20)


def in_flight(url: str) -> int:
    return httpx.get(f"{url}/health").json()["in_flight"]


def metric(url: str, line: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    return next((float(x.rpartition(" ")[2]) for x in text.splitlines() if x.startswith(line)), 0.0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_engines_work(stream):
    engine = ScriptedEngine(["말 "], endless=True, seconds=0.01)
    with serving(engine) as url:
        with dial(url) as client:
            client.sendall(raw_request(CHAT | {"stream": stream}))
            wait_until(lambda: engine.pulled > 3)
        assert engine.closed.wait(3)
        pulled = engine.pulled
        wait_until(lambda: in_flight(url) == 0)
        assert engine.pulled <= pulled + 1
        wait_until(lambda: metric(url, 'workshop_gateway_answers_total{model="tiny",outcome="cancelled"}') == 1)


def test_a_client_that_leaves_before_the_first_piece():
    engine = ScriptedEngine(gate=threading.Event())
    with serving(engine) as url:
        with dial(url) as client:
            client.sendall(raw_request(CHAT | {"stream": True}))
            wait_until(lambda: in_flight(url) == 1)
        wait_until(lambda: metric(url, 'workshop_gateway_answers_total{model="tiny",outcome="cancelled"}') == 1)
        assert in_flight(url) == 1, "the engine still has its place"
        engine.gate.set()  # it notices with its next piece
        assert engine.closed.wait(3)
        wait_until(lambda: in_flight(url) == 0)


def test_pieces_arrive_when_they_are_made_not_at_the_end():
    engine = ScriptedEngine(["하나 "] * 10, seconds=0.1)
    with serving(engine) as url, httpx.stream("POST", f"{url}/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        lines = response.iter_lines()
        assert "하나" in next(lines) and engine.pulled <= 4
        assert [line for line in lines if line][-1] == "data: [DONE]" and engine.pulled == 10


def test_hangul_and_emoji_are_whole_utf8_in_every_event():
    with serving(ScriptedEngine([*PIECES, "가" * 5000])) as url:
        data = ask(url, stream=True).content
    text = data.decode("utf-8")
    assert "👩‍🎓 반가워요" in text and "\ufffd" not in text and "\\u" not in text
    for event in data.removesuffix(b"\n\n").split(b"\n\n")[:-1]:
        json.loads(event.removeprefix(b"data: ").decode("utf-8"))


def test_a_slow_reader_holds_the_engine_back_and_is_cut_off():
    engine = ScriptedEngine(["x" * 100_000], endless=True)
    with serving(engine, limits=Limits(stall_seconds=1.0, buffered=4)) as url, dial(url) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(raw_request(CHAT | {"stream": True}))
        wait_until(lambda: engine.pulled > 4)
        time.sleep(0.5)
        pulled = engine.pulled
        time.sleep(0.2)
        # What the kernel's buffers take, and then no more: 100 kB a piece.
        assert engine.pulled == pulled < 200
        assert ask(url, stream=False, max_tokens=1, model="no").status_code == 404, "others are served meanwhile"
        assert engine.closed.wait(4)
        wait_until(lambda: in_flight(url) == 0)


def test_fifty_half_open_connections_leave_it_responsive_and_are_closed():
    with serving(ScriptedEngine(), limits=Limits(header_seconds=1.5)) as url, ExitStack() as open_sockets:
        clients = [open_sockets.enter_context(dial(url)) for _ in range(50)]
        for index, client in enumerate(clients):
            client.sendall([b"", b"POST /v1/chat/comp", raw_request(CHAT)[:80]][index % 3])
        begin = time.perf_counter()
        assert ask(url).status_code == 200
        assert time.perf_counter() - begin < 2
        begin = time.perf_counter()
        for client in clients:
            client.settimeout(5)
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass
        assert time.perf_counter() - begin < 4


def test_a_head_that_drips_is_cut_after_its_time_also_on_a_used_connection():
    with serving(ScriptedEngine(), limits=Limits(header_seconds=0.6)) as url:
        for used in (False, True):
            with dial(url) as client:
                if used:
                    client.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert client.recv(10_000).startswith(b"HTTP/1.1 200")
                begin, cut = time.perf_counter(), False
                while not cut and time.perf_counter() - begin < 4:
                    try:
                        client.sendall(b"G")
                        time.sleep(0.1)
                        client.setblocking(False)
                        cut = client.recv(1) == b""
                    except BlockingIOError:
                        client.setblocking(True)
                    except (ConnectionError, BrokenPipeError):
                        cut = True
                assert cut and time.perf_counter() - begin < 3


def test_a_client_that_leaves_while_it_sends_is_counted_as_499(caplog):
    with serving(ScriptedEngine()) as url:
        with dial(url) as client:
            client.sendall(raw_request(CHAT)[:-5])
            time.sleep(0.1)
        wait_until(lambda: metric(url, 'workshop_gateway_requests_total{route="/v1/chat/completions",status="499"}') == 1)
    assert "Traceback" not in caplog.text


def test_a_slow_body_is_408():
    with serving(ScriptedEngine(), limits=Limits(body_seconds=0.5, header_seconds=0.5)) as url, dial(url) as client:
        client.sendall(raw_request(CHAT)[:-5])
        data = b""
        while piece := client.recv(10_000):
            data += piece
        assert data.startswith(b"HTTP/1.1 408") and b"request_timeout" in data


def test_more_connections_than_allowed_close_those_that_idle():
    engine = ScriptedEngine(["말 "] * 20, seconds=0.05)
    with serving(engine, limits=Limits(max_connections=6)) as url, ExitStack() as open_sockets:
        busy = open_sockets.enter_context(dial(url))
        busy.sendall(raw_request(CHAT | {"stream": True}))
        wait_until(lambda: engine.pulled)
        for _ in range(20):
            open_sockets.enter_context(dial(url))
        assert httpx.get(f"{url}/v1/models").status_code == 200
        data = b""
        while not data.endswith(b"\r\n0\r\n\r\n"):
            piece = busy.recv(10_000)
            assert piece, "the busy one must not be closed"
            data += piece
        assert b"[DONE]" in data


def test_one_answer_more_than_allowed_is_503_until_there_is_room():
    engine = ScriptedEngine(gate=threading.Event())
    with serving(engine, limits=Limits(max_concurrent=2)) as url, ExitStack() as open_sockets:
        for _ in range(2):
            open_sockets.enter_context(dial(url)).sendall(raw_request(CHAT))
        wait_until(lambda: in_flight(url) == 2)
        refused = ask(url)
        assert (refused.status_code, refused.json()["error"]["code"], refused.headers["retry-after"]) == (503, "busy", "1")
        engine.gate.set()
        wait_until(lambda: in_flight(url) == 0)
        assert ask(url).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_has_a_time_limit(stream):
    engine = ScriptedEngine(["말 "], endless=True, seconds=0.02)
    with serving(engine, limits=Limits(answer_seconds=0.4)) as url:
        response = ask(url, stream=stream)
        if stream:
            assert response.status_code == 200 and "[DONE]" not in response.text
            error = json.loads(response.text.rstrip().rpartition("data: ")[2])["error"]
        else:
            assert response.status_code == 504
            error = response.json()["error"]
        assert error["code"] == "timeout"
        assert engine.closed.wait(2)


def test_an_engine_that_hangs_costs_its_places_and_nothing_else():
    engine = ScriptedEngine(gate=threading.Event())
    with serving({"tiny": engine, "other": ScriptedEngine()}, limits=Limits(answer_seconds=0.3, max_concurrent=2)) as url:
        assert ask(url).status_code == 504
        assert in_flight(url) == 1, "its thread still waits for the engine"
        assert ask(url, model="other").status_code == 200
        engine.gate.set()
        wait_until(lambda: in_flight(url) == 0)


def test_small_answers_are_not_held_back_by_nagles_algorithm():
    """asyncio sets TCP_NODELAY where the listener names its protocol; without, each answer took 44 ms."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_stopping_ends_endless_answers_with_a_word(caplog):
    engine = ScriptedEngine(["말 "], endless=True, seconds=0.01)
    with ExitStack() as clients:
        with serving(engine) as url:
            streaming, whole = (clients.enter_context(dial(url)) for _ in range(2))
            streaming.sendall(raw_request(CHAT | {"stream": True}))
            whole.sendall(raw_request(CHAT))
            wait_until(lambda: len(engine.requests) == 2)
            begin = time.perf_counter()
        assert time.perf_counter() - begin < 5
        texts = [b"".join(iter(lambda c=client: c.recv(100_000), b"")) for client in (streaming, whole)]
    assert b'"code":"stopping"' in texts[0] and b"[DONE]" not in texts[0] and texts[0].endswith(b"0\r\n\r\n")
    assert texts[1].startswith(b"HTTP/1.1 503") and b'"code":"stopping"' in texts[1]
    assert engine.closed.wait(2) and "Traceback" not in caplog.text


def test_health():
    engine = ScriptedEngine()
    state = {"ready": True}
    with serving({"tiny": engine, "other": ScriptedEngine()}, ready={"tiny": lambda: state["ready"]}) as url:
        assert httpx.get(f"{url}/health").json() == {"status": "ok", "models": {"tiny": "ok", "other": "ok"}, "in_flight": 0}
    state["ready"] = False
    with serving(engine, ready={"tiny": lambda: state["ready"]}) as url:
        answer = httpx.get(f"{url}/health")
        assert (answer.status_code, answer.json()["models"]) == (503, {"tiny": "not ready"})
    engine.info_error = EngineError("the server is not there")
    with serving(engine) as url:
        assert httpx.get(f"{url}/health").json()["models"] == {"tiny": "the server is not there"}
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "tiny", "it is still the model's name"
        assert ask(url).status_code == 200, "an engine that cannot tell about itself may answer all the same"


def test_metrics_and_extra_routers():
    router = APIRouter()
    router.add_api_route("/view/{page}", lambda page: {"page": page})
    with serving(ScriptedEngine(), extra_routers=[router], api_key="k") as url:
        key = {"authorization": "Bearer k"}
        assert httpx.get(f"{url}/view/1").json() == {"page": "1"}
        for path in ("/v1/x1", "/v1/x2"):
            httpx.get(url + path, headers=key)
        assert httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=key).status_code == 200
        assert metric(url, 'workshop_gateway_requests_total{route="/v1/chat/completions",status="200"}') == 1
        assert metric(url, 'workshop_gateway_requests_total{route="other",status="404"}') == 2
        assert metric(url, 'workshop_gateway_requests_total{route="/view/{page}",status="200"}') == 1
        assert metric(url, 'workshop_gateway_tokens_total{kind="prompt",model="tiny"}') == 7
        assert metric(url, 'workshop_gateway_tokens_total{kind="answer",model="tiny"}') == len(PIECES)
        assert metric(url, 'workshop_gateway_time_to_first_token_seconds_count{model="tiny"}') == 1
        assert metric(url, 'workshop_gateway_answers_in_flight{model="tiny"}') == 0


def test_a_route_of_others_that_fails_is_a_500_without_its_text():
    router = APIRouter()

    def fail():
        raise RuntimeError(SECRET)

    router.add_api_route("/broken", fail)
    with serving(ScriptedEngine(), extra_routers=[router]) as url:
        answer = httpx.get(f"{url}/broken")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error") and SECRET not in answer.text
        assert httpx.get(f"{url}/health").status_code == 200


def test_the_log_has_a_line_a_request_and_no_text_of_it(caplog):
    caplog.set_level(logging.INFO, "llm_workshop.gateway")
    with serving(ScriptedEngine()) as url:
        answer = httpx.post(f"{url}/v1/chat/completions?q={SECRET}", json=CHAT, headers={"x-request-id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"
        forged = httpx.get(f"{url}/health", headers={"x-request-id": "a b"}).headers["x-request-id"]
        assert forged.startswith("req-")
        ask(url, stream=True)
        httpx.get(f"{url}/v1/%0Aforged%20line")
    lines = [record.getMessage() for record in caplog.records if record.name == "llm_workshop.gateway"]
    assert len(lines) == 4 and not any("\n" in line for line in lines)
    assert '"POST /v1/chat/completions" 200' in lines[0] and lines[0].endswith("model=tiny prompt=7 answer=5 outcome=stop id=mine-1")
    assert SECRET not in caplog.text and "안녕" not in caplog.text


def test_token_buckets_refill_and_forget_the_oldest():
    now = [0.0]
    buckets = TokenBuckets(60, max_clients=2, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(60)] == [0] * 60
    assert buckets.take("a") == pytest.approx(1)
    now[0] = 1.0
    assert buckets.take("a") == 0 and buckets.take("a") > 0
    buckets.take("b")
    buckets.take("c")
    assert len(buckets._buckets) == 2 and buckets.take("a") == 0


@pytest.mark.parametrize("name, value", [("max_tokens", 0), ("max_tokens", 1.5), ("body_seconds", float("inf")), ("buffered", True)])
def test_limits_say_what_they_want(name, value):
    with pytest.raises(ValueError, match=f"{name}=.*above 0"):
        Limits(**{name: value})


def test_keys_and_engines_are_checked_at_the_start():
    from llm_workshop.serving.gateway.app import create_app

    with pytest.raises(ValueError, match="at least one engine"):
        create_app({})
    for key in ("", "with space", "열쇠", "line\n"):
        with pytest.raises(ValueError, match="API key"):
            create_app({"tiny": ScriptedEngine()}, api_key=("good", key))
