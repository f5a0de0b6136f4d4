"""What the clients ask: Korean prompts of a wished length, and the mixture of a soak."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from llm_workshop.serving.engine import PromptTooLongError, Sampling
from llm_workshop.serving.loadtest.drive import Connection
from llm_workshop.serving.loadtest.records import Job

WHO = ("할머니는", "아이들이", "옆집 고양이가", "선생님께서", "도서관 사서가", "어부는", "우리 반 친구들이", "기차 기관사가", "동네 빵집 주인이")
WHEN = ("이른 아침에", "비가 그친 뒤", "장날마다", "겨울 방학에", "해가 질 무렵", "지난 주말", "눈이 오던 밤", "점심을 먹고")
WHAT = ("따뜻한 국수를", "오래된 사진을", "작은 화분을", "새로 나온 책을", "나무 의자를", "빨간 우산을", "바닷가의 돌을", "반짝이는 별을")
DID = ("바라보았습니다.", "정성껏 닦았습니다.", "이웃과 나누었습니다.", "조심스레 옮겼습니다.", "한참 살펴보았습니다.", "가방에 넣었습니다.")

Count = Callable[[str], int]
"""How many tokens a text has."""


def korean_text(n_characters: int, seed: int) -> str:
    """Sentences of so many characters, never the same for two seeds, so that no cache of prompts helps."""
    source, text = random.Random(seed), f"{seed}."
    while len(text) < n_characters:
        text += " " + " ".join(source.choice(words) for words in (WHEN, WHO, WHAT, DID))
    text = text[: max(1, n_characters)]
    return text[:-1] + "." if text.endswith(" ") else text


def text_of_tokens(n_tokens: int, seed: int, characters_per_token: float) -> str:
    """A text of about ``n_tokens`` tokens."""
    return korean_text(round(n_tokens * characters_per_token), seed)


def characters_per_token(connection: Connection, n_characters: int = 40) -> float:
    """Asked of the served model itself, whose tokenizer a client need not have."""
    text = korean_text(n_characters, seed=1)
    while True:
        try:
            told = [p.n_prompt_tokens for p in connection.generate(text, Sampling(max_new_tokens=1)) if p.n_prompt_tokens]
            return len(text) / told[0] if told else 1.0
        except PromptTooLongError as error:  # even so short a text: what does not fit tells its tokens too
            return len(text) / error.n_tokens


def uniform_jobs(
    n: int, *, prompt_tokens: int, max_new_tokens: int, characters_per_token: float = 1.0, temperature: float = 0.0, seed: int = 0
) -> list[Job]:
    """``n`` requests of one size, each with a prompt of its own; greedy by default, so that runs can be repeated."""
    samplings = (Sampling(max_new_tokens, temperature, seed=seed + i if temperature else None) for i in range(n))
    return [Job(text_of_tokens(prompt_tokens, seed + i, characters_per_token), s) for i, s in enumerate(samplings)]


def mixed_jobs(context_length: int, characters_per_token: float, seed: int = 0) -> Iterator[Job]:
    """Requests without end for a soak: short and long prompts, every kind of sampling, clients that go away or read
    slowly, and now and then a prompt that cannot fit."""
    source, number = random.Random(seed), 10_000 * seed
    kinds = {"short": 8, "long": 4, "cancel": 4, "slow": 2, "too long": 1}
    while True:
        number += 1
        kind = source.choices(list(kinds), list(kinds.values()))[0]
        # A second estimate of the length: prompts of at most two thirds fit whatever their own characters per token.
        share = {"long": source.uniform(0.4, 0.6), "too long": 4.0}.get(kind, source.uniform(0.02, 0.15))
        n_tokens = max(2, round(share * context_length))
        room = max(2, context_length // 4)
        job_sampling = random_sampling(source, source.randint(1, room) if kind != "cancel" else room)
        text = text_of_tokens(n_tokens, number, characters_per_token)
        yield Job(
            text,
            job_sampling,
            kind,
            cancel_after=source.randint(1, max(1, room // 2)) if kind == "cancel" else None,
            pause=source.uniform(0.02, 0.1) if kind == "slow" else 0.0,
        )


def random_sampling(source: random.Random, max_new_tokens: int) -> Sampling:
    """Any of the ways to draw a token, each with its own seed."""

    def sometimes(value):
        return value if source.random() < 0.4 else None

    return Sampling(
        max_new_tokens=max_new_tokens,
        temperature=source.choice((0.0, 0.3, 0.7, 1.0, 1.5)),
        top_k=sometimes(source.choice((1, 5, 40))),
        top_p=sometimes(source.choice((0.5, 0.9, 1.0))),
        min_p=sometimes(source.choice((0.02, 0.1))),
        repetition_penalty=source.choice((1.0, 1.0, 1.2)),
        frequency_penalty=source.choice((0.0, 0.0, 0.5)),
        presence_penalty=source.choice((0.0, 0.0, 0.5)),
        stop=sometimes(source.choice((("습니다.",), ("\n", "니다")))) or (),
        seed=sometimes(source.randrange(2**31)),
    )
