"""The special tokens of the workshop's models and the one way a conversation is written as text.

A turn is its role's token, the content as it stands, and ``<|end|>``::

    <|system|>친절하게 답해 주세요.<|end|><|user|>안녕?<|end|><|assistant|>안녕하세요!<|end|>
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .byte_level_bpe import ByteLevelBPE

END_OF_TEXT = "<|endoftext|>"
PAD = "<|pad|>"
END_OF_TURN = "<|end|>"
ROLES = ("system", "user", "assistant")
SPECIAL_TOKENS = [END_OF_TEXT, PAD, *(f"<|{role}|>" for role in ROLES), END_OF_TURN]

Messages = Sequence[Mapping[str, str]]

# Jinja, for Hugging Face's apply_chat_template; says the same as render_chat.  Between the generation tags stands what the
# model writes itself: return_assistant_tokens_mask marks it, as encode_chat's second list does.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('unknown role ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def render_chat(messages: Messages, add_generation_prompt: bool = False) -> str:
    """A conversation as one string.

    Args:
        messages: ``{"role": "system"|"user"|"assistant", "content": str}`` in order.
        add_generation_prompt: end with ``<|assistant|>``, so that the model goes on with its answer.

    Raises:
        ValueError: an unknown role or a message without content.
    """
    turns = [f"<|{role}|>{content}{END_OF_TURN}" for role, content in map(_role_and_content, messages)]
    return "".join(turns) + ("<|assistant|>" if add_generation_prompt else "")


def encode_chat(
    tokenizer: ByteLevelBPE, messages: Messages, add_generation_prompt: bool = False
) -> tuple[list[int], list[bool]]:
    """A conversation as token ids, safe against content that spells special tokens.

    Equal to encoding :func:`render_chat`, except that "<|end|>" typed by a person stays ordinary text and
    cannot close the turn.

    Returns:
        ids: (n_tokens,)
        is_answer: (n_tokens,) True where the assistant speaks (content and its ``<|end|>``): the tokens to
            train on in instruction tuning.
    """
    ids: list[int] = []
    is_answer: list[bool] = []
    for role, content in map(_role_and_content, messages):
        body = [*tokenizer.encode(content, allow_special=False), tokenizer.special_id(END_OF_TURN)]
        ids += [tokenizer.special_id(f"<|{role}|>"), *body]
        is_answer += [False] + [role == "assistant"] * len(body)
    if add_generation_prompt:
        ids.append(tokenizer.special_id("<|assistant|>"))
        is_answer.append(False)
    return ids, is_answer


def _role_and_content(message: Mapping[str, str]) -> tuple[str, str]:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"message role {role!r} is unknown: use one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise ValueError(f"the content of a {role} message must be str, not {type(content).__name__}")
    return role, content
