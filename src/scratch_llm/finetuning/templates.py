"""How an instruction and its answer become one row of tokens, and which of them are to be learnt.

Two templates: "chat" is the workshop's own (``scratch_llm.tokenizers.chat``), with a token for each role; "alpaca" is that of
Stanford Alpaca (Taori et al. 2023) as the book's chapter 7 uses it, plain text with headings and therefore one that every
tokenizer can write.  A model answers well only in the template that it learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scratch_llm.tokenizers import Tokenizer
from scratch_llm.tokenizers.chat import END_OF_TURN, ROLES

TEMPLATES = ("chat", "alpaca")
KEPT = 16
"""Tokens that are left of a person's text, however long the answer."""
ALPACA_INTRODUCTION = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
# Jinja, to be stored with the tokenizer of a model that learnt Alpaca's template; says the same as ``turns_of``.
ALPACA_TEMPLATE = (
    "{%- if messages | length > 2 or messages[0]['role'] != 'user' -%}"
    "{{- raise_exception('the Alpaca template takes one instruction and one answer') -}}"
    "{%- endif -%}"
    "{{- '" + ALPACA_INTRODUCTION + "\\n\\n### Instruction:\\n' + messages[0]['content'] -}}"
    "{%- if messages[0]['input'] -%}{{- '\\n\\n### Input:\\n' + messages[0]['input'] -}}{%- endif -%}"
    "{{- '\\n\\n### Response:\\n' -}}"
    "{%- if messages | length == 2 -%}"
    "{%- generation -%}{{- messages[1]['content'] + eos_token -}}{%- endgeneration -%}"
    "{%- endif -%}"
)


