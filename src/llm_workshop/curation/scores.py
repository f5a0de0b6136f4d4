"""What grading a recipe counts: scores by fault, acts by rule, and the documents that came out wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from llm_workshop.curation.step import Drop


@dataclass
class Score:
    """Counts of one fault. ``wrong`` sorts what is not right: left, changed, lost (dropped although it could be repaired)."""

    documents: int = 0
    restored: int = 0
    dropped: int = 0  # rightly
    acted: int = 0
    false_alarms: float = 0.0
    wrong: Counter = field(default_factory=Counter)
    parts: dict[str, list[int]] = field(default_factory=dict)  # how it was made -> [documents, right]

    @property
    def right(self) -> int:
        return self.restored + self.dropped

    @property
    def recall(self) -> float:
        return self.right / self.documents if self.documents else float("nan")

    @property
    def precision(self) -> float:
        return self.acted / (self.acted + self.false_alarms) if self.acted else float("nan")


@dataclass(frozen=True)
class Miss:
    """One document that came out wrong: what should have come out, and what did, around the first difference.

    ``expected`` is empty where the document should have gone, ``got`` where it went.  ``drop`` says why a rule dropped
    it; one that deduplication removed was ``taken_for`` another document, whose text is ``got``.
    """

    id: str
    fault: str
    problem: str
    rules: tuple[str, ...]
    expected: str
    got: str
    drop: Drop | None = None
    taken_for: str = ""


@dataclass
class Measurement:
    """Scores by fault; ``clean`` counts kept, changed and dropped clean documents, ``rules`` acts by rule and fault."""

    faults: dict[str, Score] = field(default_factory=dict)
    clean: Counter = field(default_factory=Counter)
    rules: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    misses: list[Miss] = field(default_factory=list)

    @property
    def clean_kept(self) -> float:
        total = self.clean.total()
        return self.clean["kept"] / total if total else float("nan")

    def as_values(self) -> dict[str, Any]:
        """Plain values for a card or a report."""
        faults = {
            name: {
                "documents": s.documents, "restored": s.restored, "dropped": s.dropped, "wrong": dict(s.wrong),
                "recall": round(s.recall, 4), "precision": None if s.acted == 0 else round(s.precision, 4), "parts": s.parts,
            }
            for name, s in self.faults.items()
        }  # fmt: skip
        return {
            "clean": {**self.clean, "kept_share": round(self.clean_kept, 5) if self.clean else None},
            "faults": faults,
            "rules": {name: dict(counts) for name, counts in self.rules.items()},
            "misses": [asdict(miss) for miss in self.misses],
        }

    def rows(self) -> list[tuple[str, int, int, int, int, str, str]]:
        """(fault, documents, restored, rightly dropped, wrong, recall, precision) for a table."""

        def share(value: float) -> str:
            return "-" if value != value else f"{value:.4f}"

        return [
            (name, s.documents, s.restored, s.dropped, s.documents - s.right, share(s.recall), share(s.precision))
            for name, s in self.faults.items()
        ]
