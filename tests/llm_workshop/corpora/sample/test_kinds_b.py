"""Reviews, news, how-to, encyclopedia, diaries, letters, sentence pairs, reading passages: truth agrees with the text."""

import random
import re

import pytest

from llm_workshop.corpora.sample.content.places import INVENTED_TOWNS
from llm_workshop.corpora.sample.content.recipes import RECIPES
from llm_workshop.corpora.sample.kinds import KINDS, phrases, review, sentence_pair
from llm_workshop.corpora.sample.kinds.howto import _amount
from llm_workshop.corpora.sample.world import World

NAMES = ("review", "news", "howto", "encyclopedia", "diary", "letter", "sentence_pair", "reading")
COUNT = 400


@pytest.fixture(scope="module")
def world():
    return World(0)


def drafts(name, world, count=COUNT, seed=0):
    make = KINDS[name][0]
    return [make(random.Random(f"{seed}/{index}"), world) for index in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_same_random_stream_same_document(name, world):
    first, second = drafts(name, world, 60), drafts(name, World(0), 60)
    assert [(d.text, d.truth) for d in first] == [(d.text, d.truth) for d in second]


@pytest.mark.parametrize("name", NAMES)
def test_makers_leave_the_global_random_state_alone(name, world):
    random.seed(7)
    before = random.getstate()
    drafts(name, world, 20)
    assert random.getstate() == before


@pytest.mark.parametrize("name", NAMES)
def test_text_is_well_formed(name, world):
    for draft in drafts(name, world):
        text = draft.text
        assert text == text.strip() and "  " not in text and "\n\n" not in text, text
        assert not re.search(r"[{}<>|]|\.\.|\?\.|!\.| \.|[은는이가을를]\([은는이가을를]\)", text.replace("...", "")), text
        assert not re.search(r"[ㄱ-ㅎㅏ-ㅣ]", text), f"a bare jamo is a conjugation that failed: {text}"
        assert text[-1] in ".!?”)점0123456789가-힣" or "가" <= text[-1] <= "힣", text


@pytest.mark.parametrize("name", NAMES)
def test_hardly_any_repetition(name, world):
    texts = [draft.text for draft in drafts(name, world, 1500)]
    assert len(set(texts)) > 0.97 * len(texts)


@pytest.mark.parametrize("name", NAMES)
def test_particles_agree_with_the_word_before(name, world):
    """을 after a consonant, 를 after a vowel, wherever the word is plain Hangul and the particle is unambiguous."""
    for draft in drafts(name, world):
        for word in re.findall(r"[가-힣]{2,}(?=[ .,])", draft.text):
            final = (ord(word[-2]) - 0xAC00) % 28
            if word.endswith("를"):
                assert final == 0, (word, draft.text)
            if word.endswith("와") and len(word) > 3 and word not in _NOT_PARTICLES:
                assert final == 0 or word.endswith(("도와", "나와", "다녀와", "들어와", "돌아와", "내려와")), (word, draft.text)


_NOT_PARTICLES = {"가까와"}


# review -----------------------------------------------------------------------------------------------------------


def test_rating_agrees_with_sentiment_and_with_the_text(world):
    ranges = {"positive": range(7, 11), "mixed": range(5, 7), "negative": range(1, 5)}
    seen = set()
    for draft in drafts("review", world, 1500):
        truth = draft.truth
        assert truth["rating"] in ranges[truth["sentiment"]]
        polarities = set(truth["aspects"].values())
        assert polarities <= {"positive", "negative"} and truth["aspects"]
        if truth["sentiment"] == "mixed":
            assert polarities == {"positive", "negative"}
        else:
            majority = sum(p == truth["sentiment"] for p in truth["aspects"].values())
            assert majority * 2 > len(truth["aspects"])
        written = re.search(r"(\d+)/10|10점 만점에 (\d+)점|(?:평점|점수:|·) (\d+)점", draft.text)
        if written:
            assert int(next(group for group in written.groups() if group)) == truth["rating"], draft.text
        if "★" in draft.text or "☆" in draft.text:
            assert draft.text.count("★") * 2 == truth["rating"] and draft.text.count("★") + draft.text.count("☆") == 5
        seen.add((truth["category"], truth["sentiment"]))
    assert len(seen) == 18, "six categories in three sentiments"


def test_review_sentences_come_from_the_stated_aspects(world):
    """A negative sentence of an aspect never stands in a review that calls the aspect positive."""
    for category in ("gadget", "lodging"):
        for kind in {"gadget": ("노트북",), "lodging": ("호텔",)}[category]:
            for name, lists in review._aspects(category, kind):
                assert not set(lists["positive"]) & set(lists["negative"]), name


def test_unsuitable_sentences_are_left_out():
    bakery = [s for _, lists in review._aspects("restaurant", "빵집") for part in lists.values() for s in part]
    assert bakery and not any("반찬" in s or "비린내" in s for s in bakery)
    shop = [s for _, lists in review._aspects("restaurant", "한식당") for part in lists.values() for s in part]
    assert any("반찬" in s or "곁들여" in s for s in shop)


# how-to -----------------------------------------------------------------------------------------------------------


def test_steps_stand_in_the_text_in_their_order(world):
    for draft in drafts("howto", world):
        position = -1
        assert len(draft.truth["steps"]) >= 3
        for step in draft.truth["steps"]:
            found = draft.text.find(step, position + 1)
            assert found > position, (step, draft.text)
            position = found


def test_recipe_amounts_follow_the_servings():
    assert _amount(200, "g", 2) == "200g" and _amount(200, "g", 4) == "400g" and _amount(200, "g", 1) == "100g"
    assert _amount(0.5, "모", 2) == "1/2모" and _amount(0.5, "모", 4) == "1모"
    assert _amount(1.5, "큰술", 2) == "1과 1/2큰술" and _amount(1, "마리", 1) == "1마리"


def test_recipes_use_what_they_list():
    """The main ingredient of a recipe is spoken of in its steps."""
    for recipe in RECIPES:
        steps = " ".join(recipe.steps)
        words = [*recipe.ingredients[0][0].split(), *({"떡볶이": ["떡을"]}.get(recipe.name, []))]
        assert any(word[-2:] in steps or word[:2] in steps for word in words), recipe.name


# news, encyclopedia, reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["news", "encyclopedia"])
def test_answers_stand_in_the_text(name, world):
    with_questions = 0
    for draft in drafts(name, world):
        for pair in draft.truth["qa"]:
            assert pair["answer"] and pair["answer"] in draft.text, (pair, draft.text)
            assert pair["question"].endswith("?")
        with_questions += bool(draft.truth["qa"])
    assert with_questions > 0.8 * COUNT


def test_answer_spans_of_reading_passages(world):
    for draft in drafts("reading", world):
        passage = draft.truth["passage"]
        assert passage in draft.text and 1 <= len(draft.truth["qa"]) <= 3
        for pair in draft.truth["qa"]:
            assert passage[pair["start"] : pair["start"] + len(pair["answer"])] == pair["answer"]
            assert pair["question"] in draft.text


def test_weather_notes_are_possible(world):
    found = 0
    for draft in drafts("news", world, 3000):
        degrees = re.search(r"최저 기온은 (-?\d+)도, 낮 최고 기온은 (-?\d+)도", draft.text)
        if degrees:
            found += 1
            assert int(degrees[1]) < int(degrees[2])
            if "눈이 내" in draft.text:
                assert re.search(r"(?<!\d)(12|1|2)월 \d+일", draft.text), draft.text
    assert found > 20


def test_weekdays_of_news_and_diaries_are_real_dates(world):
    import datetime

    checked = 0
    for draft in drafts("diary", world):
        date = datetime.date.fromisoformat(draft.truth["date"])
        weekday = "월화수목금토일"[date.weekday()]
        header = draft.text.partition("\n")[0]
        assert f"{weekday}요일" in header or f"({weekday})" in header, draft.text
        checked += 1
    assert checked == COUNT


def test_articles_about_people_agree_with_the_world(world):
    people = {}
    for person in world.people:
        people.setdefault(person.name, []).append(person)
    checked = 0
    for draft in drafts("encyclopedia", world, 1500):
        for subject, relation, value in draft.truth["facts"]:
            if subject in people and relation in ("취미", "좋아하는 음식", "사는 곳"):
                field = {"취미": "hobby", "좋아하는 음식": "food", "사는 곳": "town"}[relation]
                assert value in [getattr(person, field) for person in people[subject]]
                checked += 1
    assert checked > 50


# letters, diaries, pairs -----------------------------------------------------------------------------------------------


def test_letters_keep_their_level_of_speech(world):
    for draft in drafts("letter", world):
        body = " ".join(draft.text.split("\n")[1:-1])
        if draft.truth["relation"] in ("친구", "동생"):
            assert not re.search(r"(습니다|세요|어요|아요|해요)[.!?]", body), draft.text
        if draft.truth["relation"] == "선생님":
            assert not re.search(r"[가-힣](어|야|해|지)[.!?]", body), draft.text


def test_diary_weather_fits_the_season(world):
    for draft in drafts("diary", world):
        month = int(draft.truth["date"][5:7])
        if draft.truth["weather"] in ("눈", "추위"):
            assert month in (12, 1, 2)
        if draft.truth["weather"] == "무더위":
            assert month in (7, 8)


def test_sentence_pairs_are_balanced_and_written_out(world):
    labels = []
    for draft in drafts("sentence_pair", world, 1500):
        truth = draft.truth
        labels.append(truth["label"])
        assert truth["premise"] in draft.text and truth["hypothesis"] in draft.text
        assert truth["premise"] != truth["hypothesis"]
        assert sentence_pair._KOREAN[truth["label"]][0] in draft.text or any(w in draft.text for w in sentence_pair._KOREAN[truth["label"]])
    for label in sentence_pair.LABELS:
        assert 0.28 < labels.count(label) / len(labels) < 0.39


def test_numbers_in_pairs_mean_what_the_label_says(world):
    for index in range(300):
        slots = sentence_pair.pair_slots(random.Random(index), world)
        assert slots["less"] < slots["n"] < slots["more"] and slots["hour"] < slots["hour2"] and slots["less"] > 0
        assert slots["a"] != slots["b"] and slots["food"] != slots["food2"] and slots["color"] != slots["color2"]


# phrases ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "level", "expected"),
    [
        ("국물이 <진하다+>", "해라", "국물이 진했다"),
        ("국물이 <진하다+>", "합쇼", "국물이 진했습니다"),
        ("국물이 <진하다+>", "음", "국물이 진했음"),
        ("물을 <붓다>", "해라", "물을 붓는다"),
        ("물을 <붓다>", "세요", "물을 부으세요"),
        ("무를 <썰다>", "합쇼", "무를 썹니다"),
        ("맛이 <좋다>", "세요", "맛이 좋아요"),
        ("나쁘지는 <않다>", "해라", "나쁘지는 않다"),
        ("[다시|또] 가고 싶지 <않다>", "합쇼", None),
        ("먹지 <않다>", "해라", "먹지 않는다"),
        ("삼 분쯤<이다>", "해요", "삼 분쯤이에요"),
        ("후회하지 않을 <것이다>", "해요", "후회하지 않을 거예요"),
        ("<=noun>", "합쇼", "나무입니다"),
        ("<@clause>", "해요", "꽃이 피어요"),
    ],
)
def test_levels_of_speech(source, level, expected):
    said = phrases.say(random.Random(0), source, level, {"noun": "나무", "clause": "꽃이 피다"})
    assert said == expected if expected else said.endswith("싶지 않습니다")


def test_towns_of_reviews_are_invented(world):
    towns = {draft.text.split(" ")[0] for draft in drafts("review", world, 50)}
    assert towns and "서울" not in INVENTED_TOWNS
