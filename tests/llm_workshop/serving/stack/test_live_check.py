"""Whether an engine that hangs is told from one that is busy or slow."""

from __future__ import annotations

import http.server
import itertools
import re
import threading
import time
from types import SimpleNamespace

import pytest

from llm_workshop.serving.stack import engine_part
from llm_workshop.serving.stack.engine_part import LiveCheck
from llm_workshop.serving.triton.interface import BUSY, METRIC_STEPS


@pytest.fixture
def server(monkeypatch):
    """Stands for Triton: ``status`` (0: hangs) and ``text`` answer questions, ``steps`` gives its metric (None: has none)."""
    monkeypatch.setattr(engine_part, "LIVE_EVERY", 0.1)
    monkeypatch.setattr(engine_part, "LIVE_WITHIN", 0.3)
    end = threading.Event()

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            if fake.status == 0:
                end.wait(20)
                return
            self.send_response(fake.status)
            self.end_headers()
            self.wfile.write(fake.text.encode())

        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            if fake.steps is not None:
                self.wfile.write(f'{METRIC_STEPS}{{model="m"}} {next(fake.steps)}\n'.encode())

        def log_message(self, *_):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    web.daemon_threads = True
    threading.Thread(target=web.serve_forever, daemon=True).start()
    port = web.server_address[1]
    fake = SimpleNamespace(ports=SimpleNamespace(http=port, metrics=port), status=200, text="{}", steps=itertools.repeat(7))
    yield fake
    end.set()
    web.shutdown()
    web.server_close()


def verdict(check: LiveCheck, seconds: float) -> str | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if problem := check.problem():
            return problem
        time.sleep(0.02)
    return None


@pytest.mark.parametrize(("status", "text", "steps"), [
    (200, "{}", itertools.repeat(7)),
    (503, f'{{"error": "{BUSY}32 requests wait"}}', itertools.repeat(7)),
    (0, "", itertools.count()),  # slow, but it computes
])
def test_it_lives(server, status, text, steps):
    server.status, server.text, server.steps = status, text, steps
    assert verdict(LiveCheck(server), 1.5) is None


def test_it_hangs(server):
    server.status = 0
    check = LiveCheck(server)
    assert re.search(r"computed nothing in 0\.\d s although it was asked", verdict(check, 5))
    check.reset()
    server.status = 200
    assert verdict(check, 0.8) is None, "the next server starts with a clean slate"


def test_without_metrics_it_takes_several_questions(server):
    server.status, server.steps = 0, None
    began = time.monotonic()
    assert verdict(LiveCheck(server), 8)
    assert time.monotonic() - began > 3 * 0.3
