"""Texts that were cut, and texts that only end without a full stop."""

from __future__ import annotations

import pytest

from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.truncation import Truncated

STORY = "어제는 비가 와서 집에 있었다. 책을 읽다가 낮잠을 잤다. 저녁에는 국수를 끓였다."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (STORY + " 오늘은 날이 맑아 산책을 나갔", "inside_word"),
        (STORY + " 오늘은 날이 맑아 공원에서 자전거", "open_sentence"),
        (STORY + " 오늘은 날이 맑아 공원에서...", "open_sentence"),
        (STORY + " 오늘은 날이 맑… (더보기)", "more_elsewhere"),
        (STORY + " 오늘은 날이...[전문 보기]", "more_elsewhere"),
        (STORY + "\n오늘은 공원에서 자전거", "open_sentence"),
        (STORY + " 오늘은 날이 맑아\n더 보기", "more_elsewhere"),
        ("하나: 뭐 먹을까?\n두리: 국수 먹자. 날이 추우니까 따뜻한 국물", "open_sentence"),
        ("- 물을 끓인다.\n- 면을 넣는다.\n- 그릇에 담아 김치", "open_sentence"),
    ],
)
def test_cut_texts(text, reason):
    result = Truncated()(text, {})
    assert isinstance(result, Drop) and result.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        STORY,
        STORY + "\n김하늘 올림",
        STORY + "\n3월 2일",
        STORY + " 정말 좋은 날이었다",
        "질문: 무엇을 끓였나요?\n답: 국수",
        "보고 싶은 언니에게\n" + STORY + "\n너의 동생 하늘",
        "재료: 밥, 김, 단무지",
        "배우 연기 최고",
        "여운이 남는다.. 다시 보고 싶은 영화..",
        "# 안내\n" + STORY + "\n\n## 참고 항목\n- 설치 방법\n- 문제 해결",
        STORY + " 그런데 오늘은 종일 바쁘게 보내면서...",
        STORY + " 설거지는 이렇게 나눕니다. 1. 그릇 모으기 2. 물에 담가 두기 3. 헹군 뒤 말리는 순서 확인",
        STORY + " 집에서 쉬는 날 #국수#낮잠",
        "- 물 끓이기\n- 국수 넣기\n- 계속",
        "끓는 국수를 설명한 글 더 보기",
        "먹을수록 생각나는 국수 맛",
        "12 + 30 = 42",
        "See https://example.com/page",
        "",
    ],
)
def test_whole_texts(text):
    assert Truncated()(text, {}) is text


def test_long_texts_keep_their_place():
    text = STORY * 30 + " 오늘은 공원에서 자전거"
    assert Truncated()(text, {}) is text
    assert isinstance(Truncated(longest=10_000)(text, {}), Drop)
