"""Languages without a download."""

from __future__ import annotations

import pytest

from llm_workshop.curation.languages import language_of, letter_models
from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.language import Language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("오늘 점심에는 김치찌개를 먹었다.", "ko"),
        ("ㅋㅋㅋㅋㅋ ㅠㅠ", "ko"),
        ("`git commit` 명령으로 기록을 남깁니다.", "ko"),
        ("A tall man was standing in front of the house and looked at the garden.", "en"),
        ("Wash your hands before you eat", "en"),
        ("昨日は友だちと一緒に公園へ行きました。", "ja"),
        ("カタカナ", "ja"),
        ("今天的天气很好，我们去公园散步。", "zh"),
        ("Der Bundestag hat am Donnerstag über das neue Gesetz abgestimmt", "other"),
        ("Le président a annoncé mardi une nouvelle réforme des écoles", "other"),
        ("El presidente anunció ayer que las elecciones se celebrarán pronto", "other"),
        ("Правительство объявило вчера о новых правилах", "other"),
        ("qwpe zmxn tyru wqoe pzlk xcvb asdk", "other"),
        ("12345 !!!", "other"),
        ("", "other"),
    ],
)
def test_languages(text, language):
    found, certainty = language_of(text)
    assert found == language
    assert 0 <= certainty <= 1


def test_english_likes_its_own_letters():
    models = letter_models()
    text = "This is how we thought that the weather would be"
    assert models["en"].score(text) == max(model.score(text) for model in models.values())


def test_the_rule_tags_and_drops():
    tags = {}
    assert Language()("오늘은 비가 온다.", tags) == "오늘은 비가 온다." and tags == {"language": "ko"}
    assert Language()("It rained all day and nobody came", tags).reason == "en" and tags == {"language": "en"}
    assert Language(keep=("en",))("It rained all day and nobody came", {}) == "It rained all day and nobody came"
    assert isinstance(Language(keep=("en",))("오늘은 비가 온다.", {}), Drop)
    assert Language(keep=())("今天的天气很好", {}) == "今天的天气很好"


def test_an_unknown_language_cannot_be_asked_for():
    with pytest.raises(ValueError, match="'ko', 'en', 'ja', 'zh' or 'other'"):
        Language(keep=("kr",))


def test_a_manual_about_names_is_korean():
    sentence = "이 속성은 `Example.Components.Hosting.WebHostBuilder.Configuration.Logging` 값을 읽고 https://example.com/components/hosting/builder 주소로 보냅니다. "
    tags = {}
    assert language_of(sentence * 15)[0] != "ko"
    assert Language()(sentence * 15, tags) == sentence * 15 and tags == {"language": "ko"}
    assert isinstance(Language()(sentence * 3, {}), Drop)  # too little Korean to tell
    assert isinstance(Language()((sentence + "It rained all day and nobody came to see the house. ") * 15, {}), Drop)
