"""A real Triton server around one model, for as long as a load test lasts."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_workshop.serving.client import Retry, TritonClient
from llm_workshop.serving.loadtest.drive import Connect
from llm_workshop.serving.triton.engine_settings import EngineSettings
from llm_workshop.serving.triton.interface import MODEL_NAME
from llm_workshop.serving.triton.model_folder import check_model_folder, resolved
from llm_workshop.serving.triton.repository import write_models
from llm_workshop.serving.triton.server import HOST, Ports, TritonServer


def connector(grpc_address: str) -> Connect:
    """Makes clients that speak gRPC and take "busy" for an answer, so that a load test sees it."""
    return lambda: TritonClient.from_url(grpc_address, retry=Retry(attempts=1))


@dataclass(frozen=True)
class Served:
    """A server that is ready; ``seconds_to_ready`` is from its start until the first token of an answer could be had."""

    grpc_address: str
    metrics_address: str
    seconds_to_ready: float
    context_length: int

    @property
    def connect(self) -> Connect:
        return connector(self.grpc_address)


@contextlib.contextmanager
def served_model(settings: EngineSettings, *, instances: int = 1) -> Iterator[Served]:
    """Serve a model on free ports of this machine, in a temporary repository.

    Raises ValueError, with the cure, where there is no Triton server or the model cannot be served, and at the end
    RuntimeError, with the last lines of its log, if the server has died.
    """
    check_model_folder(settings.model)
    with tempfile.TemporaryDirectory(prefix="workshop-loadtest-") as folder:
        write_models(Path(folder, "repository"), {MODEL_NAME: resolved(settings)}, instances=instances)
        started = time.perf_counter()
        with TritonServer(Path(folder, "repository"), Path(folder, "logs"), ports=free_ports()) as server:
            seconds = time.perf_counter() - started
            with TritonClient.from_url(server.grpc_address) as client:
                context = client.info().context_length
            yield Served(server.grpc_address, server.metrics_address, seconds, context)
            server.check()


def free_ports() -> Ports:
    """Three ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(3)]
        for probe in probes:
            probe.bind((HOST, 0))
        return Ports(*(probe.getsockname()[1] for probe in probes))
