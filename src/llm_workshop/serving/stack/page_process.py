"""The chat page's process: the page over the run's Triton, with ratings in the run's feedback file.

    python -m llm_workshop.serving.stack.page_process --scale laptop chat.port=7860
"""

from __future__ import annotations

import os
import sys
import time

#: How long to wait for Triton to tell what it serves (seconds).
PATIENCE = 60.0


def main() -> int:
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.errors import DEBUG_VARIABLE, is_user_error, report_error
    from llm_workshop.serving.client import TritonClient, TritonEngine
    from llm_workshop.serving.engine import EngineError
    from llm_workshop.serving.serve import check_address, serve
    from llm_workshop.settings import settings_from_command_line

    settings = settings_from_command_line(quiet=True)
    try:
        check_address(settings.chat.host, settings.chat.port)
        client = TritonClient.from_url(f"{settings.serving.triton_host}:{settings.serving.grpc_port}")
        engine = TritonEngine(client, Artifacts(settings).require("base-model"), settings.chat.max_turns)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                engine.info()
                break
            except EngineError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
        serve(settings, engine)
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get(DEBUG_VARIABLE) or not is_user_error(error):
            raise
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
