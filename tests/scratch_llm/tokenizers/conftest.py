"""Text for the tokenizer tests: Korean as people write it, and everything that tends to break."""

from __future__ import annotations

import json
import lzma
import random
from itertools import islice
from pathlib import Path

import pytest

from scratch_llm.tokenizers import SPECIAL_TOKENS, ByteLevelBPE

SUBJECTS = (
    "할머니가 동생이 선생님께서 고양이가 민수는 지영이는 옆집 아저씨가 우리 반 친구들이 BTS가 GPU는".split()
)
PLACES = "시장에서 도서관에서 바닷가에서 부엌에서 운동장에서 서울역에서 할인점에서 2호선에서".split()
OBJECTS = "사과를 편지를 된장찌개를 책을 노래를 자전거를 OST를 숙제를 사진 3장을 1,500원짜리 빵을".split()
VERBS = "샀다. 읽었어요. 끓이셨습니다. 불렀지? 찾았대! 만들더라ㅋㅋㅋ 놓쳤네ㅠㅠ 보여 주었다. 기다렸습니다.".split()

AWKWARD_TEXTS = [
    "",
    " ",
    "   \n\n\t  \r\n끝",
    "안녕하세요",
    "닭갈비를 먹었다. 뷁! 꿻",
    "ㅋㅋㅋㅋㅋㅋㅋㅋ ㅠㅠ ㅇㅈ? ㄱㄱ",
    "GPU를 2024년 12월에 1,234,567원 주고 샀다.",
    "the cat's don't we'll I'm THE naïve café",
    "👩‍👩‍👧‍👦 👍🏽 🇰🇷 e\u0301 ä \u200b\ufeff",
    "混ぜた 漢字とかな 和 中文",
    "zero\x00byte \x1c\x85\u2028\u3000 ideographic\u00a0space",
    "def f(x):\n    return x**2\n\n\n# 주석",
    "\U0010ffff\uffff\ue000",
]


@pytest.fixture(scope="session")
def awkward_texts() -> list[str]:
    return AWKWARD_TEXTS


@pytest.fixture(scope="session")
def korean_texts() -> list[str]:
    """4,000 short made-up sentences, always the same (about 200 kB)."""
    draw = random.Random(7)
    parts = (SUBJECTS, PLACES, OBJECTS, VERBS)
    return [" ".join(draw.choice(words) for words in parts) + "\n" * draw.randrange(2) for _ in range(4000)]


@pytest.fixture(scope="session")
def tokenizer(korean_texts) -> ByteLevelBPE:
    """500 tokens, learned from ``korean_texts``, with the workshop's special tokens."""
    return ByteLevelBPE.train(korean_texts, 500, SPECIAL_TOKENS)


@pytest.fixture(scope="session")
def nsmc_texts(shared_data: Path) -> list[str]:
    """30,000 real film reviews (about 2 MB)."""
    with lzma.open(shared_data / "nsmc" / "reviews_other.jsonl.xz", "rt", encoding="utf-8") as stream:
        return [json.loads(line)["document"] for line in islice(stream, 30_000)]
