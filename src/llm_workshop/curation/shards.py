"""One shard of raw documents through the rules: what is kept, what is dropped and why, and the facts of it.

A shard is the unit of work and of resumption.  Its three files appear one after the other, each whole or not at all;
the facts come last, so that a shard with facts is done, whatever happens to the process at any moment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from llm_workshop.curation.facts import EXCERPT, Histograms, RuleFacts, TagCounts
from llm_workshop.curation.step import Drop, Step
from scratch_llm.io import atomic_write

#: Documents, and characters, that pass a rule together: enough to time rules cheaply, too few to fill the memory.
CHUNK_DOCUMENTS, CHUNK_BYTES = 256, 1_000_000


def raw_name(number: int) -> str:
    return f"raw-{number:05d}.jsonl"


def clean_name(number: int) -> str:
    return f"clean-{number:05d}.jsonl"


def dropped_name(number: int) -> str:
    return f"dropped-{number:05d}.jsonl"


def facts_name(number: int) -> str:
    return f"facts-{number:05d}.json"


@dataclass(frozen=True)
class CleaningJob:
    """What every worker is told: the rules in order, where raw shards lie, where finished ones go."""

    steps: tuple[Step, ...]
    raw: Path
    done: Path


@dataclass(frozen=True)
class ShardResult:
    """A finished shard: bytes read, seconds of each rule, seconds of all (reading and writing included)."""

    number: int
    bytes: int
    rule_seconds: tuple[float, ...]
    seconds: float


class ShardCleaner:
    """Calls the rules; ``start()`` of each has been called once.  This is the ``make`` of ``run_in_processes``."""

    def __init__(self, job: CleaningJob):
        self.job = job
        for step in job.steps:
            step.start()

    def __call__(self, number: int) -> ShardResult:
        started = time.perf_counter()
        source, done = self.job.raw / raw_name(number), self.job.done
        work = _ShardWork(self.job.steps)
        with atomic_write(done / clean_name(number), "wb") as kept, atomic_write(done / dropped_name(number), "wb") as dropped:
            for lines in _chunks(source):
                work.chunk(lines, source, kept, dropped)
        facts = work.facts()
        facts["files"] = {name(number): (done / name(number)).stat().st_size for name in (clean_name, dropped_name)}
        with atomic_write(done / facts_name(number)) as stream:
            json.dump(facts, stream, ensure_ascii=False, indent=1)
        return ShardResult(number, source.stat().st_size, tuple(work.rule_seconds), time.perf_counter() - started)


def finished_facts(done: Path, number: int) -> dict[str, Any] | None:
    """The facts of a shard if it is finished and its files are whole, else None."""
    try:
        facts = json.loads((done / facts_name(number)).read_text(encoding="utf-8"))
        whole = all((done / name).stat().st_size == size for name, size in facts["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return facts if whole else None


def count_shards(folder: Path) -> int:
    return sum(1 for _ in folder.glob("raw-*.jsonl"))


class _ShardWork:
    """The running totals of one shard."""

    def __init__(self, steps: Sequence[Step]):
        self.steps = steps
        self.rules = [RuleFacts(step.name) for step in steps]
        self.rule_seconds = [0.0] * len(steps)
        self.before, self.after, self.tags = Histograms(), Histograms(), TagCounts()

    def chunk(self, lines: list[bytes], source: Path, kept: IO[bytes], dropped: IO[bytes]) -> None:
        records = [_parse(line, source) for line in lines]
        texts = [record["text"] for record in records]
        tags: list[dict[str, Any]] = [{} for _ in records]
        self.before.add(texts)
        alive = range(len(texts))
        for rule, step in enumerate(self.steps):
            began = time.perf_counter()
            try:
                outcomes = [step(texts[i], tags[i]) for i in alive]
            except Exception as error:
                raise _rule_error(step, records, texts, tags, alive) from error
            self.rule_seconds[rule] += time.perf_counter() - began
            alive = self._note(rule, alive, outcomes, records, texts, dropped)
        for i in alive:
            kept.write(_output_line(lines[i], records[i], texts[i], tags[i]))
            if tags[i]:
                self.tags.add(tags[i])
        self.after.add([texts[i] for i in alive])

    def _note(self, rule: int, alive: Sequence[int], outcomes: list, records: list[dict], texts: list[str], dropped: IO[bytes]) -> list[int]:
        """Enter what the rule did to each text; returns the numbers of those that go on."""
        facts, still = self.rules[rule], []
        facts.seen += len(outcomes)
        for i, outcome in zip(alive, outcomes):
            if outcome is texts[i]:
                still.append(i)
                continue
            if isinstance(outcome, str) and not outcome.strip():
                outcome = Drop("empty", "nothing was left of it")
            if isinstance(outcome, str):
                if outcome != texts[i]:
                    facts.note_change(records[i]["id"], texts[i], outcome)
                    texts[i] = outcome
                still.append(i)
            elif isinstance(outcome, Drop):
                facts.note_drop(records[i]["id"], texts[i], outcome)
                dropped.write(_dropped_line(records[i], facts.name, outcome, texts[i]))
            else:
                raise TypeError(f"rule '{facts.name}' returned {outcome!r}: a rule returns the text or a Drop")
        return still

    def facts(self) -> dict[str, Any]:
        return {
            "rules": [rule.as_values() for rule in self.rules],
            "before": self.before.as_values(),
            "after": self.after.as_values(),
            "tags": self.tags.as_values(),
        }


def _chunks(source: Path) -> Iterator[list[bytes]]:
    with open(source, "rb") as stream:
        lines, size = [], 0
        for line in stream:
            lines.append(line)
            size += len(line)
            if len(lines) >= CHUNK_DOCUMENTS or size >= CHUNK_BYTES:
                yield lines
                lines, size = [], 0
        if lines:
            yield lines


def _parse(line: bytes, source: Path) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if not isinstance(record["text"], str) or not isinstance(record["id"], str):
            raise TypeError("id and text must be strings")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source} has a line that is no document ({error!r}): run 'make week2-collect FORCE=1'") from None
    return record


def _output_line(line: bytes, record: dict[str, Any], text: str, tags: dict[str, Any]) -> bytes:
    """The document as it goes on; the very line it came in where there is nothing new to say."""
    if text != record["text"]:
        record["text"] = text
        record.pop("messages", None)  # turns that the rules did not see no longer agree with the text
    elif not tags and "tags" not in record:
        return line
    if tags:
        record["tags"] = tags
    else:
        record.pop("tags", None)
    return _json_line(record)


def _dropped_line(record: dict[str, Any], rule: str, drop: Drop, text: str) -> bytes:
    return _json_line({"id": record["id"], "rule": rule, "reason": drop.reason, "detail": drop.detail, "start": text[:EXCERPT]})


def _json_line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _rule_error(step: Step, records: list[dict], texts: list[str], tags: list[dict], alive: Sequence[int]) -> Exception:
    """Which text a rule fell over: rules are pure, so it falls again."""
    for i in alive:
        try:
            step(texts[i], dict(tags[i]))
        except Exception as error:
            return RuntimeError(f"rule '{step.name}' failed on document '{records[i]['id']}': {type(error).__name__}: {error}")
    return RuntimeError(f"rule '{step.name}' failed, and not again on the same texts: it must not keep a memory")
