"""Run by tests as a program: the chat page on a fake engine, closed by Ctrl-C like the real one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fake_engine import FakeEngine

from llm_workshop.errors import install_one_line_errors
from llm_workshop.serving.serve import serve
from llm_workshop.settings import load_settings


def report_outside_connections(event, arguments):
    """Audit hook: the server has no business with any other machine."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        if arguments[1][0] not in ("127.0.0.1", "::1", "localhost"):
            print(f"outside connection to {arguments[1]}", file=sys.stderr, flush=True)
    elif event == "socket.getaddrinfo" and arguments[0] not in (None, "127.0.0.1", "::1", "localhost"):
        print(f"outside look-up of {arguments[0]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.addaudithook(report_outside_connections)
    install_one_line_errors()
    serve(load_settings("smoke", overrides=sys.argv[1:]), FakeEngine())
