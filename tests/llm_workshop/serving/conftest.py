"""Fixtures for the chat page: settings, the fake engine, a page that is being served, a browser."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_engine import FakeEngine
from support.triton_stack import triton_stack  # noqa: F401

from llm_workshop.settings import load_settings

BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def settings():
    return load_settings("smoke")


@pytest.fixture
def engine():
    return FakeEngine(seconds_per_token=0.0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium of the system; skips loudly where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright to run the browser tests")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium found: apt-get install chromium fonts-nanum to run the browser tests")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=BROWSER_ARGUMENTS)
        yield chromium
        chromium.close()
