"""What ``curation.py`` runs in the curate environment: datatrove with the rules of ``curation_rules.py``.

    .envs/curate/bin/python benchmarks/curation_datatrove.py IN_FOLDER OUT_FOLDER WORKERS

Prints one line of JSON: seconds from the call of the executor to its end (imports of this process left out) and the
number of documents kept.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from curation_rules import CHANGES, FILTERS
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters.base import BaseFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


class Change(BaseFormatter):
    def __init__(self, rule: Callable[[str], str]):
        super().__init__()
        self.name, self.rule = rule.__name__, rule

    def format(self, text: str) -> str:
        return self.rule(text)


class Keep(BaseFilter):
    def __init__(self, rule: Callable[[str], bool]):
        super().__init__()
        self.name, self.rule = rule.__name__, rule

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return self.rule(doc.text) or (False, self.name)


def main() -> None:
    source, out, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    steps = [JsonlReader(source, glob_pattern="raw-*.jsonl"), *map(Change, CHANGES), *map(Keep, FILTERS)]
    writer = JsonlWriter(str(out / "clean"), compression=None)
    executor = LocalPipelineExecutor([*steps, writer], tasks=workers, workers=workers, logging_dir=str(out / "logs"))
    started = time.perf_counter()
    executor.run()
    seconds = time.perf_counter() - started
    kept = sum(sum(1 for _ in open(path, "rb")) for path in (out / "clean").glob("*.jsonl"))
    print(json.dumps({"seconds": seconds, "kept": kept}))


if __name__ == "__main__":
    main()
