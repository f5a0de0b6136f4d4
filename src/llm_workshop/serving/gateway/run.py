"""Starting the gateway: settings in, a listening server out, Ctrl-C or SIGTERM ends it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from fastapi import APIRouter

from llm_workshop.serving.engine import ChatEngine, EngineError
from llm_workshop.serving.gateway.app import create_app
from llm_workshop.serving.gateway.gate import LOOPBACK_NAMES
from llm_workshop.serving.gateway.http_server import is_loopback, listen, make_server
from llm_workshop.serving.gateway.limits import Limits

KEY_VARIABLE = "WORKSHOP_API_KEY"


def run_gateway(
    engines: Mapping[str, ChatEngine],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    api_key: str | Sequence[str] | None = None,
    allow_no_key: bool = False,
    allowed_hosts: Sequence[str] = (),
    limits: Limits | None = None,
    extra_routers: Sequence[APIRouter] = (),
    cors_origins: Sequence[str] = (),
    ready: Mapping[str, Callable[[], bool]] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; then answers in progress have a few seconds to end.

    ``port`` 0 takes any free one; the address is printed.  On a loopback address only the names of this machine and
    ``allowed_hosts`` may stand in Host headers; elsewhere all may, unless ``allowed_hosts`` names some.  Raises
    ValueError for an address that others can reach without a key, OSError for a port that cannot be had.
    """
    local = is_loopback(host)
    if not (local or api_key or allow_no_key):
        raise ValueError(
            f"--host {host} can be reached from other machines: set {KEY_VARIABLE}, listen on 127.0.0.1, or say "
            "--no-key if something before it asks for a key"
        )
    limits = limits or Limits()
    hosts = [*LOOPBACK_NAMES, host, *allowed_hosts] if local or allowed_hosts else None
    app = create_app(
        engines, limits=limits, api_key=api_key, extra_routers=extra_routers, cors_origins=cors_origins,
        allowed_hosts=hosts, ready=ready,
    )  # fmt: skip
    with listen(host, port) as listener:
        address, port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        print(f"gateway: http://{shown}:{port}/v1  models: {', '.join(engines)}", flush=True)
        with _signals_end_well():
            make_server(app, limits).run(sockets=[listener])


@contextmanager
def _signals_end_well() -> Iterator[None]:
    """Uvicorn raises the signal that stopped it once more at its end; here that is the ordinary end, without a trace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def keys_from_text(text: str | None) -> tuple[str, ...]:
    """The keys of WORKSHOP_API_KEY: one, or several with commas between them."""
    return tuple(key.strip() for key in (text or "").split(",") if key.strip())


def triton_engines(urls: Sequence[str], tokenizer: str | None, wait: float) -> tuple[dict, dict]:
    """Engines and ``ready`` by name for Triton servers ``[NAME=]HOST:PORT`` (gRPC); waits for each to tell its model.

    Without NAME a model goes by its own.  Raises EngineError for a server that does not answer within ``wait``
    seconds, ValueError for two models of one name.
    """
    from llm_workshop.serving.client import TritonClient, TritonEngine

    engines, ready = {}, {}
    end = time.monotonic() + wait
    for item in urls:
        name, _, url = item.rpartition("=")
        client = TritonClient.from_url(url)
        engine = TritonEngine(client, tokenizer)
        name = name or _patiently(engine, end).name
        if name in engines:
            raise ValueError(f"two models go by the name {name!r}: write --triton NAME=HOST:PORT")
        engines[name], ready[name] = engine, client.is_ready
    return engines, ready


def _patiently(engine: ChatEngine, end: float):
    while True:
        try:
            return engine.info()
        except EngineError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
