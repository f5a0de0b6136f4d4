"""The built-in view: what two readings mean, what the router answers, and the page in a real browser."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parents[1] / "loadtest"))

from fake_server import FakeServer

from llm_workshop.serving.loadtest import closed_loop, uniform_jobs
from llm_workshop.serving.monitoring import MemoryReading, Metrics, Monitor, ServerProcesses, parse_metrics
from llm_workshop.serving.monitoring.history import point_between
from llm_workshop.serving.monitoring.metrics import quantile
from llm_workshop.serving.monitoring.router import monitor_router
from llm_workshop.serving.triton import interface


def reading(taken: float, tokens: float, steps: float, stop: float = 0, first=(0.0, 0.0)) -> Metrics:
    labels = {"model": "m", "instance": "m_0"}
    values = {interface.METRIC_TOKENS: tokens, interface.METRIC_STEPS: steps, interface.METRIC_RUNNING: 2, interface.METRIC_WAITING: 1,
              f"{interface.METRIC_FIRST_TOKEN}_sum": first[0], f"{interface.METRIC_FIRST_TOKEN}_count": first[1]}  # fmt: skip
    samples = [(name, labels, float(value)) for name, value in values.items()]
    return Metrics(taken, (*samples, (interface.METRIC_REQUESTS, labels | {"outcome": "stop"}, float(stop))))


def test_the_text_of_a_real_triton_is_read_with_its_own_names():
    text = Path(__file__).with_name("triton_2_51_metrics.txt").read_text()
    metrics = parse_metrics(text)
    written = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert metrics.names() == written and "nv_inference_request_success" in written
    assert set(metrics.by("nv_inference_request_failure", "reason")) == {"OTHER", "BACKEND", "CANCELED", "REJECTED"}
    with pytest.raises(ValueError):
        parse_metrics("<html>not metrics</html>")


def test_sums_go_over_instances_and_what_is_missing_is_zero():
    text = f'# TYPE {interface.METRIC_TOKENS} counter\n' + "".join(
        f'{interface.METRIC_TOKENS}{{model="m",instance="m_{n}"}} {n + 1}\n' for n in range(3)
    )
    metrics = parse_metrics(text)
    assert metrics.total(interface.METRIC_TOKENS) == 6 and metrics.total(interface.METRIC_TOKENS, instance="m_2") == 3
    assert metrics.by(interface.METRIC_TOKENS, "model") == {"m": 6} and metrics.total("nothing") == 0


def test_a_point_is_what_happened_between_two_readings():
    point = point_between(reading(10, 100, 50, 3, (1.0, 4)), reading(12, 180, 70, 5, (1.6, 6)), 1000.0, MemoryReading(7, 8))
    assert (point.tokens_per_second, point.batch_size, point.requests) == (40, 4, {"stop": 2})
    assert point.first_token == pytest.approx(0.3) and (point.running, point.waiting) == (2, 1)
    assert (point.server_bytes, point.engine_bytes) == (7, 8)


def test_the_first_reading_has_gauges_only_and_an_idle_server_no_batch():
    first = point_between(None, reading(1, 500, 100, 9), 0.0)
    assert first.up and first.tokens_per_second is None and first.running == 2 and first.requests == {}
    idle = point_between(reading(1, 500, 100), reading(2, 500, 100), 0.0)
    assert idle.tokens_per_second == 0 and idle.batch_size is None and idle.first_token is None


def test_a_server_that_started_anew_gives_no_negative_rate():
    point = point_between(reading(10, 1000, 500, 30), reading(11, 40, 20, 1), 0.0)
    assert point.tokens_per_second == 40 and point.requests == {"stop": 1}


def test_the_quantile_of_a_histogram_is_that_of_promql():
    before = [(0.1, 10.0), (0.5, 10.0), (float("inf"), 10.0)]
    after = [(0.1, 60.0), (0.5, 110.0), (float("inf"), 110.0)]
    assert quantile(before, after, 0.5) == pytest.approx(0.1)
    assert quantile(before, after, 0.75) == pytest.approx(0.3)
    assert quantile([], [(0.1, 0.0), (float("inf"), 5.0)], 0.9) == pytest.approx(0.1), "what is above all bounds counts as the last"
    assert quantile(after, after, 0.5) is None and quantile([], [], 0.5) is None


def test_memory_is_that_of_the_process_that_listens():
    with FakeServer() as server:
        found = ServerProcesses(int(server.metrics_address.rpartition(":")[2])).read()
    assert found is not None and found.server > 10 << 20
    assert ServerProcesses(1).read() is None


def test_the_monitor_remembers_and_forgets():
    with FakeServer(seconds_per_token=0) as server:
        monitor = Monitor(server.metrics_address, every=0.01, keep=3)
        points = [monitor.look()]
        closed_loop(server.connect, uniform_jobs(5, prompt_tokens=3, max_new_tokens=4), 1)
        points.append(monitor.look())
        assert points[1].requests == {"length": 5} and points[1].batch_size == 1 and points[1].server_bytes
        report = monitor.report()
        assert report["totals"]["tokens"] == 20 and report["models"] == ["m"] and report["problem"] is None
        assert monitor.report(since=points[0].time)["points"][0]["time"] == points[1].time
        for _ in range(4):
            monitor.look()
        assert len(monitor.report()["points"]) == 3
    assert not monitor.look().up and "is the Triton server running" in monitor.report()["problem"]


def test_bad_intervals_are_refused():
    with pytest.raises(ValueError, match="every=0"):
        Monitor("127.0.0.1:1", every=0)


def test_the_router_watches_while_the_app_runs():
    with FakeServer() as server:
        app = FastAPI()
        app.include_router(monitor_router(server.metrics_address, every=0.02))
        with TestClient(app) as client:
            deadline = time.monotonic() + 5
            while len(client.get("/monitor/data").json()["points"]) < 3:
                assert time.monotonic() < deadline, "the monitor does not read"
                time.sleep(0.02)
            page = client.get("/monitor").text
            assert client.get("/monitor/data?since=x").status_code == 422
            assert [thread for thread in threading.enumerate() if thread.name == "monitor"]
    assert not [thread for thread in threading.enumerate() if thread.name == "monitor"]
    assert 'lang="ko"' in page and "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page


@contextlib.contextmanager
def served(address: str):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = FastAPI()
    app.include_router(monitor_router(address, every=0.2))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}/monitor"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.mark.browser
def test_the_page_draws_what_happens_and_says_when_the_server_is_gone(browser):
    faults, requests = [], []
    with FakeServer(max_rows=2, seconds_per_token=0.002) as server, served(server.metrics_address) as address:
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_function("document.getElementById('state').textContent === '작동 중'")
        closed_loop(server.connect, uniform_jobs(30, prompt_tokens=5, max_new_tokens=20), 4)
        page.wait_for_function("document.getElementById('where').textContent.includes('요청 30개, 토큰 600개')")
        assert page.locator("figure.chart").count() == 6 and page.locator(".tile").count() == 6
        rate = page.locator("figure.chart path").first.get_attribute("d")
        assert rate.count("L") >= 2, "a line through several points"
        assert page.locator("figure.chart rect").count() >= 1, "bars of the answers that ended"
        assert page.locator("figure", has_text="끝난 요청").locator(".legend").inner_text().startswith("길이 제한 30")
        page.get_by_role("button", name="15분").click()
        assert page.get_by_role("button", name="15분").get_attribute("aria-pressed") == "true"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out on a phone"
        server.__exit__()
        page.wait_for_function("document.getElementById('state').textContent === '응답 없음'")
        assert "Triton이 응답하지 않습니다" in page.locator("#problem").inner_text()
        server.__enter__()
        page.close()
    assert not faults and all(url.startswith(("http://127.0.0.1", "data:")) for url in requests)
