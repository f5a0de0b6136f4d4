"""Cleaning a corpus shard by shard in several processes; after an interruption it goes on with the next shard."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llm_workshop.artifacts import Artifacts, is_forced
from llm_workshop.curation.facts import merge_facts
from llm_workshop.curation.processes import run_in_processes
from llm_workshop.curation.recipe import Recipe, load_recipe
from llm_workshop.curation.shards import (
    CleaningJob,
    ShardCleaner,
    ShardResult,
    clean_name,
    count_shards,
    dropped_name,
    facts_name,
    finished_facts,
    raw_name,
)
from llm_workshop.curation.step import Step
from llm_workshop.progress import progress_bar
from scratch_llm.io import atomic_write

CARD = "card.json"
SECONDS = "seconds.jsonl"
MEGABYTE = 1_000_000


def build_clean(artifacts: Artifacts, recipe: Recipe | None = None, force: bool | None = None) -> Path:
    """Stage ``clean``: the raw shards after the recipe's rules, what was dropped, and the data card's figures.

    Finished shards of an interrupted run with the same rules and raw data are taken as they are.  ValueError if the
    stage ``raw`` is missing or the recipe is wrong; OSError if the disk is full.
    """
    settings = artifacts.settings.curation
    recipe = recipe or load_recipe(settings.recipe)
    used, inputs = {"title": recipe.title, "steps": recipe.as_values()["steps"]}, ("raw",)
    raw = artifacts.require("raw")
    if artifacts.skip_if_current("clean", used, inputs, force=force):
        return artifacts.path("clean")
    if is_forced(force):
        artifacts.clear_work("clean")
    work = artifacts.work("clean", used, inputs)
    workers = settings.workers or os.cpu_count() or 1
    with only_one_at(work), naming_a_full_disk(artifacts.root):
        for partial in artifacts.root.glob(".clean.*.partial"):  # the stage's folder of a run that was killed
            shutil.rmtree(partial, ignore_errors=True)
        started = time.perf_counter()
        with artifacts.write_stage("clean", used, inputs) as stage:
            redone = clean_shards(recipe.steps, raw, work, workers)
            stage.metrics.update(_publish(work, stage.folder, count_shards(raw), used))
            stage.metrics["seconds"] = round(time.perf_counter() - started, 3)
            stage.metrics["shards_taken_over"] = count_shards(raw) - redone
            stage.metrics["rule_seconds"] = _rule_seconds(work, [step.name for step in recipe.steps])
            stage.metrics["workers"] = workers
        artifacts.clear_work("clean")
    return artifacts.path("clean")


def clean_shards(steps: Sequence[Step], raw: Path, done: Path, workers: int) -> int:
    """Work on the shards of ``raw`` that ``done`` has not finished; returns how many those were."""
    done.mkdir(parents=True, exist_ok=True)
    for partial in done.glob(".*.partial"):  # left by a kill
        partial.unlink(missing_ok=True)
    numbers = range(count_shards(raw))
    open_numbers = [number for number in numbers if finished_facts(done, number) is None]
    sizes = {number: (raw / raw_name(number)).stat().st_size for number in numbers}
    total = sum(sizes.values())
    finished = total - sum(sizes[number] for number in open_numbers)
    if finished:
        print(f"clean: 조각 {len(numbers)}개 가운데 {len(numbers) - len(open_numbers)}개는 이미 끝났습니다. 이어서 합니다", flush=True)
    job = CleaningJob(tuple(steps), raw.resolve(), done.resolve())
    workers = max(1, min(workers, len(open_numbers)))
    with progress_bar("cleaning (MB)", (total - finished) / MEGABYTE) as update, open(done / SECONDS, "a", encoding="utf-8") as seconds:
        worked = 0
        for result in run_in_processes(ShardCleaner, job, open_numbers, workers):
            _note_seconds(seconds, result)
            worked += result.bytes
            update(worked / MEGABYTE)
    return len(open_numbers)


@contextlib.contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """The error of a full disk says of which folder it came: a write does not know its file's name."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC and not error.filename:
            raise OSError(error.errno, error.strerror, str(folder)) from None
        raise


@contextlib.contextmanager
def only_one_at(work: Path) -> Iterator[None]:
    """Keep a second process from the same stage, whatever its settings; the lock goes with the process, even if it is killed."""
    work.mkdir(parents=True, exist_ok=True)
    path = work.parent / f"{work.name.rsplit('-', 1)[0]}.lock"
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                raise BlockingIOError  # its last holder has removed it meanwhile, and another may hold a new one
        except OSError:
            raise ValueError(f"another process is at work in {work}: wait for it, or stop it") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # unfinished work, or another stage's, is there
                path.parent.rmdir()


def read_card(artifacts: Artifacts) -> dict[str, Any]:
    """The figures of the data card: facts of the documents, and the seconds from the manifest."""
    card = json.loads((artifacts.require("clean") / CARD).read_text(encoding="utf-8"))
    metrics = artifacts.read_manifest("clean")["metrics"]
    return {**card, **{key: metrics[key] for key in ("seconds", "rule_seconds", "workers")}}


def _publish(work: Path, folder: Path, shards: int, used: dict[str, Any]) -> dict[str, Any]:
    """The finished shards into the stage's folder (by hard links: the work stays until the stage is there), and the card."""
    def linked() -> Iterator[dict[str, Any]]:
        for number in range(shards):
            facts = finished_facts(work, number)
            if facts is None:
                raise ValueError(f"{work / facts_name(number)} is damaged: run the same command again")
            for name in (clean_name(number), dropped_name(number)):
                _link(work / name, folder / name)
            yield facts

    card = {"recipe": used, **merge_facts(linked())}
    with atomic_write(folder / CARD) as stream:
        json.dump(card, stream, ensure_ascii=False, indent=1)
    return {
        "documents": card["before"]["documents"],
        "kept": card["after"]["documents"],
        "dropped": {rule["name"]: rule["dropped"] for rule in card["rules"] if rule["dropped"]},
        "changed": {rule["name"]: rule["changed"] for rule in card["rules"] if rule["changed"]},
        "shards": shards,
    }


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _note_seconds(stream: Any, result: ShardResult) -> None:
    stream.write(json.dumps({"shard": result.number, "rules": result.rule_seconds, "seconds": result.seconds}) + "\n")
    stream.flush()


def _rule_seconds(work: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Seconds of each rule over all shards, those of the processes added up; one without a record counts as 0."""
    last: dict[int, list[float]] = {}
    for line in (work / SECONDS).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError, KeyError):  # a line cut by a kill
            record = json.loads(line)
            last[record["shard"]] = record["rules"]
    totals = [sum(column) for column in zip(*last.values())] or [0.0] * len(names)
    return [{"name": name, "seconds": round(total, 4)} for name, total in zip(names, totals)]
