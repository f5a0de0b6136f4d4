"""What several labs take up: a model, trained once for all tests of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.lab_runs import PRETRAIN, RUNS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder of artifacts in which week 5 has been run, without its reports."""
    folder = tmp_path_factory.mktemp("trained")
    command = [sys.executable, str(ROOT / PRETRAIN), "--scale", "smoke", *RUNS[PRETRAIN]]
    environment = {**os.environ, "ARTIFACTS_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return folder
