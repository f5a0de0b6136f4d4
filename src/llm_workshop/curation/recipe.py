"""A recipe: the rules, in order, with their settings, as a YAML file that a person writes.

    title: 한국어 웹 문서
    steps:
      - unicode: {form: NFC}
      - html
      - hangul_ratio: {minimum: 0.5}
    dedup: {near: {threshold: 0.8}}
"""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from llm_workshop.curation.step import Step
from llm_workshop.curation.steps import steps_by_name


class Recipe(BaseModel):
    """The rules of a pipeline. ``dedup`` is read by :mod:`llm_workshop.curation.dedup`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    steps: tuple[Step, ...]
    dedup: dict[str, Any] = {}

    def as_values(self) -> dict[str, Any]:
        """Plain values, defaults included: what a manifest or a digest needs."""
        steps = [{step.name: step.model_dump(mode="json")} for step in self.steps]
        return {"title": self.title, "steps": steps, "dedup": self.dedup}


def built_in_recipes() -> tuple[str, ...]:
    folder = resources.files("llm_workshop.curation") / "recipes"
    return tuple(sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".yaml")))


def load_recipe(name: str | Path) -> Recipe:
    """A built-in recipe by its name, or one by the path of its file.

    Raises ValueError that names the file, the rule or setting that is wrong, and the nearest right one.
    """
    if str(name) in built_in_recipes():
        text = (resources.files("llm_workshop.curation") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        raise ValueError(f"no recipe '{name}': use {', '.join(built_in_recipes())}, or the path of a YAML file")
    return parse_recipe(text, str(name))


def parse_recipe(text: str, name: str = "recipe") -> Recipe:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not isinstance(values.get("steps"), list):
        raise ValueError(f"{name} is no recipe: write 'title: ...' and a list 'steps:' of rules")
    unknown = set(values) - {"title", "steps", "dedup"}
    if unknown:
        raise ValueError(f"{name}: unknown key '{min(unknown)}': a recipe has title, steps and dedup")
    steps = tuple(_step(entry, f"{name}, step {number}") for number, entry in enumerate(values["steps"], 1))
    return Recipe(title=str(values.get("title", name)), steps=steps, dedup=values.get("dedup") or {})


def _step(entry: Any, place: str) -> Step:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ValueError(f"{place}: {entry!r} is no rule: write '- name' or '- name: {{setting: value}}'")
    [(name, settings)] = entry.items()
    known = steps_by_name()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ValueError(f"{place}: unknown rule '{name}'{hint}; there are {', '.join(known)}")
    try:
        return known[name](**(settings or {}))
    except (ValidationError, TypeError) as error:
        raise ValueError(f"{place} ({name}): {_explain(error, known[name])}") from None


def _explain(error: Exception, step: type[Step]) -> str:
    if not isinstance(error, ValidationError):
        return f"its settings must be 'name: value' pairs; it has {', '.join(step.model_fields) or 'none'}"
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{field}'; it has {', '.join(step.model_fields) or 'none'}"
    return f"{field} = {first.get('input')!r}: {first['msg']}"
