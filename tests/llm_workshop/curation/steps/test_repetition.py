"""Runs of characters and of white space."""

from __future__ import annotations

import pytest

from llm_workshop.curation.steps.repetition import Repetition, Whitespace


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("웃기다ㅋㅋㅋㅋㅋㅋ", "웃기다ㅋㅋ"),
        ("슬퍼요ㅠㅠㅠㅠ 그래도ㅎㅎㅎ", "슬퍼요ㅠㅠ 그래도ㅎㅎ"),
        ("ㅋㅋ ㅋ ㅅ 받침", "ㅋㅋ ㅋ ㅅ 받침"),
        ("정말!!!!!!! 왜????", "정말!!! 왜???"),
        ("글쎄...... 음,,,,", "글쎄... 음,,,"),
        ("하하하하하하 그래", "하하하 그래"),
        ("하하하 호호", "하하하 호호"),
        ("★★★★★ 별 다섯", "★★★★★ 별 다섯"),
        ("1000000원 2222", "1000000원 2222"),
        ("제목\n~~~~~~~~\n#### 절", "제목\n~~~~~~~~\n#### 절"),
        ("-" * 80, "-" * 30),
    ],
)
def test_runs_are_cut(before, after):
    assert Repetition()(before, {}) == after


def test_lengths_are_settings():
    assert Repetition(jamo=0)("웃기다ㅋㅋㅋ", {}) == "웃기다"
    assert Repetition(jamo=4, marks=1)("ㅋㅋㅋㅋㅋㅋ!!!", {}) == "ㅋㅋㅋㅋ!"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  앞뒤  ", "앞뒤"),
        ("가  나\t다 ", "가 나 다"),
        ("가 \n나\t\n다", "가\n나\n다"),
        ("문단\n\n\n\n문단", "문단\n\n문단"),
        ("목록\n  - 들여쓴  항목", "목록\n  - 들여쓴 항목"),
        ("int  a;  // no Hangul", "int  a;  // no Hangul"),
        ("글\n```\nx  =  1  # 값\n```\n글", "글\n```\nx  =  1  # 값\n```\n글"),
    ],
)
def test_white_space(before, after):
    assert Whitespace()(before, {}) == after
