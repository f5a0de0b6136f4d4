"""Conversations: cleaning what people type, and keeping a long one inside the context."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from llm_workshop.serving.engine import ROLES, Message, PromptTooLongError

REPLACEMENT = "\ufffd"
# Control and format characters that no sentence needs; zero-width joiners stay, emoji are made with them.
_UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def clean(text: str | None) -> str:
    """Text as the model should see it: NFC, "\\n" line ends, no control characters, halves of surrogate
    pairs or U+FFFD; outer white space removed."""
    text = (text or "").encode("utf-8", "ignore").decode("utf-8")
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return _UNWANTED.sub("", text).replace(REPLACEMENT, "").strip()


def visible(piece: str) -> str:
    """A piece of a model's answer without what a screen should not get: control characters (a terminal obeys them),
    halves of surrogate pairs, U+FFFD."""
    piece = piece.encode("utf-8", "ignore").decode("utf-8").replace("\r", "").replace(REPLACEMENT, "")
    return _UNWANTED.sub("", piece)


def content_text(content: object) -> str:
    """The text of a message's content: a string, or the list of parts that Gradio makes of it."""
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        return "".join(content_text(part) for part in content)
    if isinstance(content, dict):
        return str(content.get("text") or "")
    return ""


def check_messages(messages: Sequence[Message]) -> None:
    """Raise ValueError unless the messages are turns that a chat template can render."""
    if not messages:
        raise ValueError("a conversation needs at least one message")
    for index, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            raise ValueError(f"message {index} has role {role!r}: use one of {', '.join(ROLES)}")
        if role == "system" and index:
            raise ValueError(f"message {index} is a system turn: only the first message may be one")
        if not isinstance(message.get("content"), str):
            raise ValueError(f"message {index} has no text: give 'content' as a string")
    if messages[-1]["role"] != "user":
        raise ValueError(f"the last message is from {messages[-1]['role']!r}: it must be from 'user'")


def prompt_limit(context_length: int, max_new_tokens: int) -> int:
    """Tokens of a prompt: the answer's share of the context is kept free, but never more than half of it."""
    return context_length - min(max_new_tokens, context_length // 2)


def fit_messages(
    messages: Sequence[Message],
    count_tokens: Callable[[Sequence[Message]], int],
    limit: int,
    max_turns: int | None = None,
) -> tuple[list[Message], int]:
    """The newest part of a conversation that fits ``limit`` tokens, and how many messages were dropped.

    Whole messages are dropped, oldest first, so that what is left begins with a user turn; a leading
    system turn stays.  ``max_turns`` limits the user turns kept.  Raises PromptTooLongError if the
    newest message alone (with the system turn) does not fit.
    """
    check_messages(messages)
    system = [message for message in messages[:1] if message["role"] == "system"]
    starts = [i for i, message in enumerate(messages) if message["role"] == "user"]
    if max_turns is not None:
        starts = starts[-max_turns:]
    # The longest tail that fits: counting is cheap beside generating, and tails are few.
    for start in starts:
        kept = [*system, *messages[start:]]
        if count_tokens(kept) <= limit:
            return kept, start - len(system)
    raise PromptTooLongError(count_tokens([*system, messages[-1]]), limit)
