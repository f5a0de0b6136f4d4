"""The ports of a stack, all tried before anything slow is begun."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from llm_workshop.serving.serve import try_to_listen

if TYPE_CHECKING:
    from llm_workshop.settings import Settings

PARTS = ("triton", "gateway", "page")


class Place(NamedTuple):
    """Where a part listens, and the setting that says so."""

    part: str
    what: str
    setting: str
    host: str
    port: int


def places(settings: Settings, parts: Sequence[str] = PARTS) -> list[Place]:
    """Every port that these parts of the stack need."""
    serving = settings.serving
    all_of_them = [
        Place("triton", "Triton's HTTP", "serving.http_port", serving.host, serving.http_port),
        Place("triton", "Triton's gRPC", "serving.grpc_port", serving.host, serving.grpc_port),
        Place("triton", "Triton's metrics", "serving.metrics_port", serving.host, serving.metrics_port),
        Place("gateway", "the OpenAI-compatible endpoint", "serving.api_port", serving.host, serving.api_port),
        Place("page", "the chat page", "chat.port", settings.chat.host, settings.chat.port),
    ]
    return [place for place in all_of_them if place.part in parts]


def check_ports(wanted: Sequence[Place]) -> None:
    """Raise ValueError for two of one number, and OSError in one line for those that cannot be used, with the cure."""
    for i, place in enumerate(wanted):
        for other in wanted[:i]:
            if place.port == other.port:
                raise ValueError(
                    f"{other.setting} and {place.setting} are both {place.port}: choose another for one, {_cure([place], wanted)}"
                )
    troubles = [(place, error) for place in wanted if (error := _trouble(place)) is not None]
    if not troubles:
        return
    for place, error in troubles:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise OSError(f"{place.host} ({place.what}) is no address of this machine: use 127.0.0.1")
    named = ", ".join(f"port {place.port} on {place.host} ({place.what}, {place.setting}) {_reason(error)}" for place, error in troubles)
    raise OSError(f"{named}: close what uses it, or choose another, {_cure([place for place, _ in troubles], wanted)}")


def _trouble(place: Place) -> OSError | None:
    try:
        try_to_listen(place.host, place.port)
    except OSError as error:
        return error
    return None


def _reason(error: OSError) -> str:
    return {errno.EADDRINUSE: "is in use", errno.EACCES: "needs administrator rights"}.get(error.errno, f"cannot be used ({error.strerror})")


def _cure(bad: Sequence[Place], wanted: Sequence[Place]) -> str:
    """What to type: another port for each of ``bad`` that is free now."""
    taken = {place.port for place in wanted}
    words, page = [], ""
    for place in bad:
        start = place.port + 100 if 1024 <= place.port < 65000 else 8100
        port = next(p for p in range(start, 65536) if p not in taken and _trouble(place._replace(port=p)) is None)
        taken.add(port)
        if place.part == "page":
            page = f"PORT={port}"
        else:
            words.append(f"{place.setting}={port}")
    return " ".join(filter(None, [f'ARGS="{" ".join(words)}"' if words else "", page]))
