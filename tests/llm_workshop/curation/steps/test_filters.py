"""Whole texts kept and dropped."""

from __future__ import annotations

import random

import pytest

from llm_workshop.curation import spacing
from llm_workshop.curation.characters import counts, has_run
from llm_workshop.curation.spacing import end_score, learn, spacing_of, unknown_share
from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.filters import (
    Gibberish,
    HangulRatio,
    Length,
    Particles,
    RepeatedLines,
    RepeatedNgrams,
    SpacingFault,
    Symbols,
)

TEXT = (
    "아침에 일어나 창문을 여니 밤새 내린 눈이 마당을 하얗게 덮고 있었다. 동생은 장갑도 끼지 않고 뛰어나가 눈사람을 만들기 시작했다. "
    "나는 부엌에서 따뜻한 보리차를 끓이며 그 모습을 오래 바라보았다. 할머니께서는 눈이 많이 오면 이듬해 농사가 잘된다고 말씀하셨다."
)
LINE = "세탁기를 돌리기 전에 주머니를 비웁니다."
ALL = (Length(), HangulRatio(), Symbols(), Gibberish(), RepeatedLines(), RepeatedNgrams(), Particles(), SpacingFault())


@pytest.mark.parametrize("step", ALL, ids=lambda step: step.name)
def test_good_text_passes_as_the_same_object(step):
    assert step(TEXT, {}) is TEXT


@pytest.mark.parametrize(
    ("step", "text", "reason", "detail"),
    [
        (Length(minimum=5), "네 글자", "too_short", "4 < 5"),
        (Length(minimum=0, maximum=3), "네 글자", "too_long", "4 > 3"),
        (HangulRatio(minimum=0.5), "한글 and English words", "little_hangul", "0.12 < 0.5"),  # 2 of 17 letters
        (HangulRatio(minimum=0.0), "12 34", "little_hangul", "0.00 < 0.0"),
        (Symbols(symbols=0.5), "가나#@#@", "symbols", "0.67 > 0.5"),
        (Symbols(digits=0.5), "가나 1234", "digits", "0.67 > 0.5"),
        (Gibberish(), "ㅁㄴㅇㄹ ㅂㅈㄷㄱ 가나다라", "jamo", "0.67 > 0.4"),
        (RepeatedLines(maximum=0.4, minimum_lines=4), f"{LINE}\n{LINE}\n{LINE[::-1]}\n{LINE}", "lines", "0.50 > 0.4"),
        (RepeatedNgrams(), "사과 " * 10, "one_phrase", "1 of 10 words"),
    ],
)
def test_drops_name_their_figure(step, text, reason, detail):
    assert step(text, {}) == Drop(reason, detail)


def test_random_syllables_are_gibberish_and_new_words_are_not():
    rng = random.Random(3)
    noise = " ".join("".join(chr(0xAC00 + rng.randrange(11172)) for _ in range(3)) for _ in range(20))
    assert isinstance(Gibberish()(noise, {}), Drop)
    assert Gibberish()(TEXT + " 뷁 햏자 됬다", {}) == TEXT + " 뷁 햏자 됬다"
    assert unknown_share("가나다") == 0.0


def test_code_does_not_count_as_letters_of_prose():
    code = "```python\nfor name in names:\n    print(name.upper(), len(name))\n```\n"
    assert HangulRatio()(f"이름을 크게 쓰는 보기입니다.\n{code}", {}) == f"이름을 크게 쓰는 보기입니다.\n{code}"
    assert isinstance(HangulRatio()(code.replace("```", ""), {}), Drop)


def test_lines_of_code_may_repeat():
    labels = ("}", "## 매개 변수를 하나씩 살펴보기 전에 읽습니다", "```\n값 = 1  # 아직은 아무것도 들어 있지 않은 값\n```", "- **형식** `string`", "| 이름과 설명이 없는 줄입니다 | 값은 없습니다 |")
    for again in labels:
        text = "설명이다.\n" + f"{again}\n" * 30
        assert RepeatedLines()(text, {}) is text


def test_lines_of_prose_may_not_repeat():
    others = [f"빨래를 너는 방법 가운데 {i}번째를 알아봅니다." for i in range(6)]
    assert RepeatedLines()("\n".join([LINE] * 9 + others), {}) == Drop("lines", "0.53 > 0.5")  # 8 of 15
    some = "\n".join([LINE] * 6 + others)
    assert RepeatedLines()(some, {}) is some  # 5 of 12


def test_one_phrase_among_others():
    words = [f"낱말{i}" for i in range(40)]
    assert RepeatedNgrams()(" ".join(words * 1), {}) == " ".join(words)
    advert = " ".join(["지금 바로 주문하세요"] * 15 + words)
    assert RepeatedNgrams()(advert, {}).reason.startswith("top_")
    twice = " ".join(words * 2)  # every run of five words comes twice
    assert RepeatedNgrams()(twice, {}).reason == "repeated_5_grams"


def test_lists_of_key_words_have_no_particles():
    keywords = "여행 맛집 주말 서울 부산 제주 호텔 예약 세일 할인 항공권 렌터카 숙소 펜션 리조트 해변 산책 카페 축제 사진 명소 일정"
    assert isinstance(Particles()(keywords, {}), Drop)
    assert Particles(minimum_words=30)(keywords, {}) == keywords


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (TEXT.replace(" ", ""), "none"),
        (" ".join(TEXT.replace(" ", "")), "every_syllable"),
        ("아침 에일어나 창 문을여 니밤새내 린눈이 마당 을하얗게덮고 있 었다. 동생은장 갑도끼지않고뛰어 나가 눈사람 을만들기시작했 다.", "scattered"),
    ],
)
def test_broken_spacing_is_seen(text, reason):
    assert SpacingFault()(text, {}).reason == reason


