"""Opening and closing the page: addresses, ports, signals, a missing model."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import free_port

from llm_workshop.serving import serve

FAKE = Path(__file__).with_name("serve_fake.py")


def test_a_busy_port_names_the_port_and_the_cure():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf'port {port} on 127.0.0.1 is in use.*PORT={port + 1}'):
            serve.check_address("127.0.0.1", port)
    serve.check_address("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:7860.*chat\.host=127\.0\.0\.1"):
        serve.check_address("192.0.2.1", 7860)
    with pytest.raises(OSError, match=r"chat\.host=no such host is no address"):
        serve.check_address("no such host", 7860)


def test_the_last_port_has_a_cure_too():
    assert serve._other(65535) == 7860


def test_busy_port_as_a_program():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, str(FAKE), f"chat.port={port}"], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        f"error: port {port} on 127.0.0.1 is in use: close what uses it, or choose another with "
        f'PORT={port + 1}'
    ]


def test_a_missing_model_names_the_make_target(tmp_path):
    command = [sys.executable, "-m", "llm_workshop.cli", "page", "--scale", "smoke", f"chat.port={free_port()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no base-model at") and "make week5-pretrain SCALE=smoke" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_the_page_cleanly(number):
    port = free_port()
    program = subprocess.Popen(
        [sys.executable, str(FAKE), f"chat.port={port}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert f"chat page: http://127.0.0.1:{port}" in program.stdout.readline()
        started = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            assert answer.status == 200
        assert time.monotonic() - started < 2, "the root answers quickly enough for a health check"
        time.sleep(1)  # long enough for a version check or telemetry, if there were any
        program.send_signal(number)
        out, err = program.communicate(timeout=20)
    finally:
        program.kill()
    assert program.returncode == 0 and "chat page closed" in out
    assert "outside" not in err, err
    assert "Traceback" not in err and "error" not in err.lower(), err
