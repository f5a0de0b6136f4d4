"""Every rule that a recipe may name, in the modules of this folder (each lists its own in ``STEPS``)."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from llm_workshop.curation.step import Step

#: Modules of this folder, in the order in which a pipeline uses such rules.
MODULES: tuple[str, ...] = (
    "unicode",
    "markup",
    "boilerplate",
    "repetition",
    "translated",
    "language",
    "filters",
    "truncation",
    "quality",
    "personal",
    "hate",
    "naive",
)


@cache
def steps_by_name() -> dict[str, type[Step]]:
    """The word of a recipe -> the rule's class."""
    found: dict[str, type[Step]] = {}
    for module in MODULES:
        for step in import_module(f"{__name__}.{module}").STEPS:
            assert step.name not in found, f"two rules are called {step.name}"
            found[step.name] = step
    return found
