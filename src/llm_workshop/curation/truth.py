"""What should become of a document of the sample, whose faults are known.

- A clean document comes out as it went in.
- A damaged document that can be repaired (HTML, boilerplate, personal data, NFD...) comes out equal to the clean text;
  personal data with each value masked and the sentence around it kept, repeated jamo cut to at most ``JAMO_KEPT``.
- A damaged document that cannot be repaired (truncated, spaces lost, bytes lost) is dropped, or repaired all the same.
- An added document (spam, other language, gibberish, a duplicate) is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_workshop.corpora.document import Document
from llm_workshop.corpora.sample.noise import ADDED_TYPES, restore
from llm_workshop.curation.personal_data import MASKS, Span, mask

JAMO_KEPT = 4


def expected_texts(document: Document) -> tuple[str, ...]:
    """The texts that are right for a document; empty where it must not stay at all."""
    label = document.noise[0] if document.noise else {"type": "clean"}
    if label["type"] in ADDED_TYPES:
        return ()
    if label["type"] == "personal_data":
        spans = [Span(i["kind"], i["start"], i["end"]) for i in label["items"] if i["kind"] in MASKS]
        return (mask(document.text, spans),)
    if label["type"] == "jamo_repetition":
        return tuple(_cut_runs(document.text, label["spans"], kept) for kept in range(JAMO_KEPT + 1))
    return (restore(document),)


def _cut_runs(text: str, spans: Sequence[Sequence[int]], kept: int) -> str:
    for start, end in sorted(spans, reverse=True):
        text = text[: min(end, start + kept)] + text[end:]
    return text


def may_be_dropped(label: Mapping[str, Any]) -> bool:
    """True where dropping the document is right: it cannot be repaired, or should not be there."""
    if label["type"] in ADDED_TYPES or label["type"] in ("truncated", "broken_spacing"):
        return True
    return label["type"] == "mojibake" and "clean" in label  # bytes were lost


def same_text(a: str, b: str) -> bool:
    """Equal, white space at the ends of lines and of the text left aside."""
    return a == b or [line.rstrip() for line in a.strip().split("\n")] == [line.rstrip() for line in b.strip().split("\n")]
