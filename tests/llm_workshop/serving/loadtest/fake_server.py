"""A served model without Triton: rows, a queue, metrics over HTTP, and faults on demand."""

from __future__ import annotations

import http.server
import threading
import time

from llm_workshop.serving.engine import BusyError, Delta, PromptTooLongError
from llm_workshop.serving.triton import interface


class FakeServer:
    """One token a character; at most ``max_rows`` at once and ``max_waiting`` behind them.

    ``loses``: tokens that the server counts but does not send, for each answer.  ``breaks``: every so many answers
    one ends with an error.
    """

    def __init__(self, max_rows=4, max_waiting=8, seconds_per_token=0.001, context_length=100, loses=0, breaks=0):
        self.max_rows, self.max_waiting, self.pace = max_rows, max_waiting, seconds_per_token
        self.context_length, self.loses, self.breaks = context_length, loses, breaks
        self.lock, self.queue = threading.Lock(), []
        self.inside = self.running = self.tokens = self.steps = self.answers = 0
        self.outcomes = {}
        self.connections = 0

    def __enter__(self):
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.metrics_address = f"127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def connect(self):
        with self.lock:
            self.connections += 1
        return FakeConnection(self)

    def admit(self):
        """First come, first served; called with the lock held."""
        while self.queue and self.running < self.max_rows:
            self.running += 1
            self.queue.pop(0).set()

    def count(self, outcome):
        with self.lock:
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def text(self):
        labels = 'model="m",instance="m_0"'
        lines = [f"# TYPE {name} {kind}\n{name}{{{labels}}} {value}" for name, kind, value in (
            (interface.METRIC_TOKENS, "counter", self.tokens),
            (interface.METRIC_STEPS, "counter", self.steps),
            (interface.METRIC_RUNNING, "gauge", self.running),
            (interface.METRIC_WAITING, "gauge", self.inside - self.running),
        )]  # fmt: skip
        lines.append(f"# TYPE {interface.METRIC_REQUESTS} counter")
        lines += [f'{interface.METRIC_REQUESTS}{{{labels},outcome="{o}"}} {n}' for o, n in self.outcomes.items()]
        return "\n".join(lines) + "\n"

    def _handler(self):
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = server.text().encode()
                self.send_response(200 if self.path == "/metrics" else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler


class FakeConnection:
    def __init__(self, server):
        self.server = server

    def close(self):
        with self.server.lock:
            self.server.connections -= 1

    def generate(self, text, sampling):
        server = self.server
        if len(text) >= server.context_length:
            server.count("invalid")
            raise PromptTooLongError(len(text), server.context_length - 1)
        with server.lock:
            if server.inside >= server.max_rows + server.max_waiting:
                server.outcomes["busy"] = server.outcomes.get("busy", 0) + 1
                raise BusyError("busy: come back later")
            server.inside += 1
            ticket = threading.Event()
            server.queue.append(ticket)
            server.admit()
        outcome = "cancelled"
        ticket.wait()
        number = server.answers = server.answers + 1
        try:
            n = min(sampling.max_new_tokens, server.context_length - len(text))
            for place in range(n):
                time.sleep(server.pace)
                if server.breaks and number % server.breaks == 0:
                    outcome = "error"
                    raise OSError("the engine fell over")
                with server.lock:
                    server.tokens += 1
                    server.steps += 1
                last = place == n - 1
                if last:
                    outcome = "length"
                yield Delta("가", 1, "length" if last else None, n_prompt_tokens=len(text))
        finally:
            with server.lock:
                server.tokens += server.loses
                server.inside -= 1
                server.running -= 1
                server.admit()
            server.count(outcome)