def test_words_run_together_are_seen_though_some_spaces_are_left():
    text = "아침에일어나창문을여니 밤새내린눈이마당을하얗게덮고있었다. 동생은 장갑도끼지않고뛰어나가눈사람을만들기시작했다."
    assert SpacingFault()(text, {}).reason == "run_together"
    assert SpacingFault(runs=1.0)(text, {}) is text  # only short words are left outside of the runs


@pytest.mark.parametrize(
    "text",
    [
        "대회에는 야마다 유키오, 이토 미쓰코, 나카노 후미오가 나왔다.",
        "프로그래머는 컴퓨터 프로그램을 만드는 사람이에요. 프로그램에 오류가 있으면 디버그 로그인 기록을 보고 고쳐요.",
    ],
    ids=["foreign names", "loanwords"],
)
def test_words_that_the_model_of_spaces_does_not_know_are_no_fault(text):
    suspicious = SpacingFault(threshold=0.1, minimum_gaps=2)
    assert spacing_of(text).scattered > 0.03 * spacing_of(text).gaps  # the score alone would drop it
    assert suspicious(text, {}) is text


def test_a_little_bad_spacing_in_a_long_text_is_no_reason():
    text = TEXT * 5 + " 그럴수 있다. 할것이다."
    assert SpacingFault()(text, {}) == text


def test_the_model_of_spaces():
    assert end_score("를") > 1 > -2 > end_score("었")
    good, bad = spacing_of("나는 학교에 갔다"), spacing_of("나 는학 교에갔 다")
    assert (good.gaps, good.spaces) == (6, 2) and (bad.gaps, bad.spaces) == (6, 3)
    assert good.scattered < 0 < bad.scattered
    assert spacing_of("").gaps == spacing_of("a").gaps == spacing_of("abc  def").gaps == 0


def test_learning_the_model():
    bias, table = learn(["가나 가나 가나 가나 가나"] * 10, least=1)
    assert bias == pytest.approx(-0.2231, abs=1e-3)  # log(40 spaces / 50 pairs)
    assert table["나"][0] > 1 > -1 > table["가"][0]  # 나 ends words, 가 begins them
    assert table["가"][1] > 1 > -1 > table["나"][1]
    with pytest.raises(ValueError, match="nothing to learn spacing from"):
        learn(["abc"])


def test_the_table_is_written_as_a_module(tmp_path, capsys):
    texts, table = tmp_path / "texts.jsonl", tmp_path / "table.py"
    texts.write_text('{"text": "뷁은 뷁을 뷁이 뷁도 뷁만 뷁과"}\n' * 10, encoding="utf-8")
    assert spacing.main([str(texts), "--megabytes", "0.05", "--out", str(table)]) == 0
    values = {}
    exec(table.read_text(encoding="utf-8"), values)
    assert len(values["SYLLABLES"]) == len(values["AFTER"]) == len(values["BEFORE"])
    assert f"{len(values['SYLLABLES'])} syllables" in capsys.readouterr().out
    place = values["SYLLABLES"].index("뷁")  # begins words, ends none
    assert values["BEFORE"][place] > "K" > "A" > values["AFTER"][place]


def test_counts_of_classes():
    from llm_workshop.curation import characters as c

    found = counts("가뷁ㅋa é1!#×漢あ\u200b\u00a0\x00\u1100Ａ😀\ufffd\ud800")
    expected = {c.HANGUL: 1, c.RARE_HANGUL: 1, c.JAMO: 1, c.LATIN: 1, c.SPACE: 1, c.ACCENTED: 1, c.DIGIT: 1, c.PUNCTUATION: 1, c.MARK: 1}
    expected |= {c.SYMBOL: 1, c.HAN: 1, c.KANA: 1, c.INVISIBLE: 1, c.ODD_SPACE: 1, c.CONTROL: 1, c.CONJOINING: 1, c.WIDE: 1}
    expected |= {c.SURROGATE: 3, c.REPLACEMENT: 1}
    assert {kind: n for kind, n in enumerate(found) if n} == expected
    assert len(c.ks_x_1001_syllables()) == 2350


def test_runs():
    assert has_run("가나나나", 3) and not has_run("가나나나", 4) and not has_run("", 2)


def test_marks_of_sentences_are_no_symbols():
    assert Symbols()("아... 괴로워... 정말...!!!", {}) == "아... 괴로워... 정말...!!!"


def test_laughter_is_no_gibberish():
    assert Gibberish()("와 ㄷㄷ 명작 ㅎㄷㄷ", {}) == "와 ㄷㄷ 명작 ㅎㄷㄷ"
    assert isinstance(Gibberish()("와 ㄷㅁ 명작 ㅎㄷㅁ", {}), Drop)
    assert Gibberish()("ㅋㅋ 원피스 팬 ㅋㅋ ㅠㅠ", {}) == "ㅋㅋ 원피스 팬 ㅋㅋ ㅠㅠ"
    assert isinstance(Gibberish()("ㅋㅋㅋ ㅎㅎ", {}), Drop)  # and nothing else


@pytest.mark.parametrize("layout", ["=" * 40, "|---|:---:|\n" * 9, "```\n{}[]();<>\n```"])
def test_layout_does_not_count_as_symbols(layout):
    text = f"제목을 쓴다\n{layout}\n내용을 쓴다"
    assert Symbols()(text, {}) is text


def test_a_sentence_may_be_full_of_figures():
    text = "2010년 기준으로 인구는 33,505명이다."
    assert Symbols()(text, {}) is text
    assert Symbols()(text.removesuffix("이다."), {}).reason == "digits"  # no sentence
    assert Symbols()(text.replace("33,505", "33,505,821,440,127"), {}).reason == "digits"  # more than half