@dataclass(frozen=True)
class Example:
    """A conversation to learn answers from.

    ``input`` is what the last question is about where it stands apart from the instruction, as in Alpaca's data.
    """

    messages: tuple[Mapping[str, str], ...]
    input: str = ""
    task: str = ""
    id: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Example:
        """A row of Alpaca's form: ``instruction``, perhaps ``input``, ``output``, and perhaps ``task`` and ``id``.

        ValueError where instruction or output is no text.
        """
        for name in ("instruction", "output"):
            if not isinstance(row.get(name), str):
                raise ValueError(f"an instruction needs the fields instruction and output, as text; this row has {', '.join(row)}")
        messages = ({"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["output"]})
        return cls(messages, row.get("input") or "", str(row.get("task", "")), str(row.get("id", "")))

    @property
    def answer(self) -> str:
        """What the assistant says last; empty where it says nothing."""
        return self.messages[-1]["content"] if self.messages and self.messages[-1]["role"] == "assistant" else ""

    @property
    def prompt(self) -> tuple[Mapping[str, str], ...]:
        """The conversation up to the last answer, the input written into the question."""
        before = self.messages[:-1] if self._ends_with_assistant else self.messages
        asked = [i for i, message in enumerate(before) if message["role"] == "user"]
        if not self.input or not asked:
            return tuple(before)
        last = asked[-1]
        return tuple({**m, "content": f"{m['content']}\n\n{self.input}"} if i == last else m for i, m in enumerate(before))

    @property
    def _ends_with_assistant(self) -> bool:
        return bool(self.messages) and self.messages[-1]["role"] == "assistant"


class Piece(NamedTuple):
    """Tokens of a row that belong together."""

    ids: list[int]
    is_answer: bool
    may_shrink: bool
    """Whether it is a person's text, of which a part can be left out where the row is too long."""


class Turn(NamedTuple):
    """What one role says, with what the template puts around it."""

    role: str
    pieces: list[Piece]


def turns_of(example: Example, tokenizer: Tokenizer, template: str = "chat") -> list[Turn]:
    """The turns of an example, after one of role "" with the token that begins a text.

    Raises:
        ValueError: an unknown template or role, a tokenizer without the tokens of the chat template, or a conversation that
            the Alpaca template cannot write.
    """
    if template not in TEMPLATES:
        raise ValueError(f"template {template!r} is unknown; choose one of {', '.join(TEMPLATES)}")
    turns = _chat_turns(example, tokenizer) if template == "chat" else [_alpaca_turn(example, tokenizer)]
    if not turns:
        raise ValueError(f"example {example.id or '(without id)'} has no messages: give a question and an answer at least")
    return [Turn("", [Piece([tokenizer.eos_id], False, False)]), *turns]


def prompt_ids(example: Example, tokenizer: Tokenizer, template: str = "chat", max_length: int | None = None) -> list[int]:
    """The row up to where the last answer begins: what a model is asked; at most ``max_length`` tokens, as in ``shorten``."""
    if template == "chat":
        turns = turns_of(Example(example.prompt), tokenizer, template)
        turns.append(Turn("assistant", [Piece([tokenizer.special_id("<|assistant|>")], False, False)]))
    else:
        turns = [Turn(role, [p for p in pieces if not p.is_answer]) for role, pieces in turns_of(example, tokenizer, template)]
    if max_length is not None:
        turns, _ = shorten(turns, max_length, tokenizer)
    return flat(turns)[0].tolist()


def flat(turns: Sequence[Turn]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids int32 (n,) and whether they are the assistant's, bool (n,)."""
    pieces = [piece for turn in turns for piece in turn.pieces]
    ids = np.array([token for piece in pieces for token in piece.ids], dtype=np.int32)
    return ids, np.repeat([piece.is_answer for piece in pieces], [len(piece.ids) for piece in pieces])


def shorten(turns: Sequence[Turn], limit: int, tokenizer: Tokenizer | None = None) -> tuple[list[Turn], bool]:
    """Turns of at most ``limit`` tokens if that can be, and whether anything was left out.

    First the oldest exchanges go, but no system turn and never the last one; then the longest texts of people lose their
    middle: what is asked stands mostly at their beginning or end.  Answers stay whole.  With a ``tokenizer`` no part of a
    character is left at the cut.
    """
    turns = [Turn(role, list(pieces)) for role, pieces in turns]
    excess = _n_tokens(turns) - limit
    if excess <= 0:
        return turns, False
    while excess > 0:
        asked = [i for i, turn in enumerate(turns) if turn.role == "user"]
        if len(asked) < 2:
            break
        # An exchange goes as a whole: an answer without its question would teach nonsense.
        excess -= _n_tokens(turns[asked[0] : asked[1]])
        del turns[asked[0] : asked[1]]
    texts = [(turn.pieces, at) for turn in turns for at, piece in enumerate(turn.pieces) if piece.may_shrink]
    for pieces, at in sorted(texts, key=lambda text: -len(text[0][text[1]].ids)):
        ids = pieces[at].ids
        left = max(min(KEPT, len(ids)), len(ids) - max(0, excess))
        excess -= len(ids) - left
        head, tail = ids[: left - left // 2], ids[len(ids) - left // 2 :]
        if left < len(ids) and tokenizer is not None:
            head, tail = _whole_characters(head, tail, tokenizer)
        pieces[at] = pieces[at]._replace(ids=head + tail)
    return turns, True


def _whole_characters(head: list[int], tail: list[int], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Without the tokens at the cut that are only a part of a character."""
    while head and tokenizer.decode(head[-4:]).endswith("\ufffd"):
        head = head[:-1]
    while tail and tokenizer.decode(tail[:4]).startswith("\ufffd"):
        tail = tail[1:]
    return head, tail


def _n_tokens(turns: Sequence[Turn]) -> int:
    return sum(len(piece.ids) for turn in turns for piece in turn.pieces)


def _chat_turns(example: Example, tokenizer: Tokenizer) -> list[Turn]:
    """Equal to ``encode_chat``, in pieces."""
    messages = [*example.prompt, *(example.messages[-1:] if example._ends_with_assistant else ())]
    turns = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES or not isinstance(content, str):
            raise ValueError(f"a message has role {role!r} and content {content!r}: use one of {', '.join(ROLES)}, and text")
        answers = role == "assistant"
        turns.append(Turn(role, [
            Piece([tokenizer.special_id(f"<|{role}|>")], False, False),
            Piece(tokenizer.encode(content, allow_special=False), answers, not answers),
            Piece([tokenizer.special_id(END_OF_TURN)], answers, False),
        ]))  # fmt: skip
    return turns


def _alpaca_turn(example: Example, tokenizer: Tokenizer) -> Turn:
    """Headings as plain text; the answer ends with the end of the text."""
    roles = [message["role"] for message in example.messages]
    if roles not in (["user", "assistant"], ["user"]):
        raise ValueError(
            f"the Alpaca template writes one instruction and one answer, not the turns {', '.join(roles) or '(none)'}: "
            "use template=chat for conversations"
        )

    def piece(text: str, is_answer: bool = False, may_shrink: bool = False) -> Piece:
        return Piece(tokenizer.encode(text, allow_special=False), is_answer, may_shrink)

    turn = [piece(f"{ALPACA_INTRODUCTION}\n\n### Instruction:\n"), piece(example.messages[0]["content"], may_shrink=True)]
    if example.input:
        turn += [piece("\n\n### Input:\n"), piece(example.input, may_shrink=True)]
    turn.append(piece("\n\n### Response:\n"))
    if len(roles) == 2:
        turn += [piece(example.answer, is_answer=True), Piece([tokenizer.eos_id], True, False)]
    return Turn("user", turn)
