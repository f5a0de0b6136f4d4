"""An engine without a model, for tests of the page: it streams set sentences at a set pace."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

from llm_workshop.serving.conversation import fit_messages
from llm_workshop.serving.engine import Delta, Message, ModelInfo, PromptTooLongError, Sampling

ANSWER = (
    "안녕하세요! 저는 여러분이 밑바닥부터 만든 작은 언어 모델이에요. 오늘은 서울에 비가 조금 내리네요. "
    "따뜻한 차를 한 잔 마시면서 천천히 이야기해 볼까요?\n\n궁금한 것이 있으면 무엇이든 물어보세요. 😊"
)


class FakeEngine:
    """Counts a token per word; ``seconds_per_token`` sets the pace."""

    def __init__(self, supports_chat=True, seconds_per_token=0.05, context_length=256, answer=ANSWER):
        self.supports_chat, self.seconds_per_token = supports_chat, seconds_per_token
        self.context_length, self.answer = context_length, answer
        self.requests: list[tuple[object, Sampling]] = []
        self.closed_early = 0

    def info(self) -> ModelInfo:
        return ModelInfo(
            name="laptop/base-model",
            architecture="llama",
            n_parameters=5_772_544,
            context_length=self.context_length,
            vocab_size=4096,
            supports_chat=self.supports_chat,
            bits_per_byte=1.234,
            trained_on="sample (16 MB)",
            trained_tokens=6_000_000,
            commit="0123456789ab",
            created="2026-11-20T12:00:00+00:00",
            artifact="artifacts/laptop/base-model",
            device="CPU",
            precision="bfloat16",
        )

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Delta]:
        kept, dropped = fit_messages(messages, lambda m: sum(len(x["content"].split()) for x in m), self.context_length)
        self.requests.append((kept, sampling))
        return self._answer(sampling, dropped)

    def complete(self, text: str, sampling: Sampling) -> Iterator[Delta]:
        if (n_tokens := len(text.split())) > self.context_length:
            raise PromptTooLongError(n_tokens, self.context_length)
        self.requests.append((text, sampling))
        return self._answer(sampling, 0)

    def _answer(self, sampling: Sampling, dropped: int) -> Iterator[Delta]:
        words = re.findall(r"\S+\s*", self.answer)
        finished = False
        try:
            for index, word in enumerate(words[: sampling.max_new_tokens]):
                time.sleep(self.seconds_per_token)
                yield Delta(word, 1, dropped_messages=dropped if index == 0 else 0)
            finished = True
            yield Delta(finish_reason="stop" if len(words) <= sampling.max_new_tokens else "length")
        finally:
            self.closed_early += not finished
