"""Unicode forms and wrongly decoded text."""

from __future__ import annotations

import unicodedata

import pytest

from llm_workshop.curation.mojibake import repair
from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.unicode import Mojibake, UnicodeForm

SENTENCE = "밥을 먹고 학교에 갔다. 3시에 친구를 만났다."


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (unicodedata.normalize("NFD", "각하의 쇠고기"), "각하의 쇠고기"),
        ("안\u200b녕\ufeff하\u00ad세요\u2060", "안녕하세요"),
        ("Ｌｌｍ　１２！", "Llm 12!"),  # full-width forms and the ideographic space
        ("\uffa1\uffc2", "ㄱㅏ"),  # half-width jamo
        ("\u1112 하고 \u1161", "ㅎ 하고 ㅏ"),  # conjoining jamo that stand alone
        ("가\u00a0나\u3000다", "가 나 다"),
        ("한 줄\r\n두 줄\u2028세 줄", "한 줄\n두 줄\n세 줄"),
        ("가\x00나\x07다\ue000라\ud800마", "가나다라마"),
        ("밥㈜ ½ ㎏ ㄱ", "밥㈜ ½ ㎏ ㄱ"),  # NFKC would have changed them
        ("\u112b\u1161", "\u112b\u1161"),  # a syllable of old Hangul has no composed form
    ],
)
def test_spelling_becomes_one(before, after):
    assert UnicodeForm()(before, {}) == after


def test_joiner_stays_between_emoji_only():
    family = "👨\u200d👩\u200d👧"
    assert UnicodeForm()(f"가족 {family} 나\u200d라 ☆\u200d☆", {}) == f"가족 {family} 나라 ☆☆"


def test_widths_can_be_left():
    assert UnicodeForm(widths=False)("Ａ１", {}) == "Ａ１"


def test_clean_text_is_the_same_object():
    assert UnicodeForm()(SENTENCE, {}) is SENTENCE
    assert Mojibake()(SENTENCE, {}) is SENTENCE


def as_browser_cp1252(data: bytes) -> str:
    return "".join(bytes([b]).decode("cp1252", "ignore") or chr(b) for b in data)


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_wrong_decoding_is_undone(encoding):
    damaged = as_browser_cp1252(SENTENCE.encode(encoding))
    assert damaged != SENTENCE
    tags = {}
    assert Mojibake()(damaged, tags) == SENTENCE
    assert tags == {"mojibake": "repaired"}


def test_latin_1_and_two_layers_and_single_lines_are_undone():
    assert Mojibake()(SENTENCE.encode().decode("latin-1"), {}) == SENTENCE
    assert Mojibake()(as_browser_cp1252(as_browser_cp1252(SENTENCE.encode()).encode()), {}) == SENTENCE
    assert Mojibake()("첫 줄은 멀쩡하다.\n" + as_browser_cp1252(SENTENCE.encode("cp949")), {}).endswith(SENTENCE)


@pytest.mark.parametrize(("written", "read"), [("utf-8", "cp949"), ("cp949", "utf-8")])
def test_lost_bytes_are_dropped(written, read):
    result = Mojibake()(SENTENCE.encode(written).decode(read, errors="replace"), {})
    assert isinstance(result, Drop) and result.reason == "lost_characters"


def test_what_cannot_be_repaired_is_dropped():
    damaged = as_browser_cp1252("한국어 문장이 여기에 있습니다".encode("cp949"))
    cut = "".join(c for i, c in enumerate(damaged) if i % 7)  # bytes are missing throughout
    result = Mojibake()("가나다 " + cut, {})
    assert isinstance(result, Drop) and result.reason == "wrong_encoding"


def test_one_lost_character_in_a_long_text_is_taken_out():
    assert Mojibake()(SENTENCE * 20 + "\ufffd", {}) == SENTENCE * 20


@pytest.mark.parametrize("text", ["Café à la crème, très bon; naïve façade", "Ünïcödé ÿ Ã©", "°C ± ¼ × ÷ ²", "ê"])
def test_other_languages_are_no_mojibake(text):
    assert repair(text) in (text, text.replace("Ã©", "é"))
    assert not isinstance(Mojibake()(text, {}), Drop)
