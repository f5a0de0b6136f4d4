"""The way over HTTP: a server of our own with Triton's paths, and what happens where gRPC cannot be reached."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.fake_triton import INFO, FakeTriton, words

from llm_workshop.serving.client import Retry, Timeouts, TritonClient
from llm_workshop.serving.engine import BusyError, EngineError, PromptTooLongError, Sampling
from llm_workshop.serving.triton.interface import INPUTS, MODEL_INFO, MODEL_NAME, OUTPUTS

MODEL = f"/v2/models/{MODEL_NAME}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        tables = {"inputs": INPUTS, "outputs": OUTPUTS}
        answers = {
            "/v2/health/live": "", "/v2/health/ready": "", f"{MODEL}/ready": "",
            MODEL: {key: [{"name": t.name, "datatype": t.datatype, "shape": list(t.dims)} for t in table] for key, table in tables.items()},
            f"{MODEL}/config": {"parameters": {MODEL_INFO: {"string_value": json.dumps(asdict(INFO))}}},
            f"{MODEL}/stats": {"model_stats": [{"name": MODEL_NAME, "inference_count": 3}]},
        }  # fmt: skip
        if self.path not in answers:
            return self.reply(400, {"error": "Request for unknown model: 'x' is not found"})
        self.reply(200, answers[self.path])

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/v2/repository/index":
            return self.reply(200, [{"name": MODEL_NAME, "version": "1", "state": "READY"}])
        self.server.requests.append(json.loads(body))
        behaviour = self.server.behaviours.pop(0) if len(self.server.behaviours) > 1 else self.server.behaviours[0]
        status, events = behaviour
        if status != 200:
            return self.reply(status, events)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for event in events() if callable(events) else events:
                data = json.dumps(event) if not isinstance(event, str) else event
                self.wfile.write(f"data: {data}\n\n".encode())
                self.wfile.flush()
        except OSError:
            self.server.hung_up.set()

    def reply(self, status, body):
        raw = json.dumps(body).encode() if body else b""
        if self.command == "POST" and status != 200:
            raw = b"data: " + raw + b"\n\n"  # as Triton does
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*behaviours):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.behaviours, server.requests, server.hung_up = list(behaviours), [], threading.Event()
        server.address = f"127.0.0.1:{server.server_address[1]}"
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def client_of(server, **options):
    return TritonClient.from_url(f"http://{server.address}", retry=Retry(3, 0.01, 0.02), **options)


def whole(*texts):
    answers = ["".join(texts[: n + 1]) for n in range(len(texts))]
    last = {"finish_reason": "stop"}
    return [
        {"model_name": MODEL_NAME, "text_output": text, "num_output_tokens": n, **(last if n == len(texts) else {})}
        for n, text in enumerate(answers, 1)
    ]


def test_an_answer_over_http(serve):
    server = serve((200, whole("안녕", "하세요")))
    with client_of(server) as client:
        answer = client.generate("가", Sampling(5, 0, stop=("끝",)), request_id="abc")
        assert [d.text for d in answer] == ["안녕", "하세요"]
        assert answer.n_tokens == 2 and answer.finish_reason == "stop" and client.protocol == "http"
        assert client.is_ready() and client.info() == INFO and client.statistics()["inference_count"] == 3
        assert client.models()[0] == {"name": MODEL_NAME, "version": "1", "state": "READY", "reason": ""}
    (request,) = server.requests
    assert request["id"] == "abc" and request["text_input"] == "가" and request["sampling_param_stop"] == ["끝"]
    assert request["sampling_param_max_tokens"] == 5 and request["streaming"] is True


def test_half_a_surrogate_pair_waits_for_the_other(serve):
    events = [r'{"text_output": "음 \ud83d"}', r'{"text_output": "음 \ud83d\ude00!"}', r'{"text_output": "음 \ud83d\ude00! \ud83d"}']
    with client_of(serve((200, events))) as client:
        assert [d.text for d in client.generate("가") if d.text] == ["음 ", "😀!", " "]


def test_errors_over_http(serve):
    busy = (503, {"error": "busy: 3 wait"})
    server = serve(busy, busy, (200, whole("네.")), busy, busy, busy, (400, {"error": "prompt too long: 9 tokens, at most 8"}))
    with client_of(server) as client:
        answer = client.generate("가")
        assert "".join(d.text for d in answer) == "네." and answer.retries == 2
        with pytest.raises(BusyError):
            list(client.generate("가"))
        with pytest.raises(PromptTooLongError, match="9 tokens, at most 8"):
            list(client.generate("가"))
    with client_of(serve((400, {"error": "bad top_k"}))) as client, pytest.raises(ValueError, match="refused the request: bad top_k"):
        list(client.generate("가"))
    with client_of(serve((200, [*whole("가", "나")[:1], {"error": "engine broke"}]))) as client:
        with pytest.raises(EngineError, match=r"failed .*engine broke"):
            list(client.generate("가"))
    with client_of(server, model="x") as client:
        assert not client.is_ready()
        with pytest.raises(EngineError, match="no model 'x'"):
            client.statistics()


def test_time_limit_and_cancelling_over_http(serve):
    def endless():
        for n in range(1, 1000):
            yield {"text_output": "가" * n}
            time.sleep(0.02)

    def hangs():
        yield {"text_output": "가"}
        time.sleep(1.5)

    server = serve((200, endless), (200, endless), (200, hangs))
    with client_of(server, timeouts=Timeouts(between_tokens=0.2)) as client:
        answer = client.generate("가", Sampling(max_new_tokens=5000))
        next(answer)
        answer.close()
        assert server.hung_up.wait(5)
        answer = client.generate("가", Sampling(max_new_tokens=5000))
        threading.Timer(0.2, answer.cancel).start()
        assert list(answer)[-1].finish_reason == "cancelled"
        with pytest.raises(EngineError, match=r"no further token came for 0.2 s"):
            list(client.generate("가"))


def test_without_grpc_http_is_taken_and_grpc_is_preferred(serve):
    server = serve((200, whole("웹")))
    with TritonClient("127.0.0.1:9", server.address) as client:
        assert "".join(d.text for d in client.generate("가")) == "웹" and client.protocol == "http"
    with FakeTriton(words("지알피시")) as fake, TritonClient(fake.address, server.address) as client:
        assert "".join(d.text for d in client.generate("가")) == "지알피시" and client.protocol == "grpc"
    with TritonClient("127.0.0.1:9", "127.0.0.1:9") as client, pytest.raises(EngineError, match=r"\(gRPC\).*\(HTTP\).*make serve"):
        client.info()
