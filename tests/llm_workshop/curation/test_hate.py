"""Swear words and their look-alikes; the trained model is tested with the classifier."""

from __future__ import annotations

import time

import pytest

from llm_workshop.curation.models.classifier import HashedTextClassifier
from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.hate import Hate, profanity_in


@pytest.mark.parametrize("text", ["아 씨발 뭐야", "씨1발", "시발!", "ㅅㅂ 짜증", "ㅆㅂ", "병신 같은", "ㅂㅅ아", "이 새끼야", "개새끼", "지랄하네", "존나 춥다", "미친놈", "닥쳐!", "시~발"])
def test_profanity_is_counted(text):
    assert profanity_in(text)["profanity"] >= 1 and not profanity_in(text)["group"]


@pytest.mark.parametrize("text", ["한남충들", "맘충이라니", "틀딱", "짱깨"])
def test_words_against_groups_are_counted(text):
    assert profanity_in(text)["group"] == 1


@pytest.mark.parametrize("text", [
    "새로운 시발점이 되다", "다시 발생하는 오류", "다시발견", "병신년(丙申年)에 태어나", "목을 졸라 숨지게", "떼를 졸라서 얻은", "들이닥쳐 조사", "위기가 닥쳐온다", "새끼 고양이", "그 새끼고양이는",
    "새끼손가락", "우스개소리", "한남동에서", "한남대교", "안녕하세요", "ㅋㅋㅋㅋ", "시 발표회",
])  # fmt: skip
def test_ordinary_words_are_not(text):
    assert not profanity_in(text)


def test_tags_by_default_and_drops_on_demand():
    text, tags = "존나 재미있다. 한남충.", {}
    assert Hate()(text, tags) is text and tags == {"hate": {"profanity": 1, "group": 1}}
    assert Hate(drop=("group",))(text, {}) == Drop("group", "1 words")
    assert Hate(drop=("profanity",), words=2)(text, {}) is text
    assert Hate(drop=("profanity",))("좋은 영화", tags := {}) == "좋은 영화" and tags == {}


def test_with_a_trained_model(tmp_path):
    model = HashedTextClassifier(("none", "offensive", "hate"), buckets=1 << 10)
    model.fit(["좋은 영화"] * 20 + ["나쁜 영화"] * 20 + ["꺼져 버려"] * 20, ["none"] * 20 + ["offensive"] * 20 + ["hate"] * 20, epochs=20)
    model.save(tmp_path / "m")
    rule = Hate(model=str(tmp_path / "m"), drop=("hate",))
    rule.start()
    tags: dict = {}
    assert rule("나쁜 영화", tags) == "나쁜 영화" and tags["hate"]["label"] == "offensive" and tags["hate"]["p"] > 0.6
    assert rule("꺼져 버려", {}).reason == "hate" and rule("좋은 영화", tags := {}) == "좋은 영화" and not tags


def test_a_model_that_is_not_there_and_bad_settings(tmp_path):
    with pytest.raises(ValueError, match="no model 'hate'"):
        Hate(model=str(tmp_path / "none")).start()
    with pytest.raises(ValueError, match="drop"):
        Hate(drop=("insult",))


def test_long_texts_take_no_time():
    started = time.process_time()
    for text in ("시" * 200_000, "시1" * 100_000, "졸라 " * 50_000, "ㅅㅂ" * 100_000):
        Hate()(text, {})
    assert time.process_time() - started < 10
