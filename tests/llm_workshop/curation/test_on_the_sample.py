"""The built-in recipe on documents whose truth is known: no fault may fall below its floor.

The seeds are used nowhere else, neither for writing the rules nor for training their models.
"""

from __future__ import annotations

from collections import Counter

import pytest

from llm_workshop.corpora.sample import generate
from llm_workshop.corpora.sample.noise import ADDED_TYPES, CHANGED_TYPES, inject
from llm_workshop.curation.measure import DUPLICATES, Measurement, measure
from llm_workshop.curation.recipe import load_recipe
from llm_workshop.curation.truth import same_text

FLOOR = 0.98
#: A text cut where a sentence might end, or of three words without their spaces, looks like many a comment.
HARD = {"truncated": 0.97, "broken_spacing": 0.97}
_FAULTS = [fault for fault in (*CHANGED_TYPES, *ADDED_TYPES) if fault not in DUPLICATES]


@pytest.fixture(scope="module")
def measured() -> Measurement:
    documents = [
        document
        for seed in (9_001, 9_002)
        for document in inject(generate(0.45, seed, "valid"), 0.75, seed, _FAULTS)
    ]
    return measure(documents, load_recipe("korean").steps)


@pytest.mark.parametrize("fault", _FAULTS)
def test_every_fault_is_repaired_or_dropped(measured, fault):
    score = measured.faults[fault]
    misses = [miss for miss in measured.misses if miss.fault == fault]
    assert score.documents >= 100
    assert score.recall >= HARD.get(fault, FLOOR), (score, misses)
    assert score.precision >= FLOOR, (score, [miss for miss in measured.misses if miss.fault == "clean"])


def test_clean_documents_stay_as_they_are(measured):
    assert measured.clean.total() >= 500
    assert measured.clean_kept >= 0.995, [miss for miss in measured.misses if miss.fault == "clean"]


def test_without_a_rule_its_fault_falls_below_the_floor():
    """The floors hold because of the rules: take one away, and the fault that it answers for is seen."""
    steps = load_recipe("korean").steps
    needed = Counter()
    for name, fault in (("personal_data", "personal_data"), ("html", "html"), ("unicode", "nfd"), ("truncated", "truncated")):
        documents = inject(generate(0.05, 9_003, "valid"), 0.9, 9_003, (fault,))
        rest = [step for step in steps if step.name != name]
        assert len(rest) < len(steps)
        needed[fault] = measure(documents, rest).faults[fault].recall < FLOOR
    assert all(needed.values()), needed


def test_what_comes_out_goes_through_unchanged():
    """Cleaning twice is cleaning once."""
    from llm_workshop.curation.measure import apply_steps

    steps = load_recipe("korean").steps
    for step in steps:
        step.start()
    again = Counter()
    for document in inject(generate(0.2, 9_004, "valid"), 0.7, 9_004, _FAULTS):
        text = apply_steps(steps, document.text).text
        if text is not None:
            twice = apply_steps(steps, text)
            again["same" if twice.text is not None and same_text(twice.text, text) else f"{twice.dropped_by} {twice.changed_by}"] += 1
    assert again["same"] == again.total(), again
