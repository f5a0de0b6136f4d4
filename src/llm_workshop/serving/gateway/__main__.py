"""The command: an OpenAI-compatible endpoint in front of Triton servers.

    python -m llm_workshop.serving.gateway --triton 127.0.0.1:8001 --port 8080
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields

from llm_workshop.errors import exit_code_of
from llm_workshop.serving.gateway.limits import Limits
from llm_workshop.serving.gateway.run import KEY_VARIABLE, keys_from_text, run_gateway, triton_engines


def parser() -> argparse.ArgumentParser:
    make = argparse.ArgumentParser(
        prog="python -m llm_workshop.serving.gateway",
        description=__doc__.partition("\n")[0],
        epilog=f"{KEY_VARIABLE} holds the API key, or several with commas between them.",
    )
    make.add_argument(
        "--triton", action="append", metavar="[NAME=]HOST:PORT", help="gRPC address; may be given several times (default 127.0.0.1:8001)"
    )
    make.add_argument("--tokenizer", metavar="FOLDER", help="the model's folder, where the one the server names is not here")
    make.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="for the servers to answer (default 60)")
    make.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    make.add_argument("--port", type=int, default=8080, help="0 = any free one (default 8080)")
    make.add_argument("--no-key", action="store_true", help="ask for no key although other machines can reach the address")
    make.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name that a Host header may have")
    make.add_argument("--cors-origin", action="append", default=[], metavar="ORIGIN", help="pages from here may ask (default: none)")
    limits = make.add_argument_group("limits")
    for item in fields(Limits):
        kind = int if item.type == "int" else float
        flag = "--" + item.name.replace("_", "-")
        limits.add_argument(flag, type=kind, default=item.default, metavar="N", help=f"{item.metadata['help']} (default {item.default})")
    return make


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    return exit_code_of(lambda: _serve(options))


def _serve(options: argparse.Namespace) -> None:
    limits = Limits(**{item.name: getattr(options, item.name) for item in fields(Limits)})
    if not 0 <= options.port <= 65535:
        raise ValueError(f"--port {options.port}: use 0 to 65535")
    engines, ready = triton_engines(options.triton or ["127.0.0.1:8001"], options.tokenizer, options.wait)
    run_gateway(
        engines, ready=ready, host=options.host, port=options.port, limits=limits,
        api_key=keys_from_text(os.environ.get(KEY_VARIABLE)), allow_no_key=options.no_key,
        allowed_hosts=options.allow_host, cors_origins=options.cors_origin,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
