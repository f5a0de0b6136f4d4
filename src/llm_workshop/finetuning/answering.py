"""Asking a model the questions of a set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scratch_llm.finetuning.templates import Example, prompt_ids
from scratch_llm.generation import SamplingConfig, TokenStream
from scratch_llm.models.base import LanguageModel
from scratch_llm.tokenizers import ByteLevelBPE


def answer_all(
    model: LanguageModel,
    tokenizer: ByteLevelBPE,
    examples: Sequence[Example],
    *,
    template: str = "chat",
    max_new_tokens: int = 64,
    batch_size: int = 32,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[str], list[bool]]:
    """Greedy answers in the order of the questions, and which of them ended by themselves.

    Questions of like length are answered together.  Prompts that would leave no room for the answer are shortened as in
    training.  Every special token ends an answer: a model that begins to speak for the user is stopped there.
    """
    room = model.config.context_length - max_new_tokens
    if room < 16:
        raise ValueError(
            f"max_new_tokens {max_new_tokens} leaves {room} of the context of {model.config.context_length} for the question: ask for less"
        )
    prompts = [prompt_ids(example, tokenizer, template, room) for example in examples]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    stop_ids = frozenset(tokenizer.special_tokens.values())
    answers, ended = [""] * len(prompts), [False] * len(prompts)
    sampling = SamplingConfig(max_new_tokens=max_new_tokens, temperature=0)
    for at in range(0, len(order), batch_size):
        places = order[at : at + batch_size]
        stream = TokenStream(model, [prompts[i] for i in places], sampling, stop_ids=stop_ids, n_ids=tokenizer.vocab_size)
        written: list[list[int]] = [[] for _ in places]
        for tokens in stream:
            for row, token in zip(written, tokens):
                if token is not None:
                    row.append(token)
        for row, (place, ids) in enumerate(zip(places, written)):
            # An answer may be cut in the middle of a character, or be no text at all.
            answers[place] = tokenizer.decode(ids).replace("\ufffd", "").strip()
            ended[place] = stream.finished[row]
        on_progress(min(at + batch_size, len(order)))
    return answers, ended
