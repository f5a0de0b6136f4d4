"""Endings that a translation machine set apart."""

from __future__ import annotations

import pytest

from llm_workshop.curation.steps.translated import MachineSpacing


@pytest.mark.parametrize(
    ("apart", "joined"),
    [
        ("명령을 사용 하 여 파일을 복사 하 고 저장 하 려면", "명령을 사용하여 파일을 복사하고 저장하려면"),
        ("오류가 표시 되 면 값을 변경 시키 는 것이", "오류가 표시되면 값을 변경시키는 것이"),
        ("파일에 대 한 설명과 값에 대 해", "파일에 대한 설명과 값에 대해"),
        ("사용자에 게 알립니다.", "사용자에게 알립니다."),
    ],
)
def test_endings_are_joined(apart, joined):
    assert MachineSpacing()(apart, {}) == joined


@pytest.mark.parametrize(
    "text",
    ["바위틈에 게 한 마리가 있다.", "값을 지정 합니다.", "하 여사가 왔다.", "쌀 두 되 고구마 세 자루", "고대 한 나라의 임금", "숙제를 하고 되도록 일찍 잔다."],
)
def test_words_of_their_own_stay_apart(text):
    assert MachineSpacing()(text, {}) is text
