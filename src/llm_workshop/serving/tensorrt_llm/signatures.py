"""The transcribed signatures of TensorRT-LLM's LLM API, and a check of arguments against them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

import yaml


@cache
def signatures() -> dict[str, Any]:
    """signatures.yaml: "llm", "sampling_params", "request_output", ...; see its head for where they come from."""
    text = resources.files(__package__).joinpath("signatures.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def parameters(of: str, method: str = "__init__") -> dict[str, list[Any]]:
    """Parameter -> [annotation] or [annotation, default]; ``of`` as "llm" or "sampling_params"."""
    return signatures()[of][method]


def check_arguments(known: dict[str, list[Any]], given: Iterable[str], what: str) -> None:
    """Raise ValueError where a name is unknown, or one without a default is missing."""
    given = set(given)
    if unknown := given - set(known):
        raise ValueError(f"{what} has no parameter {', '.join(sorted(unknown))}: known are {', '.join(known)}")
    if missing := {name for name, fact in known.items() if len(fact) == 1} - given:
        raise ValueError(f"{what} needs {', '.join(sorted(missing))}")
