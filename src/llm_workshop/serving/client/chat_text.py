"""A tokenizer's folder as its model's way to write conversations as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from llm_workshop.serving.engine import Message


class ChatText:
    """Text prompts for the model whose tokenizer is in ``folder``, and their lengths in tokens.

    Special tokens that people type ("<|user|>") are taken out of their texts: a server that gets a prompt as text
    cannot tell them from those of the template.  Raises ValueError, with the cure, for a folder without a tokenizer.
    """

    def __init__(self, folder: str | Path):
        from scratch_llm.tokenizers import load_tokenizer

        self.folder = Path(folder)
        try:
            self.tokenizer = load_tokenizer(self.folder)
        except FileNotFoundError:
            raise ValueError(
                f"no tokenizer in {self.folder}: the model's folder (tokenizer.json) is needed here too, to write the "
                "conversation as the model knows it; copy it, or name its place"
            ) from None
        names = sorted(self.tokenizer.special_tokens, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, names))) if names else None

    def without_special(self, text: str) -> str:
        """``text`` without the names of special tokens, nor any that appear when others are taken out."""
        while self._special is not None and (shorter := self._special.sub("", text)) != text:
            text = shorter
        return text

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation up to where the model's answer begins."""
        from scratch_llm.tokenizers import CHAT_TEMPLATE, render_chat

        clean = [{**message, "content": self.without_special(message["content"])} for message in messages]
        if self._template == CHAT_TEMPLATE:
            return render_chat(clean, add_generation_prompt=True)
        from jinja2 import TemplateError

        roles = {role: self._role(role) for role in ("bos_token", "eos_token")}
        try:
            text = self._compiled.render(messages=clean, add_generation_prompt=True, **roles)
        except TemplateError as error:
            raise ValueError(f"the chat template in {self.folder} does not work ({error}): mend it or take it out") from None
        # The server puts the beginning token before every text.
        return text.removeprefix(self._role("bos_token"))

    def count(self, text: str) -> int:
        """Tokens of a prompt, with the one that the server puts before it."""
        return len(self.tokenizer.encode(text)) + 1

    def _role(self, role: str) -> str:
        return self.tokenizer.roles.get(role) or ""

    @cached_property
    def _template(self) -> str:
        file = self.folder / "chat_template.jinja"
        if file.is_file():
            return file.read_text(encoding="utf-8")
        if template := getattr(self.tokenizer, "chat_template", None):
            return template
        raise ValueError(f"the tokenizer in {self.folder} has no chat template: the model cannot chat, let it continue a text")

    @cached_property
    def _compiled(self) -> Any:
        """The folder's own template.  It is a program of others: it runs in Jinja's sandbox."""
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise ValueError(f"the chat template in {self.folder} refuses the conversation: {message}")

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        environment.globals["raise_exception"] = refuse
        # Tags of transformers' own, which mark what a model writes: here they may do nothing.
        template = re.sub(r"(\{%[-+]?\s*)generation\b", r"\1if true", self._template)
        return environment.from_string(re.sub(r"(\{%[-+]?\s*)endgeneration\b", r"\1endif", template))
