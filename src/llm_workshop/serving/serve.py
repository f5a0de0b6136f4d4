"""Opening the chat page: the port is tried first, Ctrl-C closes it cleanly."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_workshop.serving.engine import ChatEngine

if TYPE_CHECKING:
    import gradio

    from llm_workshop.serving.feedback.store import FeedbackStore
    from llm_workshop.settings import Settings


def try_to_listen(host: str, port: int) -> None:
    """Raise the system's OSError if nothing can listen on ``host:port``."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        # As the server will do: a port that a closed server left in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def check_address(host: str, port: int) -> None:
    """Raise OSError in one line, with the cure, if nothing can listen on ``host:port``."""
    try:
        try_to_listen(host, port)
    except socket.gaierror as error:
        raise OSError(f"chat.host={host} is no address of this machine ({error.strerror}): use chat.host=127.0.0.1") from None
    except OSError as error:
        raise OSError(_explain(error, host, port)) from None


def launch(page: gradio.Blocks, host: str, port: int, css: str | None = None) -> str:
    """Start the server in the background; returns the page's address.  ``css``: instead of the chat page's."""
    # A proxy meant for the outside must not be asked for pages of this machine.
    for name in ("NO_PROXY", "no_proxy"):
        known = [part for part in os.environ.get(name, "").split(",") if part]
        os.environ[name] = ",".join(dict.fromkeys([*known, "localhost", "127.0.0.1", "::1"]))
    from llm_workshop.serving import look

    check_address(host, port)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        footer_links=[],
        max_file_size="1kb",  # nothing is uploaded here
        theme=look.theme(),
        css=css or look.CSS,
        head=look.HEAD,
    )
    shown = f"[{host}]" if ":" in host else host
    return f"http://{'127.0.0.1' if shown in ('0.0.0.0', '[::]') else shown}:{port}"


def serve(
    settings: Settings,
    engine: ChatEngine | Sequence[ChatEngine] | None = None,
    feedback: FeedbackStore | None = None,
) -> None:
    """Load the base model (or take ``engine``, or several), open the page and stay until Ctrl-C or SIGTERM.

    Ratings go to ``feedback``, by default to the file of this run.  Raises OSError for a port in use and
    ValueError for a missing model, each before anything slow.
    """
    check_address(settings.chat.host, settings.chat.port)
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.serving.feedback.store import FeedbackStore, feedback_path

    artifacts = Artifacts(settings)
    if engine is None:
        from llm_workshop.serving.scratch_engine import ScratchEngine

        engine = ScratchEngine.from_artifacts(artifacts)
    from llm_workshop.serving.chat_page import build_page

    page = build_page(engine, settings, feedback or FeedbackStore(feedback_path(artifacts)))
    address = launch(page, settings.chat.host, settings.chat.port)
    print(f"chat page: {address}  (Ctrl-C closes it)", flush=True)
    try:
        wait_for_signal()
    finally:
        page.session.close()
        page.close(verbose=False)
    print("\nchat page closed", flush=True)


def wait_for_signal() -> None:
    """Sleep until SIGINT (Ctrl-C) or SIGTERM (docker stop) comes; both are the ordinary end of a page."""
    if threading.current_thread() is not threading.main_thread():
        threading.Event().wait()
    done = threading.Event()
    previous = {s: signal.signal(s, lambda *_: done.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        # A timeout lets Python run the handler promptly on every platform.
        while not done.wait(timeout=1.0):
            pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f'port {port} on {host} is in use: close what uses it, or choose another with PORT={_other(port)}'
    if error.errno == errno.EACCES:
        return f'port {port} needs administrator rights: choose one above 1023, such as PORT=7860'
    return f"cannot listen on {host}:{port} ({error.strerror}): use chat.host=127.0.0.1"


def _other(port: int) -> int:
    return port + 1 if port < 65535 else 7860
