"""`workshop serve`: bring the stack up and stay, tell how it is, or take it down."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llm_workshop.artifacts import Artifacts
from llm_workshop.serving.stack.child import answers, reachable
from llm_workshop.serving.stack.keeper import times
from llm_workshop.serving.stack.ports import check_ports, places
from llm_workshop.serving.stack.supervisor import Stack, service_of
from llm_workshop.serving.triton.interface import MODEL_NAME

if TYPE_CHECKING:
    from llm_workshop.settings import Settings

#: What is asked of a part to see whether it is ready.
READY_PATHS = {"triton": "/v2/health/ready", "gateway": "/health", "page": "/"}


def serve(settings: Settings, only: Sequence[str] | None = None) -> int:
    """Bring the stack up and stay until Ctrl-C or SIGTERM; 1, and the reason on standard error, if it breaks."""
    stack = Stack(settings, Artifacts(settings), only)
    try:
        with stack.woken_by_signals(), stack:
            if not stack.stopped:
                print(examples(settings, stack.names), flush=True)
                stack.wait()
            print("\ntaking the stack down", flush=True)
    except RuntimeError as error:  # with the end of a log, which is worth its lines
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("the stack is down", flush=True)
    return 0


def check_port(settings: Settings, only: Sequence[str] | None = None) -> int:
    """Raise what a start would, for a stack that runs already or for a port in use."""
    stack = Stack(settings, Artifacts(settings), only)
    with stack.service.hold():
        check_ports(places(settings, stack.names))
    return 0


def stop(settings: Settings, only: Sequence[str] | None = None) -> int:
    """End the run's running stack."""
    service_of(Artifacts(settings), only).stop()
    print("the stack is down", flush=True)
    return 0


def status(settings: Settings, only: Sequence[str] | None = None) -> int:
    """Print the running stack's parts; 0 if all are ready, 1 if one is not, 3 if no stack of this run is running."""
    service = service_of(Artifacts(settings), only)
    facts = service.read()
    if not service.runs() or facts is None:
        print(f"no serving stack of run {settings.run_name} is running (`workshop serve` starts one; another run: --scale, --data)")
        return 3
    here = facts["host"] == socket.gethostname()
    place = "" if here else f" on {facts['host']}"
    print(f"serving stack of run {facts['run']}: process {facts['pid']}{place}, since {facts['started']}, commit {facts['commit']}")
    all_ready = True
    for name, part in facts["parts"].items():
        where = urlsplit(part["address"])
        ready = answers(where.hostname, where.port, READY_PATHS[name])
        all_ready &= ready
        again = f", started again {times(part['restarts'])}" if part["restarts"] else ""
        print(f"  {name:8} {part['address']:24} {'ready' if ready else 'NOT ready':9} process {part['pid']}{again}  log {part['log']}")
    return 0 if all_ready else 1


def examples(settings: Settings, names: Sequence[str]) -> str:
    """What to type to ask each part, as a text for the terminal."""
    serving = settings.serving
    host = reachable(serving.host)
    lines = []
    if "triton" in names:
        url = f"http://{host}:{serving.http_port}/v2/models/{MODEL_NAME}"
        body = '{"text_input": "안녕하세요", "sampling_param_max_tokens": 32}'
        lines += ["", "ask Triton:", f"  curl {url}/generate -d '{body}'"]
    if "gateway" in names:
        url = f"http://{host}:{serving.api_port}/v1"
        key = ' -H "Authorization: Bearer $WORKSHOP_API_KEY"' if os.environ.get("WORKSHOP_API_KEY") else ""
        body = f'{{"model": "{settings.run_name}", "messages": [{{"role": "user", "content": "안녕하세요"}}]}}'
        lines += [
            "ask the OpenAI-compatible endpoint:",
            f"  curl {url}/chat/completions -H 'Content-Type: application/json'{key} -d '{body}'",
            "  python: from openai import OpenAI",
            f'          client = OpenAI(base_url="{url}", api_key="none")  # or what WORKSHOP_API_KEY holds',
            f'          client.chat.completions.create(model="{settings.run_name}", messages=[{{"role": "user", "content": "안녕하세요"}}])',
            f"watch it: http://{host}:{serving.api_port}/monitor",
        ]
    if "page" in names:
        lines += [f"chat page: http://{reachable(settings.chat.host)}:{settings.chat.port}"]
    return "\n".join([*lines, "", "Ctrl-C takes the stack down"])
