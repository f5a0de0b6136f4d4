"""How good answers are beside the right ones: exact match, chrF and ROUGE-L, and what a constant answer would reach."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scratch_llm.finetuning.templates import Example

CLOSED_ANSWERS = 20
"""A task with at most so many different answers is closed."""
_OPTION = re.compile(r"^(\d+)\. ", re.MULTILINE)


def normalized(text: str) -> str:
    """NFC, white space as single spaces, none outside."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def both_ends(text: str, limit: int) -> str:
    """``text`` on one line and in at most ``limit`` characters: of a longer one the beginning and the end, " … " between.

    The question often stands behind the passage that it is about, so that the end tells more than the middle.
    """
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    kept = max(0, limit - 3)
    end = kept // 2
    return f"{line[: kept - end].rstrip()} … {line[len(line) - end :].lstrip()}"


def exact_match(answer: str, reference: str) -> float:
    """1 where both are the same text but for white space, else 0."""
    return float(normalized(answer) == normalized(reference))


def chrf(answer: str, reference: str, n: int = 6, beta: float = 2.0) -> float:
    """chrF (Popović 2015) of a sentence: the F-score of shared character n-grams, mean over 1 to ``n``; 0 to 1.

    White space does not count.  Recall weighs ``beta`` times as much as precision.  Orders that neither text is long
    enough for are left out.
    """
    ours, theirs = ("".join(text.split()) for text in (answer, reference))
    if not ours or not theirs:
        return float(ours == theirs)
    precisions, recalls = [], []
    for order in range(1, n + 1):
        a, b = (Counter(text[i : i + order] for i in range(len(text) - order + 1)) for text in (ours, theirs))
        if not a and not b:
            break
        shared = sum((a & b).values())
        precisions.append(shared / max(1, sum(a.values())))
        recalls.append(shared / max(1, sum(b.values())))
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall) if precision + recall else 0.0


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L (Lin 2004): F1 of the longest common subsequence of words; 0 to 1.

    Words are cut at white space: a Korean word with another particle is another word, which makes this a strict measure.
    """
    ours, theirs = answer.split(), reference.split()
    if not ours or not theirs:
        return float(ours == theirs)
    row = [0] * (len(theirs) + 1)
    for word in ours:
        diagonal = 0
        for place, other in enumerate(theirs, 1):
            diagonal, row[place] = row[place], diagonal + 1 if word == other else max(row[place], row[place - 1])
    return 2 * row[-1] / (len(ours) + len(theirs))


@dataclass(frozen=True)
class TaskScore:
    """The answers to one task's questions; shares and means from 0 to 1."""

    task: str
    n: int
    kind: str
    """"closed": few answers; "choice": one of the options in the question; "open": anything."""
    exact: float
    chrf: float
    rouge_l: float
    constant: float
    """What the best constant answer scores in exact match: the most frequent one, or always the same option."""
    constant_answer: str
    ended: float
    """Share of answers that ended by themselves."""


def kind_of(examples: Sequence[Example]) -> str:
    """The kind of a task, from its examples."""
    if all(example.answer in options_of(example).values() for example in examples):
        return "choice"
    n_answers = len({normalized(example.answer) for example in examples})
    return "closed" if n_answers <= min(CLOSED_ANSWERS, max(3, len(examples) // 3)) else "open"


def options_of(example: Example) -> dict[int, str]:
    """The numbered options that a question ends with: number -> the whole line."""
    question = next((m["content"] for m in reversed(example.prompt) if m["role"] == "user"), "")
    return {int(line.partition(".")[0]): line for line in question.split("\n") if _OPTION.match(line)}


def constant_answer(examples: Sequence[Example]) -> tuple[float, str]:
    """The share that the best constant answer gets right, known only to who has seen all right answers, and what it is."""
    answer, count = Counter(normalized(example.answer) for example in examples).most_common(1)[0]
    best = (count / len(examples), answer)
    if kind_of(examples) == "choice":
        taken = Counter(int(example.answer.partition(".")[0]) for example in examples)
        number, count = taken.most_common(1)[0]
        best = max(best, (count / len(examples), f"늘 {number}번 보기"))
    return best


def score_tasks(examples: Sequence[Example], answers: Sequence[str], ended: Sequence[bool] | None = None) -> list[TaskScore]:
    """A score for each task, by name.  ValueError where there are not as many answers as questions."""
    if len(examples) != len(answers) or not examples:
        raise ValueError(f"{len(examples)} questions and {len(answers)} answers: give one answer to each, to one at least")
    ended = [True] * len(answers) if ended is None else ended
    scores = []
    for task in sorted({example.task for example in examples}):
        places = [i for i, example in enumerate(examples) if example.task == task]
        mine = [examples[i] for i in places]
        share, constant = constant_answer(mine)

        def mean(measure, places=places) -> float:
            return sum(measure(answers[i], examples[i].answer) for i in places) / len(places)

        scores.append(TaskScore(task, len(mine), kind_of(mine), mean(exact_match), mean(chrf), mean(rouge_l), share, constant,
                                sum(ended[i] for i in places) / len(places)))  # fmt: skip
    return scores


def over_constant(scores: Sequence[TaskScore]) -> tuple[float, float, int]:
    """Exact match and best constant answer over all questions of the closed and choice tasks, and how many there are."""
    closed = [score for score in scores if score.kind != "open"]
    n = sum(score.n for score in closed)
    if not n:
        return 0.0, 0.0, 0
    return sum(s.exact * s.n for s in closed) / n, sum(s.constant * s.n for s in closed) / n, n
