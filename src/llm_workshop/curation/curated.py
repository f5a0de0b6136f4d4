"""Stage ``curated``: the cleaned shards without duplicates, as ``train.jsonl`` and ``valid.jsonl``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from llm_workshop.artifacts import Artifacts, is_forced
from llm_workshop.curation.dedup.pipeline import deduplicate
from llm_workshop.curation.dedup.settings import dedup_settings
from llm_workshop.curation.pipeline import build_clean, naming_a_full_disk, only_one_at
from llm_workshop.curation.recipe import Recipe, load_recipe


def build_curated(artifacts: Artifacts, recipe: Recipe | None = None, force: bool | None = None) -> Path:
    """Deduplicate the stage ``clean`` by the recipe's ``dedup``; unfinished work is taken up after an interruption.

    The manifest's metrics say how many documents were kept and dropped, and the seconds of each part.  ValueError if
    the stage ``clean`` is missing, a setting is wrong, or nothing is left; OSError if the disk is full.
    """
    recipe = recipe or load_recipe(artifacts.settings.curation.recipe)
    settings = dedup_settings(recipe.dedup)
    used, inputs = {"dedup": settings.model_dump(mode="json")}, ("clean",)
    shards = sorted(artifacts.require("clean").glob("clean-*.jsonl"))
    if artifacts.skip_if_current("curated", used, inputs, force=force):
        return artifacts.path("curated")
    if is_forced(force):
        artifacts.clear_work("curated")
    work = artifacts.work("curated", used, inputs)
    with only_one_at(work), naming_a_full_disk(artifacts.root):
        with artifacts.write_stage("curated", used, inputs) as stage:
            facts = deduplicate(shards, stage.folder, settings, artifacts.settings.curation.workers or os.cpu_count() or 1, work)
            if not facts["kept"]["train"]["documents"]:
                raise ValueError("nothing is left to train on after the rules and the deduplication: loosen the recipe, or take more data")
            stage.metrics.update({key: facts[key] for key in ("documents", "kept", "dropped", "seconds")})
        artifacts.clear_work("curated")
    return artifacts.path("curated")


def build_chain(artifacts: Artifacts, again: str = "") -> Path:
    """Stages ``raw``, ``clean`` and ``curated``, each where it is not current; returns the folder of the last.

    ``again`` is the command that ``build_raw`` advises where too many records are broken.
    """
    from llm_workshop.curation.collect import build_raw

    recipe = load_recipe(artifacts.settings.curation.recipe)
    dedup_settings(recipe.dedup)  # what is wrong there is told before the work, not after it
    build_raw(artifacts, again=again)
    build_clean(artifacts, recipe)
    return build_curated(artifacts, recipe)


def removed_documents(curated: Path) -> dict[str, str]:
    """Id of each document that deduplication removed -> id of the one that stayed ("" where a rule names none)."""
    return {record["id"]: record["of"] or "" for record in _removals(curated)}


def removing_rules(curated: Path) -> dict[str, str]:
    """Id of each document that deduplication removed -> the rule that did (exact, near, contaminated, empty)."""
    return {record["id"]: record["rule"] for record in _removals(curated)}


def _removals(curated: Path) -> list[dict[str, Any]]:
    with open(curated / "duplicates.jsonl", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
