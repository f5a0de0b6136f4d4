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
from dataclasses import dataclass
from typing import Any

from llm_workshop.corpora.document import Document
from llm_workshop.corpora.sample.noise import NOISE_TYPES
from llm_workshop.curation.scores import Measurement, Miss, Score
from llm_workshop.curation.step import Drop, Step
from llm_workshop.curation.truth import expected_texts, may_be_dropped, same_text
from llm_workshop.errors import exit_code_of, install_one_line_errors

DUPLICATES = ("exact_duplicate", "near_duplicate")
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


def measure(
    documents: Iterable[Document],
    steps: Sequence[Step],
    removed: Mapping[str, str] | None = None,
    near_threshold: float = 0.8,
    examples: int = 5,
    removed_by: Mapping[str, str] | None = None,
) -> Measurement:
    """Grade rules, and a deduplication after them, on documents whose truth is known.

    Args:
        documents: with their noise labels; each is looked at once.
        steps: the rules of a recipe, in order; they are started here.
        removed: id of each document that deduplication removed -> id of the one that it kept; None: duplicates are
            not graded (rules alone cannot know them).
        near_threshold: a near duplicate whose label says a lower similarity need not be found.
        examples: how many misses are kept for each fault and problem.
        removed_by: id of each document that deduplication removed -> the rule (exact, near), so that each answers for
            its own false alarms; None: all are one rule, "dedup".
    """
    for step in steps:
        step.start()
    result, shown = Measurement(), Counter()
    groups: dict[str, list[tuple[Document, bool]]] = defaultdict(list)  # original -> (document, is it still there)
    origins: dict[str, str] = {}
    stayed = dict.fromkeys((removed or {}).values(), "")  # id of a document that another was taken for -> its text

    def note(document: Document, fault: str, problem: str, rules: tuple[str, ...], expected: str, got: str, **why: Any) -> None:
        shown[fault, problem] += 1
        if shown[fault, problem] <= examples:
            result.misses.append(Miss(document.id, fault, problem, rules, *_around_difference(expected, got), **why))

    for document in documents:
        label = document.noise[0] if document.noise else {"type": "clean"}
        fault = label["type"]
        outcome = apply_steps(steps, document.text)
        if removed is not None:
            if document.id in stayed:
                stayed[document.id] = outcome.text or document.text
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
                note(document, "clean", state, acted, document.text, outcome.text or "", drop=outcome.drop)
            continue
        score = result.faults.setdefault(fault, Score())
        problem = _grade(document, label, outcome, score)
        score.acted += bool(acted)
        if problem:
            note(document, fault, problem, acted, (expected_texts(document) or ("",))[0], outcome.text or "", drop=outcome.drop)
    if removed is not None:
        _grade_duplicates(result, groups, _Removals(removed, removed_by or {}, origins, stayed), note)
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


@dataclass(frozen=True)
class _Removals:
    """What deduplication removed: id -> the id that stayed, id -> rule, id -> origin, id that stayed -> its text."""

    of: Mapping[str, str]
    rules: Mapping[str, str]
    origins: Mapping[str, str]
    texts: Mapping[str, str]

    def rule(self, name: str) -> str:
        return self.rules.get(name, "dedup")


def _grade_duplicates(result: Measurement, groups, removals: _Removals, note) -> None:
    """Of each group one document may stay; a removal in favour of a text of another origin is a false alarm."""
    for group in groups.values():
        stayed = [document for document, there in group if there]
        # the one that stays for good is the original, else the first of the duplicates
        stayed.sort(key=lambda document: bool(document.noise and document.noise[0]["type"] in DUPLICATES))
        extra = {document.id for document in stayed[1:]}
        gone = [document.id for document, _ in group if document.id in removals.of]
        for document, _ in group:
            if not document.noise or document.noise[0]["type"] not in DUPLICATES:
                continue
            fault = document.noise[0]["type"]
            score = result.faults.setdefault(fault, Score())
            score.documents += 1
            if document.id in extra:
                score.wrong["left"] += 1
                note(document, fault, "left", (), "", document.text)
            else:
                score.dropped += 1
                score.acted += 1
                # one that stayed instead of its original is to the credit of the rule that removed the original
                for name in ([document.id] if document.id in removals.of else gone)[:1]:
                    result.rules[removals.rule(name)][fault] += 1
            part = score.parts.setdefault("all", [0, 0])
            part[0] += 1
            part[1] += document.id not in extra
    for document, _ in (each for group in groups.values() for each in group):
        kept = removals.of.get(document.id)
        if kept is not None and removals.origins.get(kept, kept) != removals.origins[document.id]:
            rule = removals.rule(document.id)
            result.rules[rule]["clean"] += 1
            if not document.noise:
                result.clean["kept"] -= 1
                result.clean["dropped"] += 1
            note(document, "clean", "dropped", (rule,), document.text, removals.texts.get(kept, ""), taken_for=kept)


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
        print(f"\n{miss.fault} {miss.problem} {miss.id} by {', '.join(miss.rules) or 'no rule'}")
        why = f"(dropped: {miss.drop.reason} {miss.drop.detail})" if miss.drop else f"(taken for {miss.taken_for}) " if miss.taken_for else ""
        print(f"  - {miss.expected!r}" if miss.expected else "  - (nothing)", f"  + {why}{miss.got!r}" if miss.got else f"  + {why}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
