"""What holds for all rules: they never fail, a second time changes nothing, and recipes may name them."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_workshop.corpora.sample import generate
from llm_workshop.curation.recipe import load_recipe
from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps import steps_by_name
from llm_workshop.curation.steps.naive import NaiveWipe

RULES = (
    "mojibake", "unicode", "html", "boilerplate", "repetition", "whitespace", "machine_spacing", "length", "language", "hangul_ratio", "gibberish",
    "symbols", "repeated_lines", "repeated_ngrams", "spacing", "particles", "truncated", "naive_wipe",
)  # fmt: skip
#: in the order of the recipe; those of other kinds (models, personal data) have tests of their own
CLEANING = ("mojibake", "unicode", "html", "boilerplate", "repetition", "whitespace", "machine_spacing")
#: characters and pieces that rules look for, more often than chance would bring them
PIECES = st.sampled_from(
    "<p> </p> <br> <b </div> <!-- & &amp; &lt; &#44032; &nbsp; ` ``` | > ⓒ ㅋ ㅋㅋㅋㅋ !!!! ~ . … \u200b \u200d \ufeff \u00ad \u00a0 "
    "\u3000 Ａ ￥ ﾡ ￂ \u1100 \u1161 \u11a8 e\u0301 ê ° ¥ ë°¥ ¹ä \ufffd \ud800 😀 \U0001f468\u200d\U0001f469 로그인 회원가입 무단 전재 금지 가나다. "
    "\x00 \x85 \r \n \t 1 12 한글 Ünï 漢字 あ \\".split(" ")
) | st.sampled_from([" ", "\n", "  ", "\n\n\n", "\r\n"])  # fmt: skip
TEXTS = st.text(max_size=60) | st.lists(PIECES | st.text(alphabet=st.characters(), max_size=3), max_size=30).map("".join)
SURROGATES = st.text(alphabet=st.characters(categories=("Cs", "Lo", "Mn", "Zs", "Cc")), max_size=30)


def clean(text: str) -> str | Drop:
    steps = steps_by_name()
    for name in CLEANING:
        text = steps[name]()(text, {})
        if isinstance(text, Drop):
            break
    return text


@pytest.mark.parametrize("name", RULES)
def test_no_text_makes_a_rule_fail(name):
    step = steps_by_name()[name]()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TEXTS | SURROGATES)
    def run(text):
        result = step(text, {})
        assert isinstance(result, (str, Drop))
        if isinstance(result, Drop):
            assert result.reason and " " not in result.reason

    run()
    for text in ("", " ", "\n", "가", "a" * 100_000, "<" * 10_000, "&" * 10_000, "ㅋ" * 50_000, "|" * 10_000 + "\n" * 10_000):
        assert isinstance(step(text, {}), (str, Drop))


HARD = {  # texts that make patterns with two ways to match try them all
    "comments": "<!--" * 20_000, "tags": "<p " * 20_000, "links": "<a href=" * 10_000, "breaks": "<br>" * 30_000,
    "hash tags": "\n".join("#a,,,," * 31 + "!" for _ in range(100)), "fences": "```\n" * 20_000, "code": "`a" * 30_000,
    "spaces": " " * 100_000 + "가", "spaces and a tag": "<b>가</b>" + " " * 50_000 + "나 \n다", "spaces inside": "가" + " " * 50_000 + "나 \n다",
    "tabs": "가" + " \t" * 50_000 + "나", "entities": "&" + "amp;" * 20_000,
    "accents": "ë°" * 30_000, "sentences": "가. " * 40_000 + "나", "notices": "[관리자 " * 20_000 + "]",
    "cookies": "쿠키사용" * 35, "copyright": "무단 " * 40, "quotes": "가." + "”" * 300 + "나 " * 100,
}  # fmt: skip


@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_no_text_keeps_a_rule_busy(text):
    for name in RULES:
        step = steps_by_name()[name]()
        started = time.process_time()
        step(text, {})
        assert time.process_time() - started < 3, name  # quadratic: 20 s; linear: 0.1


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS | SURROGATES)
def test_cleaning_twice_is_cleaning_once(text):
    once = clean(text)
    if isinstance(once, Drop):
        return
    assert clean(once) == once or isinstance(clean(once), Drop)
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()
    once.encode()  # no lone surrogate is left
    assert not set(once) & set("\u200b\ufeff\u00ad\u00a0\r\x00")


def test_clean_documents_come_out_as_they_are():
    for document in generate(0.3, seed=4_321):
        assert clean(document.text) == document.text


def test_the_recipe_uses_these_rules_in_order():
    names = [step.name for step in load_recipe("korean").steps]
    assert [name for name in names if name in CLEANING] == list(CLEANING)
    assert set(RULES) - {"naive_wipe"} <= set(names)
    assert "naive_wipe" not in names
    assert names.index("mojibake") < names.index("unicode") < names.index("html") < names.index("length")


def test_the_naive_rule_does_what_it_is_blamed_for():
    assert NaiveWipe()("“-2.5도입니다.” 하고 말했다!", {}) == "25도입니다 하고 말했다"
    assert NaiveWipe()("로그인 | 회원가입", {}) == "로그인  회원가입"


def test_comments_keep_what_web_pages_may_not():
    def kept(recipe, text):
        for step in load_recipe(recipe).steps:
            step.start()
            text = step(text, {})
            if isinstance(text, Drop):
                return False
        return True

    remark = "배우 연기 최고. 결말은 조금 아쉽지만 다시 보고 싶은"
    assert kept("comments", remark) and not kept("korean", remark)
    assert not kept("comments", "말이 필요없는영화라고하지만 사실은그렇게까지 재미있는줄은모르겠고그냥 시간때우기로는괜찮은것같아요")
    assert not kept("comments", "What a film")
