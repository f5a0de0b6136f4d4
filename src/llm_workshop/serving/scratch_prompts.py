"""What a scratch model is shown and where its answer ends: the same in this process and behind a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_workshop.serving.conversation import prompt_limit
from llm_workshop.serving.engine import Message, PromptTooLongError, Sampling

if TYPE_CHECKING:
    from scratch_llm.generation import SamplingConfig
    from scratch_llm.models.base import LanguageModel
    from scratch_llm.tokenizers import ByteLevelBPE


class ScratchPrompts:
    """Token ids of prompts for a model with a context of ``context_length``.

    ``beginning`` stands before every prompt.  Any of ``stop_ids``, the special tokens, ends an answer: a model that
    begins to speak for the user is stopped there.
    """

    def __init__(self, model: LanguageModel, tokenizer: ByteLevelBPE, context_length: int | None = None):
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}: "
                "use the tokenizer the model was trained with"
            )
        self.tokenizer = tokenizer
        self.context_length = context_length or model.config.context_length
        self.stop_ids = frozenset(tokenizer.special_tokens.values())
        # Training documents follow one another with the end mark between them, so it also begins one.
        first = model.config.bos_token_id
        first = tokenizer.eos_id if first is None else first
        self.beginning = [] if first is None else [first]

    def limit(self, max_new_tokens: int) -> int:
        """Tokens of a prompt: the answer's share of the context is kept free, but never more than half of it."""
        return prompt_limit(self.context_length, max_new_tokens)

    def text_ids(self, text: str, max_new_tokens: int, *, allow_special: bool) -> list[int]:
        """A text to go on from; ``allow_special``: markers such as <|user|> in it count.  Raises PromptTooLongError."""
        ids = [*self.beginning, *self.tokenizer.encode(text, allow_special=allow_special)]
        if len(ids) > (limit := self.limit(max_new_tokens)):
            raise PromptTooLongError(len(ids), limit)
        return ids

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """A conversation in the chat template, of any length; markers that people typed are plain text."""
        from scratch_llm.tokenizers import encode_chat

        ids, _ = encode_chat(self.tokenizer, messages, add_generation_prompt=True)
        return [*self.beginning, *ids]


def sampling_config(sampling: Sampling) -> SamplingConfig:
    """The same wishes in the words of ``scratch_llm``."""
    from scratch_llm.generation import SamplingConfig

    return SamplingConfig(
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        frequency_penalty=sampling.frequency_penalty,
        presence_penalty=sampling.presence_penalty,
        stop=sampling.stop,
        seed=sampling.seed,
    )
