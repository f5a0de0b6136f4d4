"""Our side of ``curation.py``, in a process of its own: the rules of ``curation_rules.py`` as steps of our pipeline.

    python benchmarks/curation_ours.py RAW_FOLDER OUT_FOLDER WORKERS

Prints one line of JSON: seconds from the call to the end (imports of this process left out) and the documents kept.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import curation_rules

from llm_workshop.curation.step import Drop, Step


class Change(Step):
    """A rule that changes the text, by its name in ``curation_rules``."""

    name: ClassVar[str] = "change"
    title: ClassVar[str] = "고치기"
    rule: str

    def start(self) -> None:
        object.__setattr__(self, "_rule", getattr(curation_rules, self.rule))  # the model is frozen

    def __call__(self, text: str, tags: dict[str, Any]) -> str:
        return self._rule(text)


class Keep(Change):
    """A rule that drops."""

    name: ClassVar[str] = "keep"
    title: ClassVar[str] = "거르기"

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        return text if self._rule(text) else Drop(self.rule)


def steps() -> tuple[Step, ...]:
    changes = (Change(rule=rule.__name__) for rule in curation_rules.CHANGES)
    return (*changes, *(Keep(rule=rule.__name__) for rule in curation_rules.FILTERS))


def main(raw: Path, out: Path, workers: int) -> None:
    from llm_workshop.curation.pipeline import clean_shards  # not what a worker needs

    started = time.perf_counter()
    clean_shards(steps(), raw, out, workers)
    seconds = time.perf_counter() - started
    kept = sum(sum(1 for _ in open(path, "rb")) for path in out.glob("clean-*.jsonl"))
    print(json.dumps({"seconds": seconds, "kept": kept}))


if __name__ == "__main__":
    import curation_ours  # the workers find the steps by this name, not as parts of the main program

    curation_ours.main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
