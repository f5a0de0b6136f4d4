"""The parts of a run's stack, made from its settings."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from llm_workshop.serving.stack.child import WebPart

if TYPE_CHECKING:
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.serving.stack.keeper import Part
    from llm_workshop.settings import Settings

#: Sections whose values reach the child processes; the others decided the model, which is there already.
SECTIONS = ("generate", "chat", "serving")


def dials(settings: Settings) -> list[str]:
    """The command line that gives a child process the same settings."""
    values = settings.model_dump(mode="json", include=set(SECTIONS))
    overrides = [f"{section}.{key}={value if isinstance(value, str) else json.dumps(value)}" for section in SECTIONS for key, value in values[section].items()]
    return ["--scale", settings.scale, "--data", ",".join(settings.data), "--seed", str(settings.seed), *overrides]


def make_part(name: str, settings: Settings, artifacts: Artifacts) -> Part:
    """The part ``name`` of PARTS, not started yet."""
    logs = artifacts.root / "serving" / "logs"
    if name == "triton":
        return _triton(settings, artifacts)
    module, host, port, path = {
        "gateway": ("llm_workshop.serving.stack.gateway_process", settings.serving.host, settings.serving.api_port, "/health"),
        "page": ("llm_workshop.serving.page_process", settings.chat.host, settings.chat.port, "/"),
    }[name]
    command = [sys.executable, "-m", module, *dials(settings)]
    if name == "page":
        command += ["--tokenizer", str(artifacts.require(artifacts.served))]
    return WebPart(name, command, host, port, path, logs / f"{name}.log")


def _triton(settings: Settings, artifacts: Artifacts) -> Part:
    """Triton over the run's model repository, which is written anew: it follows from the model and the settings."""
    from llm_workshop.serving.stack.engine_part import TritonPart
    from llm_workshop.serving.triton.repository import write_repository
    from llm_workshop.serving.triton.server import Ports, TritonServer

    serving = settings.serving
    repository = write_repository(artifacts)
    server = TritonServer(
        repository,
        artifacts.root / "serving" / "logs",
        ports=Ports(serving.http_port, serving.grpc_port, serving.metrics_port),
        start_seconds=900 if serving.engine == "tensorrt_llm" else 120,  # it may compile its kernels first
        stop_seconds=10,
        host=serving.host,
    )
    return TritonPart(server)
