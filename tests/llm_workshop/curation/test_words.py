"""Korean words of reasons: every one that a rule can give has a word, and no English is left in a detail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_workshop.corpora.sample.noise import NOISE_TYPES
from llm_workshop.curation import steps, words
from llm_workshop.curation.dedup.choose import RULES
from llm_workshop.curation.steps import steps_by_name

CODE = Path(steps.__file__).parent


def test_every_reason_written_in_a_rule_has_a_korean_word():
    named = {name for file in CODE.glob("*.py") for name in re.findall(r'Drop\("(\w+)"', file.read_text(encoding="utf-8"))}
    assert len(named) > 15
    for reason in [*named, *RULES, "top_2_gram", "en", "ja", "zh", "other", "spam", "profanity"]:
        assert re.search("[가-힣]", words.reason_in_korean(reason)), reason


def test_every_fault_and_every_rule_has_a_title():
    assert set(words.TITLES) == set(NOISE_TYPES)
    assert all(words.title_of(name) == step.title for name, step in steps_by_name().items())
    assert words.title_of("exact") == "똑같은 글" and words.title_of("unheard_of") == "unheard_of"


@pytest.mark.parametrize(
    ("reason", "detail", "phrase"),
    [
        ("one_phrase", "1 of 35 words", "한마디만 되풀이됨 (어절 35개 가운데 서로 다른 것 1개)"),
        ("too_short", "12 < 20", "너무 짧음 (12 < 20)"),
        ("spam", "p = 0.912 >= 0.8", "스팸 (확률 0.912 >= 0.8)"),
        ("perplexity", "14.20 > 13 bits", "언어 모델에게 낯섦 (14.20 > 13비트)"),
        ("none", "1, expected 12", "띄어쓰기가 거의 없음 (띄운 곳 1, 보통은 12)"),
        ("no_text", "", "태그를 걷으니 남는 글이 없음"),
        ("open_sentence", "그는 words 하며", "문장이 끝나지 않음 (그는 words 하며)"),  # a piece of text stays
    ],
)
def test_reason_and_figure_are_one_phrase(reason, detail, phrase):
    assert words.why(reason, detail) == phrase
