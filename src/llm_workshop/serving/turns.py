"""The conversation as the browser holds it: messages, with what the page must know about each answer."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from llm_workshop.serving import words
from llm_workshop.serving.conversation import REPLACEMENT, clean
from llm_workshop.serving.engine import Message, Sampling
from llm_workshop.serving.words import CHAT

#: A message and, for an answer: id, model, mode ("대화"/"이어쓰기"), sampling, and how many characters were given.
Turn = dict[str, Any]

_ANSWER_KEYS = {"id": str, "model": str, "mode": str, "sampling": dict, "given": int}
#: More turns than anybody reads are not taken from a browser.
MAX_TURNS = 1000


def user_turn(text: str) -> Turn:
    return {"role": "user", "content": text}


def answer_turn(text: str, model: str, mode: str, sampling: Sampling, given: int = 0) -> Turn:
    """An answer with an id of its own; the first ``given`` characters are what was to be continued."""
    chosen = {name: value for name, value in asdict(sampling).items() if value not in (None, ())}
    facts = {"id": secrets.token_hex(8), "model": model, "mode": mode, "sampling": chosen, "given": given}
    return {"role": "assistant", "content": text, **facts}


def turns_of(value: Any) -> list[Turn]:
    """The turns in what a browser sent; whatever is no turn is left out, so that nothing odd goes any further."""
    listed = value.get("turns") if isinstance(value, dict) else value
    turns = []
    for item in listed[-MAX_TURNS:] if isinstance(listed, list) else ():
        if not isinstance(item, dict) or item.get("role") not in ("user", "assistant"):
            continue
        if not isinstance(item.get("content"), str):
            continue
        turn = {"role": item["role"], "content": item["content"].replace(REPLACEMENT, "")}
        if turn["role"] == "assistant":
            turn |= {key: item[key] for key, kind in _ANSWER_KEYS.items() if isinstance(item.get(key), kind)}
        turns.append(turn)
    return turns


def messages_for_model(turns: Sequence[Turn], system: str | None) -> list[Message]:
    """What the engine is shown: the system prompt and all turns that have words."""
    messages = [{"role": "system", "content": clean(system)}] if system else []
    return messages + [{"role": t["role"], "content": t["content"]} for t in without_empty_answers(turns)]


def without_empty_answers(turns: Sequence[Turn]) -> list[Turn]:
    """Leave out turns in which the model wrote nothing: our notice about it is no turn it should see.

    A question that was never answered (the engine broke, then something else was asked) goes the same way.
    """
    kept: list[Turn] = []
    for turn in turns:
        if turn["role"] == "assistant" and turn["content"] in ("", words.EMPTY_ANSWER):
            kept = kept[:-1] if kept and kept[-1]["role"] == "user" else kept
        elif kept and kept[-1]["role"] == "user" and turn["role"] == "user":
            kept[-1] = turn
        else:
            kept.append(turn)
    return kept


def is_markdown(turn: Turn) -> bool:
    """Answers in a conversation are Markdown; a text that is continued, and what people typed, are themselves."""
    return turn["role"] == "assistant" and turn.get("mode", CHAT) == CHAT


def sampling_from_controls(
    temperature, top_k, top_p, min_p, repetition_penalty, max_new_tokens, seed,
    frequency_penalty=0.0, presence_penalty=0.0, stop="",
) -> Sampling:  # fmt: skip
    """Controls as they stand on the page -> Sampling; 0 (top-k, min-p) and 1 (top-p) mean off.

    ``stop`` has one text a line.  An empty seed is drawn at random, so that every answer can be repeated with the
    seed it shows.
    """
    return Sampling(
        max_new_tokens=int(max_new_tokens),
        temperature=float(temperature),
        top_k=int(top_k) or None,
        top_p=float(top_p) if float(top_p) < 1 else None,
        min_p=float(min_p) or None,
        repetition_penalty=float(repetition_penalty),
        frequency_penalty=float(frequency_penalty),
        presence_penalty=float(presence_penalty),
        stop=tuple(dict.fromkeys(line for line in str(stop or "").split("\n") if line.strip())),
        seed=int(seed) if str(seed or "").strip() else random.SystemRandom().randrange(2**31),
    )
