"""Ratings as training data: preference pairs (DPO, reward models) and single rated answers (KTO).

The format is the conversational one of TRL: a pair has ``prompt``, ``chosen`` and ``rejected``, a rated answer
``prompt``, ``completion`` and ``label``, each text a list of messages (https://huggingface.co/docs/trl/dataset_formats).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llm_workshop.serving.feedback.store import Feedback
from scratch_llm.io import atomic_write

Row = dict[str, Any]


class Dataset(NamedTuple):
    """Rows sorted by their text, so that the same ratings give the same file, and what became of the ratings."""

    pairs: list[Row]
    rated: list[Row]
    counts: dict[str, int]


def build_dataset(feedback: Iterable[Feedback]) -> Dataset:
    """Pairs and rated answers of chat ratings.

    A pair is a correction against the answer it corrects, or a liked answer against a disliked one to the same
    messages.  Where people disagree (one answer with both thumbs, two pairs of opposite order) neither side is kept.
    Continuations of bare text (mode "complete") are no conversation and are left out.
    """
    feedback = list(feedback)
    chats = [f for f in feedback if f.mode == "chat" and f.messages and f.answer.strip()]
    by_prompt: dict[str, list[Feedback]] = defaultdict(list)
    for item in chats:
        by_prompt[_text(item.messages)].append(item)

    pairs: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    labels: dict[str, set[bool]] = defaultdict(set)
    for items in by_prompt.values():
        for item in items:
            labels[_text({"prompt": item.messages, "completion": _reply(item.answer)})].add(item.rating > 0)
        for kind, better, worse in _preferences(items):
            pairs[_text({"prompt": items[0].messages, "chosen": _reply(better), "rejected": _reply(worse)})] += 1
            kinds[kind] += 1
    agreed = [text for text in pairs if _opposite(text) not in pairs]
    rated = [{**json.loads(text), "label": label.pop()} for text, label in labels.items() if len(label) == 1]
    counts = {
        "ratings": len(feedback),
        "left out (no conversation, or empty)": len(feedback) - len(chats),
        "from corrections": kinds["correction"],
        "from thumbs": kinds["thumbs"],
        "repeated": sum(pairs.values()) - len(pairs),
        "contradicted": len(pairs) - len(agreed),
        "pairs": len(agreed),
        "rated answers": len(rated),
    }
    return Dataset([json.loads(text) for text in sorted(agreed)], sorted(rated, key=_text), counts)


def export(feedback: Iterable[Feedback], out: str | Path) -> dict[str, int]:
    """Write the pairs to ``out`` and the rated answers beside it (``rated_path``); returns the counts."""
    dataset = build_dataset(feedback)
    for path, rows in ((Path(out), dataset.pairs), (rated_path(out), dataset.rated)):
        with atomic_write(path) as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return dataset.counts


def rated_path(out: str | Path) -> Path:
    """preferences.jsonl -> preferences.rated.jsonl"""
    out = Path(out)
    return out.with_name(f"{out.stem}.rated{out.suffix or '.jsonl'}")


def _preferences(items: Sequence[Feedback]) -> Iterable[tuple[str, str, str]]:
    """(kind, better, worse) among the ratings of one prompt."""
    for item in items:
        correction = (item.correction or "").strip()
        if item.rating < 0 and correction and correction != item.answer.strip():
            yield "correction", correction, item.answer
    for liked in (item for item in items if item.rating > 0):
        for disliked in (item for item in items if item.rating < 0):
            if liked.answer.strip() != disliked.answer.strip():
                yield "thumbs", liked.answer, disliked.answer


def _opposite(text: str) -> str:
    row = json.loads(text)
    return _text({**row, "chosen": row["rejected"], "rejected": row["chosen"]})


def _reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text.strip()}]


def _text(value: Any) -> str:
    """One text for equal values."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
