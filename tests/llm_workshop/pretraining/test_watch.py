"""The page that watches runs: what it finds, what it sends, what it shows in a browser."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from llm_workshop.artifacts import Artifacts
from llm_workshop.cli import main
from llm_workshop.pretraining.watch import (
    WatchServer,
    elsewhere,
    find_runs,
    thinned,
    watch,
    watched,
    write_page,
)
from llm_workshop.settings import load_settings


def write_run(folder: Path, steps: int, of: int | None = None, age: float = 0.0, bad: int | None = None) -> Path:
    folder.mkdir(parents=True)
    with open(folder / "metrics.jsonl", "w", encoding="utf-8") as stream:
        for step in range(1, steps + 1):
            record = {"step": step, "loss": 9 * math.exp(-step / 80) + 2 + 0.2 * math.sin(step), "learning_rate": 3e-3 * (1 - step / 500),
                      "grad_norm": 1 + 0.3 * math.cos(step), "tokens_per_second": 9000 + 400 * math.sin(step * 2), "mfu": 0.52,
                      "seconds": step * 0.5}
            if step % 40 == 0:
                record |= {"valid_loss": 9 * math.exp(-step / 80) + 2.2, "bits_per_byte": 2 + math.exp(-step / 80)}
            if step == bad:
                record["bad_steps"] = [{"step": step, "problem": "nan"}]
            stream.write(json.dumps(record) + "\n")
    with open(folder / "samples.jsonl", "w", encoding="utf-8") as stream:
        for step in range(40, steps + 1, 40):
            sample = {"step": step, "text": f"봄이 오면 → 꽃이 피고 </script> {step}", "sources": {"sample": 3.2, "nsmc": 4.1}}
            stream.write(json.dumps(sample, ensure_ascii=False) + "\n")
    if of is not None:
        (folder / "run.json").write_text(json.dumps({"steps": of, "summary": "plan: 6.5 M parameters, 5.5 M tokens"}), encoding="utf-8")
    os.utime(folder / "metrics.jsonl", (time.time() - age,) * 2)
    return folder


@pytest.fixture
def root(tmp_path):
    write_run(tmp_path / ".work" / "base-model-1a2b3c", 240, of=400, bad=100)
    write_run(tmp_path / "base-model", 120, age=500)
    write_run(tmp_path / ".work" / "trials" / "lora-4", 30, age=1000)
    return tmp_path


def test_the_latest_run_is_shown_first(root):
    assert [run.name for run in find_runs(root)] == ["base-model-1a2b3c (.work)", "base-model", "lora-4 (.work)"]
    data = watched(root)
    assert (data["name"], data["state"], data["steps"]) == ("base-model-1a2b3c (.work)", "running", 400)
    assert data["seconds_to_go"] == pytest.approx(0.5 * 160)
    assert [sample["step"] for sample in data["samples"]] == [40, 80, 120, 160, 200, 240]
    done = watched(root, "base-model")
    assert (done["state"], done["steps"], done["seconds_to_go"]) == ("finished", 120, None)
    assert watched(root, "lora-4 (.work)")["state"] == "stopped"
    assert watched(root, "gone")["name"] == "base-model-1a2b3c (.work)"  # a run that ended has moved


def test_a_run_that_has_just_begun(tmp_path):
    assert watched(tmp_path) == {"runs": [], "records": [], "samples": [], "state": "none"}
    folder = write_run(tmp_path / ".work" / "x", 0)
    assert watched(tmp_path)["records"] == [] and watched(tmp_path)["steps"] is None
    with open(folder / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 1, "loss": 9.0}\n{"step": 2, "lo')  # a line at work
    assert [record["step"] for record in watched(tmp_path)["records"]] == [1]


def test_thinning_leaves_out_nothing_of_note():
    records = [{"step": n} | ({"valid_loss": 1.0} if n == 777 else {}) | ({"bad_steps": [1]} if n == 1234 else {}) for n in range(1, 5001)]
    kept = thinned(records, 100)
    assert 100 <= len(kept) <= 104 and {1, 777, 1234, 5000} <= {record["step"] for record in kept}
    assert thinned(records[:50], 100) == records[:50]


def test_the_server_answers(root):
    with WatchServer(root, port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(f"{address}/") as answer:
            assert "학습 지켜보기" in answer.read().decode() and answer.headers["Content-Type"] == "text/html; charset=utf-8"
        with urllib.request.urlopen(f"{address}/data?run=base-model") as answer:
            assert json.load(answer)["name"] == "base-model"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/metrics.jsonl")
        with pytest.raises(OSError, match=f"cannot serve at 127.0.0.1:{server.server_port} .*choose another with --port"):
            WatchServer(root, port=server.server_port)
        server.shutdown()


def test_the_command_writes_a_page(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ARTIFACTS_DIR", str(tmp_path / "artifacts"))
    shutil.copytree(root / "base-model", tmp_path / "artifacts" / "smoke" / "base-model")
    out = tmp_path / "page.html"
    assert main(["watch", "--scale", "smoke", "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert "/*DATA*/" not in text and '"steps": 120' in text
    assert text.count("</script>") == 1  # a sample that holds the word does not end the program
    with pytest.raises(ValueError, match=r"no run under .*: start one with 'make week5-pretrain SCALE=smoke'"):
        watch(Artifacts(load_settings("smoke"), tmp_path / "empty"), 0, str(out))


def test_runs_of_another_scale_are_named(tmp_path, capsys):
    artifacts = Artifacts(load_settings("laptop"), tmp_path)
    with pytest.raises(ValueError, match=r"'make week5-pretrain'$"):
        watch(artifacts, 0, str(tmp_path / "page.html"))
    write_run(tmp_path / "smoke" / "base-model", 3)
    with pytest.raises(ValueError, match=r"there are runs under smoke: 'make watch SCALE=smoke' shows the latest of them$"):
        watch(artifacts, 0, str(tmp_path / "page.html"))
    write_run(tmp_path / "gpu-nsmc+ynat" / "base-model", 3, age=50)
    assert elsewhere(artifacts) == "; there are runs under gpu-nsmc+ynat, smoke: 'make watch SCALE=smoke' shows the latest of them"
    os.utime(tmp_path / "smoke" / "base-model" / "metrics.jsonl", (1, 1))
    assert "'make watch SCALE=gpu DATA=nsmc,ynat'" in elsewhere(artifacts)


def test_the_summary_is_shown_in_korean(tmp_path):
    folder = write_run(tmp_path / "base-model", 3)
    line = ("plan: 0.5 M parameters, 0.8 M tokens, 2.8 TFLOP, about 9 s judged by a step just now; memory 75 MB (weights 2 MB, gradients 2 MB, "
            "optimizer 4 MB, activations 21 MB, workspace 5 MB, the rest the allocator's), 20.0 GB free")
    (folder / "run.json").write_text(json.dumps({"steps": 3, "summary": line}), encoding="utf-8")
    assert watched(tmp_path)["summary"] == (
        "계획: 파라미터 0.5 M, 토큰 0.8 M, 계산 2.8 TFLOP, 방금 재 본 스텝으로 셈하면 약 9초, 메모리 75 MB (가중치 2 MB, 기울기 2 MB, "
        "옵티마이저 4 MB, 활성값 21 MB, 작업 공간 5 MB, 나머지는 할당기), 빈 메모리 20.0 GB")


def test_in_a_browser(root, tmp_path):
    """Live: the page draws, goes on as the run does, and shows another run when it is asked for."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright to run the browser tests")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium found: apt-get install chromium fonts-nanum to run the browser tests")
    with WatchServer(root, port=0) as server, playwright.sync_playwright() as driver:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1180, "height": 980})
        problems: list = []
        page.on("pageerror", lambda error: problems.append(error))
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_selector("figure")
        assert page.locator("figure").count() == 5 and page.inner_text("#state") == "학습 중"
        assert "240 / 400" in page.inner_text("#figures") and "1:20" in page.inner_text("#figures")
        assert "</script> 240" in page.locator(".sample").first.inner_text()
        if folder := os.environ.get("WATCH_PICTURES"):
            page.screenshot(path=f"{folder}/watch.png", full_page=True)
        with open(root / ".work" / "base-model-1a2b3c" / "metrics.jsonl", "a") as stream:
            stream.write(json.dumps({"step": 241, "loss": 2.0, "learning_rate": 1e-3, "grad_norm": 1.0, "tokens_per_second": 1.0, "seconds": 121}) + "\n")
        page.wait_for_function("document.getElementById('figures').innerText.includes('241 / 400')", timeout=15_000)
        page.select_option("#runs", "base-model")
        page.wait_for_function("document.getElementById('state').innerText === '끝남'", timeout=15_000)
        server.shutdown()
        server.server_close()
        page.wait_for_function("document.getElementById('state').innerText === '연결 끊김'", timeout=15_000)
        write_page(root, tmp_path / "kept.html")
        page.set_viewport_size({"width": 400, "height": 900})
        page.goto((tmp_path / "kept.html").as_uri())
        assert page.locator("#written").is_visible()
        assert page.locator("figure").count() == 5
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if folder := os.environ.get("WATCH_PICTURES"):
            page.screenshot(path=f"{folder}/watch-narrow.png", full_page=True)
        (root / "base-model" / "samples.jsonl").unlink()
        shutil.rmtree(root / ".work")
        write_page(root, tmp_path / "no-samples.html")
        page.goto((tmp_path / "no-samples.html").as_uri())
        assert page.locator("figure").count() == 5 and not page.locator("#written").is_visible()
        chromium.close()
        assert not problems
