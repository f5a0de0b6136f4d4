"""The chat page's own process, in front of a Triton server.

    python -m llm_workshop.serving.page_process --scale laptop --triton 127.0.0.1:8001 --models base,int8 chat.port=7860
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_workshop.errors import exit_code_of, install_one_line_errors
from llm_workshop.settings import Settings, add_dials, load_settings

if TYPE_CHECKING:
    from llm_workshop.serving.client import TritonEngine


def triton_engines(
    address: str, models: Sequence[str], settings: Settings, wait_seconds: float, tokenizer: str | None = None
) -> list[TritonEngine]:
    """An engine for each of ``models`` at ``address`` (``HOST:PORT`` of gRPC); for none named, all that are served.

    Waits until they are ready.  Raises EngineError or ValueError telling which model is missing.
    """
    from llm_workshop.serving.client import TritonClient, TritonEngine
    from llm_workshop.serving.engine import EngineError

    end = time.monotonic() + wait_seconds
    with TritonClient.from_url(address) as server:
        while not server.is_live() and time.monotonic() < end:
            time.sleep(0.25)
        names = list(models) or sorted({entry["name"] for entry in server.models()})
    engines = []
    for name in names:
        client = TritonClient.from_url(address, model=name)
        while not client.is_ready():
            if time.monotonic() >= end:
                raise EngineError(
                    f"model {name!r} at {address} is not ready after {wait_seconds:.0f} s: look at the server's log, "
                    f"or choose among its models with --models"
                )
            time.sleep(0.25)
        engine = TritonEngine(client, tokenizer, settings.chat.max_turns)
        # What the server decodes together is asked together; the page tells the others how many are before them.
        engine.max_concurrent = settings.serving.max_rows * settings.serving.instances
        engines.append(engine)
    if not engines:
        raise EngineError(f"the server at {address} has no model: start it with `make week8-serve`")
    return engines


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="page_process", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--triton", metavar="HOST:PORT", help="gRPC address (default: serving.triton_host and grpc_port)")
    parser.add_argument("--models", default="", metavar="A,B", help="served models to choose from (default: all)")
    parser.add_argument("--tokenizer", metavar="FOLDER", help="the models' tokenizer (default: where the server says)")
    parser.add_argument("--host", help="address of the page (default: chat.host)")
    parser.add_argument("--port", type=int, help="port of the page (default: chat.port)")
    parser.add_argument("--feedback", metavar="FILE", help="where ratings are kept (default: in the run's serving folder)")
    parser.add_argument("--wait", type=float, default=120.0, metavar="SECONDS", help="how long the server may take to be ready")
    add_dials(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Open the page and stay until Ctrl-C or SIGTERM; a user's mistake is one line on stderr and exit code 1."""
    options = build_parser().parse_args(argv)
    install_one_line_errors()
    address = [f"chat.host={options.host}"] * (options.host is not None) + [f"chat.port={options.port}"] * (options.port is not None)
    return exit_code_of(lambda: _serve(options, [*options.overrides, *address]))


def _serve(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    from llm_workshop.serving.feedback.store import FeedbackStore
    from llm_workshop.serving.serve import check_address, serve

    settings = load_settings(options.scale, options.data, options.seed, overrides)
    check_address(settings.chat.host, settings.chat.port)
    triton = options.triton or f"{settings.serving.triton_host}:{settings.serving.grpc_port}"
    models = [name.strip() for name in options.models.split(",") if name.strip()]
    engines = triton_engines(triton, models, settings, options.wait, options.tokenizer)
    try:
        serve(settings, engines, FeedbackStore(options.feedback) if options.feedback else None)
    finally:
        for engine in engines:
            engine.close()


if __name__ == "__main__":
    sys.exit(main())
