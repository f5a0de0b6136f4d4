"""What a kind makes before the engine gives it an id, a split and, perhaps, noise."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Draft:
    """``text`` is what is trained on. For chats give ``messages``; ``text`` is then made from them if empty."""

    text: str = ""
    truth: dict = field(default_factory=dict)
    messages: tuple[dict[str, str], ...] | None = None


SPEAKERS = {"system": "시스템", "user": "사용자", "assistant": "도우미"}


def messages_as_text(messages) -> str:
    """Chat turns as plain text, one line per turn: ``사용자: ...`` / ``도우미: ...``."""
    return "\n".join(f"{SPEAKERS[message['role']]}: {message['content']}" for message in messages)
