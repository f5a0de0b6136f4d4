"""The lab that serves: it asks the real stack in every way and takes it down."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.triton_stack import require_triton, small_artifacts

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_lab_asks_and_takes_down(tmp_path):
    require_triton()
    artifacts = small_artifacts(tmp_path)
    sys.path.insert(0, str(ROOT / "tests/llm_workshop/serving/stack"))
    from test_stack import free_ports

    names = ("serving.http_port", "serving.grpc_port", "serving.metrics_port", "serving.api_port", "chat.port")
    ports = [f"{name}={port}" for name, port in zip(names, free_ports(5), strict=True)]
    command = [sys.executable, str(ROOT / "labs/week08_serving/serve.py"), "--scale", "smoke", "chat.serve=false", *ports]
    environment = {**os.environ, "ARTIFACTS_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "다름!" not in done.stdout and "마지막은 /generate의 답과 같음" in done.stdout
    assert not (artifacts.root / "serving" / "service.json").exists()
    text = (artifacts.reports / "week08-serve.md").read_text(encoding="utf-8")
    [picture] = re.findall(r"\]\(([\w-]+\.png)\)", text)
    assert (artifacts.reports / picture).stat().st_size > 10_000
    assert "�" not in text and "nan" not in text and "OpenAI 클라이언트가 `smoke`에게" in text
