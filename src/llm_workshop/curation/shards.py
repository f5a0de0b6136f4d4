"""One shard of raw documents through the rules: what is kept, what is dropped and why, and the facts of it.

A shard is the unit of work and of resumption.  Its three files appear one after the other, each whole or not at all;
the facts come last, so that a shard with facts is done, whatever happens to the process at any moment.
"""

from __future__ import annotations

import itertools
import json
import operator
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from llm_workshop.curation.facts import EXCERPT, Histograms, RuleFacts, TagCounts
from llm_workshop.curation.step import Drop, Step
from scratch_llm.io import atomic_write

#: Bytes of documents that pass a rule together: enough to time rules cheaply, too few to fill the memory.
CHUNK_BYTES = 250_000
_DECODE, _ENCODE = json.JSONDecoder().raw_decode, json.JSONEncoder(ensure_ascii=False).encode


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
        """One rule after the other over all texts; the lists shrink together where a rule drops some."""
        records = [_parse(line, source) for line in lines]
        texts = [record["text"] for record in records]
        tags: list[dict[str, Any]] = [{} for _ in records]
        self.before.add(texts)
        for rule, step in enumerate(self.steps):
            began = time.perf_counter()
            try:
                outcomes = list(map(step, texts, tags))
            except Exception as error:
                raise _rule_error(step, records, texts, tags) from error
            self.rule_seconds[rule] += time.perf_counter() - began
            self.rules[rule].seen += len(outcomes)
            # Most texts pass most rules untouched, as the same object: those are found at the speed of C.
            touched = [i for i, same in enumerate(map(operator.is_, outcomes, texts)) if not same]
            gone = [i for i in touched if self._is_dropped(self.rules[rule], outcomes[i], i, records, texts, dropped)]
            if gone:
                stays = [True] * len(texts)
                for i in gone:
                    stays[i] = False
                lines, records, texts, tags = (list(itertools.compress(each, stays)) for each in (lines, records, texts, tags))
        kept.writelines(map(_output_line, lines, records, texts, tags))
        for each in filter(None, tags):
            self.tags.add(each)
        self.after.add(texts)

    def _is_dropped(self, facts: RuleFacts, outcome: Any, i: int, records: list[dict], texts: list[str], dropped: IO[bytes]) -> bool:
        """Enter what a rule made of a text that it did not pass on as it was."""
        if isinstance(outcome, str):
            if outcome == texts[i]:
                return False
            if outcome.strip():
                facts.note_change(records[i]["id"], texts[i], outcome)
                texts[i] = outcome
                return False
            outcome = Drop("empty", "nothing was left of it")
        if not isinstance(outcome, Drop):
            raise TypeError(f"rule '{facts.name}' returned {outcome!r}: a rule returns the text or a Drop")
        facts.note_drop(records[i]["id"], texts[i], outcome)
        dropped.write(_dropped_line(records[i], facts.name, outcome, texts[i]))
        return True

    def facts(self) -> dict[str, Any]:
        return {
            "rules": [rule.as_values() for rule in self.rules],
            "before": self.before.as_values(),
            "after": self.after.as_values(),
            "tags": self.tags.as_values(),
        }


def _chunks(source: Path) -> Iterator[list[bytes]]:
    with open(source, "rb") as stream:
        while lines := stream.readlines(CHUNK_BYTES):
            yield lines


def _parse(line: bytes, source: Path) -> dict[str, Any]:
    try:
        record, _ = _DECODE(line.decode("utf-8"))
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
    return _ENCODE(record).encode("utf-8", "replace") + b"\n"


def _rule_error(step: Step, records: list[dict], texts: list[str], tags: list[dict]) -> Exception:
    """Which text a rule fell over: rules are pure, so it falls again."""
    for record, text, known in zip(records, texts, tags):
        try:
            step(text, dict(known))
        except Exception as error:
            return RuntimeError(f"rule '{step.name}' failed on document '{record['id']}': {type(error).__name__}: {error}")
    return RuntimeError(f"rule '{step.name}' failed, and not again on the same texts: it must not keep a memory")
