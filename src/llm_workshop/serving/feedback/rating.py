"""A thumb on the page -> a row in the store."""

from __future__ import annotations

from typing import Any

from llm_workshop.serving.engine import ModelInfo
from llm_workshop.serving.feedback.store import Feedback, FeedbackStore
from llm_workshop.serving.turns import messages_for_model, turns_of
from llm_workshop.serving.words import COMPLETE

#: Longest correction and longest conversation that are kept (characters).
MAX_CORRECTION, MAX_CONVERSATION = 20_000, 1_000_000


def store_rating(store: FeedbackStore, sent: Any, info: ModelInfo, system_prompt: str | None) -> None:
    """Store what a browser sent: {id, tab, turns, rating, correction}; the last turn is the rated answer.

    ``rating`` 0 takes an earlier rating back.  Raises ValueError naming what is wrong with it.
    """
    sent = sent if isinstance(sent, dict) else {}
    turns, rating, correction = turns_of(sent), sent.get("rating"), sent.get("correction")
    answer = turns[-1] if turns else {}
    if answer.get("role") != "assistant" or not answer.get("id") or answer.get("id") != sent.get("id"):
        raise ValueError(f"id={sent.get('id')!r}: the last turn must be the answer with this id")
    if rating == 0:
        store.withdraw(answer["id"])
        return
    if not isinstance(correction, str | None) or len(correction or "") > MAX_CORRECTION:
        raise ValueError(f"correction: use a text of at most {MAX_CORRECTION:,} characters")
    if sum(len(turn["content"]) for turn in turns) > MAX_CONVERSATION:
        raise ValueError(f"the conversation has more than {MAX_CONVERSATION:,} characters: start a new one")
    complete = answer.get("mode") == COMPLETE
    text = answer["content"][answer.get("given", 0) :] if complete else answer["content"]
    messages = (
        [{"role": "user", "content": answer["content"][: answer.get("given", 0)]}]
        if complete
        else messages_for_model(turns[:-1], system_prompt)
    )
    store.rate(
        Feedback(
            id=answer["id"],
            model=answer.get("model") or info.name,
            messages=messages,
            answer=text,
            rating=rating,
            tab=str(sent.get("tab") or "")[:32],
            mode="complete" if complete else "chat",
            correction=correction,
            artifact=info.artifact,
            commit=info.commit,
            sampling=answer.get("sampling", {}),
        )
    )
