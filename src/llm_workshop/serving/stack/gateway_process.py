"""The endpoint's process: the gateway over the run's Triton, with the monitoring view at /monitor.

    python -m llm_workshop.serving.stack.gateway_process --scale laptop serving.api_port=8080
"""

from __future__ import annotations

import logging
import os
import sys

from llm_workshop.errors import exit_code_of
from llm_workshop.settings import Settings, settings_from_command_line


def main() -> int:
    settings = settings_from_command_line(quiet=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    return exit_code_of(lambda: _serve(settings))


def _serve(settings: Settings) -> None:
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.serving.gateway.run import KEY_VARIABLE, keys_from_text, run_gateway, triton_engines
    from llm_workshop.serving.monitoring.router import monitor_router

    serving = settings.serving
    # In a container others reach the address only through ports that docker-compose.yml publishes on 127.0.0.1.
    contained = bool(os.environ.get("WORKSHOP_CONTAINER"))
    address = f"{settings.run_name}={serving.triton_host}:{serving.grpc_port}"
    engines, ready = triton_engines([address], str((artifacts := Artifacts(settings)).require(artifacts.served)), wait=0)
    run_gateway(
        engines, ready=ready, host=serving.host, port=serving.api_port, api_key=keys_from_text(os.environ.get(KEY_VARIABLE)),
        allow_no_key=contained, allowed_hosts=("gateway",) if contained else (),
        extra_routers=[monitor_router(f"{serving.triton_host}:{serving.metrics_port}")],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
