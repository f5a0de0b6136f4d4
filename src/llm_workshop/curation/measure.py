"""How well a recipe cleans: every document with its truth, sorted into right and wrong, by fault and by rule.

What counts as right is said in :mod:`llm_workshop.curation.truth`; of duplicates and their original one stays. *Recall*
of a fault is the share of its documents that came out right. Its *precision* is (its documents acted on) / (those +
false alarms): a rule's false alarms, clean documents that it changed or dropped, are shared out over the faults in
proportion to its hits on them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_workshop.corpora.document import Document
from llm_workshop.corpora.sample.noise import NOISE_TYPES
from llm_workshop.curation.step import Drop, Step
from llm_workshop.curation.truth import expected_texts, may_be_dropped, same_text
from llm_workshop.errors import exit_code_of, install_one_line_errors

DUPLICATES = ("exact_duplicate", "near_duplicate")
#: Titles of the faults in the tables of a report.
TITLES = {
    "html": "HTML 찌꺼기", "boilerplate": "메뉴·저작권 문구", "mojibake": "깨진 글자", "personal_data": "개인정보", "jamo_repetition": "자모 반복",
    "broken_spacing": "무너진 띄어쓰기", "truncated": "잘린 글", "nfd": "풀어쓴 한글(NFD)", "zero_width": "보이지 않는 글자",
    "exact_duplicate": "똑같은 글", "near_duplicate": "비슷한 글", "spam": "스팸", "other_language": "다른 언어", "gibberish": "의미 없는 글",
}  # fmt: skip
_DETAILS = ("style", "topic", "language", "read_as")  # what a label says about how the fault was made


@dataclass(frozen=True)
class Outcome:
    """What the rules made of one text: ``text`` is None where rule ``dropped_by`` dropped it."""

    text: str | None
    changed_by: tuple[str, ...]
    tags: dict[str, Any]
    dropped_by: str | None = None
    drop: Drop | None = None


def apply_steps(steps: Sequence[Step], text: str) -> Outcome:
    """Run the rules, in order, on one text, until one drops it. ``start()`` of each must have been called."""
    tags: dict[str, Any] = {}
    changed = []
    for step in steps:
        result = step(text, tags)
        if isinstance(result, Drop):
            return Outcome(None, tuple(changed), tags, step.name, result)
        if result is not text and result != text:
            changed.append(step.name)
        text = result
    return Outcome(text, tuple(changed), tags)


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
    """One document that came out wrong: what stood there, what should, what came out, around the first difference."""

    id: str
    fault: str
    problem: str
    rules: tuple[str, ...]
    expected: str
    got: str


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
            "misses": [vars(miss) for miss in self.misses],
        }

    def rows(self) -> list[tuple[str, int, int, int, int, str, str]]:
        """(fault, documents, restored, rightly dropped, wrong, recall, precision) for a table."""

        def share(value: float) -> str:
            return "-" if value != value else f"{value:.4f}"

        return [
            (name, s.documents, s.restored, s.dropped, s.documents - s.right, share(s.recall), share(s.precision))
            for name, s in self.faults.items()
        ]


def measure(
    documents: Iterable[Document],
    steps: Sequence[Step],
    removed: Mapping[str, str] | None = None,
    near_threshold: float = 0.8,
    examples: int = 5,
) -> Measurement:
    """Grade rules, and a deduplication after them, on documents whose truth is known.

    Args:
        documents: with their noise labels; each is looked at once.
        steps: the rules of a recipe, in order; they are started here.
        removed: id of each document that deduplication removed -> id of the one that it kept; None: duplicates are
            not graded (rules alone cannot know them).
        near_threshold: a near duplicate whose label says a lower similarity need not be found.
        examples: how many misses are kept for each fault and problem.
    """
    for step in steps:
        step.start()
    result, shown = Measurement(), Counter()
    groups: dict[str, list[tuple[Document, bool]]] = defaultdict(list)  # original -> (document, is it still there)
    origins: dict[str, str] = {}

    def note(document: Document, fault: str, problem: str, rules: tuple[str, ...], expected: str, got: str) -> None:
        shown[fault, problem] += 1
        if shown[fault, problem] <= examples:
            result.misses.append(Miss(document.id, fault, problem, rules, *_around_difference(expected, got)))

    for document in documents:
        label = document.noise[0] if document.noise else {"type": "clean"}
        fault = label["type"]
        outcome = apply_steps(steps, document.text)
        if removed is not None:
            origins[document.id] = label.get("of", document.id)
            if fault != "near_duplicate" or label["similarity"] >= near_threshold:
                there = outcome.text is not None and document.id not in removed
                groups[origins[document.id]].append((document, there))
        acted = _acted(outcome, document.text)
        for rule in acted:
            result.rules[rule][fault] += 1
        if fault in DUPLICATES:
            continue
        if fault == "clean":
            state = "dropped" if outcome.text is None else "changed" if acted else "kept"
            result.clean[state] += 1
            if acted:
                note(document, "clean", state, acted, document.text, outcome.text or f"({outcome.drop})")
            continue
        score = result.faults.setdefault(fault, Score())
        problem = _grade(document, label, outcome, score)
        score.acted += bool(acted)
        if problem:
            note(document, fault, problem, acted, (expected_texts(document) or ("(nothing)",))[0], outcome.text or f"({outcome.drop})")
    if removed is not None:
        _grade_duplicates(result, groups, removed, origins, note)
    _share_out_false_alarms(result)
    result.faults = {name: result.faults[name] for name in NOISE_TYPES if name in result.faults}
    return result


def _acted(outcome: Outcome, text: str) -> tuple[str, ...]:
    """The rules that made a difference that counts."""
    if outcome.dropped_by is not None:
        return (outcome.dropped_by,)
    return () if same_text(outcome.text, text) else outcome.changed_by


def _grade(document: Document, label: Mapping[str, Any], outcome: Outcome, score: Score) -> str:
    """Count one document with a fault; returns the problem, empty where it came out right."""
    score.documents += 1
    if outcome.text is None:
        problem = "" if may_be_dropped(label) else "lost"
        score.dropped += not problem
    elif any(same_text(outcome.text, text) for text in expected_texts(document)):
        problem = ""
        score.restored += 1
    else:
        problem = "left" if same_text(outcome.text, document.text) else "changed"
    for key in _DETAILS:
        if key in label:
            part = score.parts.setdefault(label[key], [0, 0])
            part[0] += 1
            part[1] += not problem
            break
    if problem:
        score.wrong[problem] += 1
    return problem


def _grade_duplicates(result: Measurement, groups, removed: Mapping[str, str], origins: Mapping[str, str], note) -> None:
    """Of each group one document may stay; a removal in favour of a text of another origin is a false alarm."""
    for group in groups.values():
        stayed = [document for document, there in group if there]
        # the one that stays for good is the original, else the first of the duplicates
        stayed.sort(key=lambda document: bool(document.noise and document.noise[0]["type"] in DUPLICATES))
        extra = {document.id for document in stayed[1:]}
        for document, _ in group:
            if not document.noise or document.noise[0]["type"] not in DUPLICATES:
                continue
            score = result.faults.setdefault(document.noise[0]["type"], Score())
            score.documents += 1
            if document.id in extra:
                score.wrong["left"] += 1
                note(document, document.noise[0]["type"], "left", (), "(nothing)", document.text)
            else:
                score.dropped += 1
                score.acted += 1
                result.rules["dedup"][document.noise[0]["type"]] += 1
            part = score.parts.setdefault("all", [0, 0])
            part[0] += 1
            part[1] += document.id not in extra
    for group in groups.values():
        for document, _ in group:
            kept = removed.get(document.id)
            if kept is not None and origins.get(kept, kept) != origins[document.id]:
                result.rules["dedup"]["clean"] += 1
                if not document.noise:
                    result.clean["kept"] -= 1
                    result.clean["dropped"] += 1
                note(document, "clean", "dropped", ("dedup",), document.text, f"(taken for {kept})")


def _share_out_false_alarms(result: Measurement) -> None:
    for counts in result.rules.values():
        hits = {fault: count for fault, count in counts.items() if fault in result.faults}
        for fault, count in hits.items():
            result.faults[fault].false_alarms += counts["clean"] * count / sum(hits.values())


def _around_difference(expected: str, got: str, width: int = 40) -> tuple[str, str]:
    """Both texts around the place where they part."""
    place = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got)))
    start = max(0, place - width // 2)
    return expected[start : place + width], got[start : place + width]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the scores of a recipe on a fresh part of the sample."""
    parser = argparse.ArgumentParser(description=main.__doc__, prog="python -m llm_workshop.curation.measure")
    parser.add_argument("--recipe", default="korean", help="a built-in recipe, or the path of a YAML file")
    parser.add_argument("--seed", type=int, default=101)
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--noise", type=float, default=0.5, help="share of documents with a fault")
    parser.add_argument("--examples", type=int, default=3, help="misses shown for each fault and problem")
    options = parser.parse_args(arguments)
    install_one_line_errors()
    return exit_code_of(lambda: _print_scores(options))


def _print_scores(options: argparse.Namespace) -> int:
    from llm_workshop.corpora.sample import generate
    from llm_workshop.curation.recipe import load_recipe

    documents = generate(options.megabytes, options.seed, "valid", None, options.noise)
    result = measure(documents, load_recipe(options.recipe).steps, examples=options.examples)
    print(f"{'fault':<16}{'documents':>10}{'restored':>10}{'dropped':>9}{'wrong':>7}{'recall':>9}{'precision':>10}")
    for fault, count, restored, dropped, wrong, recall, precision in result.rows():
        print(f"{fault:<16}{count:>10}{restored:>10}{dropped:>9}{wrong:>7}{recall:>9}{precision:>10}")
    print(f"clean: {dict(result.clean)}, {result.clean_kept:.4f} as they were")
    for miss in result.misses:
        print(f"\n{miss.fault} {miss.problem} {miss.id} by {', '.join(miss.rules) or 'no rule'}\n  - {miss.expected!r}\n  + {miss.got!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
