"""The served model as a ChatEngine: conversations become prompts here, answers come from the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llm_workshop.serving.client.answer import Answer
from llm_workshop.serving.client.chat_text import ChatText
from llm_workshop.serving.client.client import TritonClient
from llm_workshop.serving.conversation import fit_messages, prompt_limit
from llm_workshop.serving.engine import Delta, Message, ModelInfo, PromptTooLongError, Sampling


class TritonEngine:
    """ChatEngine over a TritonClient; several answers may be on their way at once.

    ``tokenizer`` is the folder of the model's tokenizer, by default the one that the server names (``artifact``), which
    must be reachable from here.  ``max_turns`` as for ScratchEngine.
    """

    def __init__(self, client: TritonClient, tokenizer: str | Path | None = None, max_turns: int = 8):
        self.client, self.max_turns = client, max_turns
        self._folder, self._text = tokenizer, None
        self._lock = threading.Lock()

    def info(self) -> ModelInfo:
        return self.client.info()

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        """Answer the last message; see ChatEngine.  ValueError for a model that has not learnt conversations."""
        info = self.info()
        if not info.supports_chat:
            raise ValueError(f"model {info.name} cannot chat, its training had no conversations: let it continue a text instead")
        text = self._chat_text(info)

        def prompt(limit: int) -> tuple[str, int]:
            kept, dropped = fit_messages(messages, lambda m: text.count(text.render(m)), limit, self.max_turns)
            return text.render(kept), dropped

        yield from self._answer(prompt, info, sampling)

    def complete(self, text: str, sampling: Sampling) -> Iterator[Delta]:
        """Go on writing after ``text``; see ChatEngine."""
        info = self.info()
        chat_text = self._chat_text(info)
        plain = chat_text.without_special(text)

        def prompt(limit: int) -> tuple[str, int]:
            if (n_tokens := chat_text.count(plain)) > limit:
                raise PromptTooLongError(n_tokens, limit)
            return plain, 0

        yield from self._answer(prompt, info, sampling)

    def close(self) -> None:
        self.client.close()

    def _answer(self, prompt: Callable[[int], tuple[str, int]], info: ModelInfo, sampling: Sampling) -> Iterator[Delta]:
        """``prompt(limit)`` gives a text of at most so many tokens and how many messages it lost."""
        limit = prompt_limit(info.context_length, sampling.max_new_tokens)
        while True:
            text, dropped = prompt(limit)
            answer = self.client.generate(text, sampling)
            try:
                first = next(answer)
                break
            except PromptTooLongError as error:
                if error.limit >= limit:
                    raise
                limit = error.limit  # the server serves less than the model's context (serving.max_tokens)
        yield from _with_dropped(answer, first, dropped)

    def _chat_text(self, info: ModelInfo) -> ChatText:
        with self._lock:
            if self._text is None:
                folder = self._folder or info.artifact
                if folder is None:
                    raise ValueError(f"model {info.name} does not tell where its tokenizer is: name the model's folder")
                self._text = ChatText(folder)
            return self._text


def _with_dropped(answer: Answer, first: Delta, dropped: int) -> Iterator[Delta]:
    try:
        yield replace(first, dropped_messages=dropped)
        for delta in answer:
            yield replace(delta, dropped_messages=dropped) if delta.finish_reason else delta
    finally:
        answer.close()
