"""Going through a quiz, on the terminal or on the page: which question is next, what was answered, the score.

Answers are kept in ``.workshop/quiz-week03.json`` after each question, so a quiz that was interrupted goes on where it
stopped.  That file stays where it is; the progress file beside it learns only whether an answer was right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from llm_workshop.learning.progress import record_answer, record_score
from llm_workshop.learning.progress_store import ProgressStore
from llm_workshop.learning.question import Answer, Question
from llm_workshop.learning.quiz import Quiz
from scratch_llm.io import atomic_write


class Score(NamedTuple):
    right: int
    of: int


class QuizSession:
    """One participant's way through one quiz.

    ``queue`` holds the questions still to be asked, in order; ``answer`` takes its first one off.

    Args:
        restart: forget all answers first.
        wrong_again: ask only what was answered wrongly (ValueError if nothing was).
        only: ask this question alone, answered or not.
    """

    def __init__(
        self,
        quiz: Quiz,
        store: ProgressStore | None = None,
        *,
        restart: bool = False,
        wrong_again: bool = False,
        only: str | None = None,
    ):
        self.quiz, self.store = quiz, store or ProgressStore()
        self.path = self.store.path.with_name(f"quiz-{quiz.name}.json")
        if restart:
            self._save({})
        self.given = self._load()
        self.again = wrong_again
        self.alone = only is not None
        if only is not None:
            self.queue = [quiz.find(only)]
        elif wrong_again:
            self.queue = self.wrong()
            if not self.queue:
                raise ValueError(f"{quiz.heading}: 틀린 문제가 없습니다." + (" 아직 답하지 않은 문제가 있습니다." if self.unanswered() else ""))
        else:
            self.queue = self.unanswered()
        self._right_now, self._asked = 0, len(self.queue)

    def unanswered(self) -> list[Question]:
        return [question for question in self.quiz.questions if question.id not in self.given]

    def wrong(self) -> list[Question]:
        return [question for question in self.quiz.questions if self.state(question) is False]

    def state(self, question: Question) -> bool | None:
        """Whether the last answer was right; None: not answered."""
        given = self.given.get(question.id)
        return None if given is None else given["right"]

    def last_answer(self, question: Question) -> Answer | None:
        given = self.given.get(question.id)
        return None if given is None else given["answer"]

    def answer(self, answer: Answer, question: Question | None = None) -> bool:
        """Answer a question, by default the first one of the queue; True if right.

        With the last answer of all, and at the end of a round of wrong ones, the score is noted.
        """
        question = question or self.queue[0]
        right = question.is_right(answer)
        missing = len(self.unanswered())
        self.given = self._load() | {question.id: {"answer": answer, "right": right, "digest": question.digest}}
        self._save(self.given)
        if question in self.queue:
            self.queue.remove(question)
            self._right_now += right
        record_answer(self.quiz.name, question.id, right, self.store)
        if missing and not self.unanswered():
            record_score(self.quiz.name, *self.score(), store=self.store)
        elif self.again and not self.queue:
            record_score(self.quiz.name, self._right_now, self._asked, again=True, store=self.store)
        return right

    def skip(self) -> None:
        """Put the first question of the queue last."""
        self.queue.append(self.queue.pop(0))

    def score(self) -> Score:
        """Right answers, of all questions."""
        return Score(sum(self.state(q) is True for q in self.quiz.questions), len(self.quiz.questions))

    def _load(self) -> dict[str, dict[str, Any]]:
        """Answers to questions that are still as they were; an unreadable file counts as none, with a warning."""
        if not self.path.exists():
            return {}
        try:
            given = json.loads(self.path.read_text(encoding="utf-8"))["answers"]
            digests = {question.id: question.digest for question in self.quiz.questions}
            return {
                name: {"answer": _frozen(entry["answer"]), "right": bool(entry["right"]), "digest": entry["digest"]}
                for name, entry in given.items()
                if digests.get(name) == entry["digest"]
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            print(f"warning: {self.path} is damaged: the quiz begins anew", file=sys.stderr)
            return {}

    def _save(self, given: dict[str, dict[str, Any]]) -> None:
        with atomic_write(self.path) as stream:
            json.dump({"answers": given}, stream, ensure_ascii=False, indent=1)


def _frozen(answer: Any) -> Answer:
    return tuple(answer) if isinstance(answer, Sequence) and not isinstance(answer, str) else answer
