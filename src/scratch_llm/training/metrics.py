"""metrics.jsonl: one JSON object per optimiser step, in order, each step once.

Fields: ``step`` (updates done, from 1), ``loss``, ``learning_rate``, ``grad_norm``, ``tokens_per_second``,
``mfu``, ``seconds``; where the step was evaluated also ``valid_loss`` and ``bits_per_byte``, with a weight average
``ema_valid_loss`` and ``ema_bits_per_byte``; where steps before it were bad, ``bad_steps`` (see ``training.bad_steps``).
``loss`` is what was minimised: with ``z_loss``, its term is in it; held-out losses are cross-entropies alone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from scratch_llm.io import atomic_write


class MetricsFile:
    """Appends records; opening it to resume forgets the steps after the checkpoint."""

    def __init__(self, path: Path, steps_done: int = 0, write: bool = True):
        """``write`` False: what is there is read, and what is appended stays in ``records``."""
        self.path, self._writes = Path(path), write
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.records = read_records(self.path)
        self._stream = open(os.devnull, "a", encoding="utf-8")
        self.rewind(steps_done)

    def rewind(self, steps_done: int) -> None:
        """Forget the records after a step."""
        self.close()
        self.records = [record for record in self.records if record["step"] <= steps_done]
        if self._writes:
            with atomic_write(self.path) as stream:
                stream.writelines(json.dumps(record) + "\n" for record in self.records)
        self._stream = open(self.path if self._writes else os.devnull, "a", encoding="utf-8")

    def append(self, record: dict) -> None:
        """Add one record; a reader sees it at once."""
        self.records.append(record)
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()

    def sync(self) -> None:
        """Wait until the records are on the disk: before a checkpoint that builds on them."""
        if self._writes:
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        self._stream.close()


def read_records(path: str | Path) -> list[dict]:
    """Every whole record of a metrics file; [] where there is none.  A line cut by a kill ends the reading."""
    records: list[dict] = []
    if not Path(path).exists():
        return records
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                record = json.loads(line)
            except ValueError:
                break
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                break
            records.append(record)
    return records
