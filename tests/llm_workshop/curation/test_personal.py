"""Personal data: values with their spans, look-alikes that are none, and the sample's held-out part."""

from __future__ import annotations

import itertools
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_workshop.corpora.document import Document
from llm_workshop.corpora.loaders import read_rows
from llm_workshop.corpora.sample import generate
from llm_workshop.corpora.sample.noise import inject
from llm_workshop.curation.measure_personal import main as measure_main
from llm_workshop.curation.measure_personal import measure_personal
from llm_workshop.curation.personal_data import (
    MASKS,
    birth_of,
    find_personal_data,
    luhn_holds,
    mask,
    resident_check_holds,
)
from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.personal import PersonalData

# 850101-1980006: 8*2+5*3+0+1*5+0+1*7+1*8+9*9+8*2+0+0+0 = 148; 11 - 148 mod 11 = 6
FOUND = [
    ("phone", "연락처는 «010-0123-4567»입니다"),
    ("phone", "이름/«01001234567»/주소"),
    ("phone", "«010 0123 4567»로 문자"),
    ("phone", "«010.0123.4567»"),
    ("phone", "국제전화 «+82-10-0123-4567»"),
    ("phone", "국제전화 «+82 (0)10-0123-4567»"),
    ("phone", "«(010) 0123-4567»"),
    ("phone", "«010)0123-4567»"),
    ("phone", "옛 번호 «011-012-3456»"),
    ("phone", "«010–0123–4567»번"),
    ("phone", "문의: «010-0123-4567»E-mail 없음"),
    ("phone", "«공일공 일이삼사 오육칠팔»로"),
    ("phone", "«공일공-1234-5678»"),
    ("email", "«gildong골뱅이네이버닷컴»으로"),
    ("email", "«gil.dong [at] example.com»으로"),
    ("landline", "사무실 «02-012-3456»이고"),
    ("landline", "사무실 «(02) 012-3456»이고"),
    ("landline", "사무실(«031-012-3456»)로"),
    ("landline", "인터넷 전화 «070-0123-4567»"),
    ("landline", "전화 «0200123456»"),
    ("landline", "팩스: «345-0123»"),
    ("resident_number", "번호는 «850101-1980006»이라고"),
    ("resident_number", "번호는 «8501011980006»"),
    ("resident_number", "주민번호 «850101-1980007» (잘못 적은 것)"),
    ("resident_number", "«210101-3980001»: 2020년 10월 뒤에는 검증 숫자가 없다"),
    ("card", "카드는 «4111-1111-1111-1111» 맞죠"),
    ("card", "«4000 0012 3456 7899»"),
    ("card", "카드번호 «1234-5678-1234-5678»"),
    ("email", "메일은 «gil.dong+a@example.co.kr»로"),
    ("email", "(«gil_dong@example.com»)"),
    ("account", "국민은행 «123-45-678901» 홍길동"),
    ("account", "입금 계좌: «12345678901234»"),
    ("account", "«123-456789-01-234» (예금주 홍길동)"),
    ("address", "저는 «서울시 강남구 테헤란로 152»에 삽니다"),
    ("address", "«경기도 가람시 햇살로 988-10, 301호»(달맞이동)"),
    ("address", "«충남 솔내군 가람읍 느티나무로99번길 21-1번지 1층»"),
    ("address", "주소: «햇살로 12번길 3, 101동 1203호»입니다"),
    ("address", "«한들시 새벌구 달맞이동 539-10» 앞"),
    ("address", "수신 «종로구 청운효자동 청와대로 1» 청와대"),
    ("address", "«강서구 마곡동 811번지» 일대에"),
    ("address", "«한빛아파트 101동 1203호»에서 만나요"),
]
NONE = [
    "버전 10.0.19041.1 에서 3.11.2로 올립니다", "IP는 192.168.100.200:8080", "2020-10-11 12:30:45 기록", "제품 번호 123-45-678901",
    "사업자등록번호 123-45-67890", "사건 2023-11-45678호", "대표번호 1588-0000", "앞으로 3년, 서울시 별도로 20개", "새로 3가지를",
    "다시 새로 5번", "850101-1980006-77", "GUID 01012345678a9f", "851301-1980006", "4111-1111-1111-1112", "git@github.com:a/b.git",
    "https://me@host.example.net/x", "@Html.Raw(value)", "pkg@1.2.3", "https://example.com/01001234567", "1577836800000", "이천이십년 3월 1일로 3시",
    "통장 잔액은 1,234,567,890원", "인구 51,829,023명", "3.141592653589793", "제02-2019-0012호", "의존하므로 0이 됩니다", "1234567812345670",
    "종로에서 3명이 만나", "서울시 앞으로 3년간", "폐지한다면 앞으로 4급 판정자", "동해시 새로 2시간", "골뱅이 무침과 소주", "공일공 번호만", "print(at)", "우리 동네 앞길 3 개",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "marked"), FOUND)
def test_a_value_is_found_with_its_exact_span(kind, marked):
    text = marked.replace("«", "").replace("»", "")
    start, end = marked.index("«"), marked.index("»") - 1
    assert find_personal_data(text) == [(kind, start, end)]


@pytest.mark.parametrize("text", NONE)
def test_look_alikes_are_no_personal_data(text):
    assert find_personal_data(text) == []


@pytest.mark.parametrize(("digits", "holds"), [("79927398713", True), ("79927398714", False), ("4111111111111111", True)])
def test_luhn(digits, holds):
    assert luhn_holds(digits) is holds


def test_check_digit_and_birth_of_a_resident_number():
    assert resident_check_holds("8501011980006")
    assert not any(resident_check_holds(f"850101198000{digit}") for digit in "012345789")
    assert birth_of("8501011").year == 1985 and birth_of("0502303") is None and birth_of("0502283").year == 2005


def test_masks_take_the_values_place_and_counts_stay_in_the_tags():
    tags: dict = {}
    text = "전화 010-0123-4567, 010-0123-4568, 메일 a@example.com."
    assert PersonalData()(text, tags) == "전화 [전화번호], [전화번호], 메일 [이메일]."
    assert tags == {"personal_data": {"phone": 2, "email": 1}}


def test_settings_of_the_step():
    text, tags = "010-0123-4567과 a@example.com", {}
    assert PersonalData(mask=False)(text, tags) is text and tags["personal_data"] == {"phone": 1, "email": 1}
    assert PersonalData(kinds=("email",))(text, {}) == "010-0123-4567과 [이메일]"
    assert PersonalData(drop_above=1)(text, {}) == Drop("personal_data", "2 > 1")
    assert PersonalData(drop_above=2)(text, {}) == "[전화번호]과 [이메일]"
    with pytest.raises(ValueError, match="kinds"):
        PersonalData(kinds=("name",))


def test_a_text_without_personal_data_is_the_same_object():
    text, tags = "오늘은 3월 1일입니다. 서울로 갑니다.", {}
    assert PersonalData()(text, tags) is text and tags == {}


_PIECES = st.sampled_from([m.replace("«", "").replace("»", "") for _, m in FOUND] + NONE + [" ", "\n", "-", "0", "\ud800", "로 1"])


@given(st.lists(st.one_of(_PIECES, st.text(max_size=8))).map("".join))
def test_any_text_gives_ordered_spans_and_masking_ends(text):
    spans = find_personal_data(text)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert all(0 <= s.start < s.end <= len(text) and s.kind in MASKS for s in spans)
    masked = mask(text, spans)
    assert len(masked) == len(text) + sum(len(MASKS[s.kind]) - (s.end - s.start) for s in spans)


def test_long_lines_of_digits_and_letters_take_no_time():
    for text in ("a" * 200_000 + "@", "0" * 200_000, "1-" * 100_000, "로 1" * 50_000, "가시 " * 50_000 + "로 1", "a@" * 50_000):
        find_personal_data(text)  # a quadratic pattern would run for minutes


def test_recall_and_precision_on_the_held_out_part_of_the_sample():
    """Spans are known there; the rules were written on other seeds."""
    scores = measure_personal(inject(generate(0.25, seed=901, split="valid"), 0.5, 901, ("personal_data",)))
    for kind, score in scores.items():
        assert score.there >= 20
        assert score.recall >= 0.99, (kind, score)
        assert score.precision >= 0.98, (kind, score)


def test_misses_and_false_alarms_are_counted_by_kind():
    """A number without any sign of being one is missed; a value that no label names is a false alarm."""
    text = "번호 12345678, 메일 a@example.com, 010-0123-4567"
    items = [{"kind": "phone", "start": 3, "end": 11}, {"kind": "phone", "start": 31, "end": 44}, {"kind": "name", "start": 0, "end": 2}]
    scores = measure_personal([Document("d", "essay", text, noise=({"type": "personal_data", "items": items},)), Document("e", "essay", "글")])
    phone, email = scores["phone"], scores["email"]
    assert (phone.there, phone.hit, phone.found, phone.recall, phone.precision) == (2, 1, 1, 0.5, 1.0)
    assert phone.misses == ["번호 ⟦12345678⟧, 메일 a@example.com, "]
    assert (email.there, email.found, email.precision) == (0, 1, 0.0) and email.false_alarms[0].count("⟦a@example.com⟧") == 1


def test_the_command_prints_scores_and_what_files_hold(tmp_path, capsys):
    assert measure_main(["--megabytes", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert all(kind in printed for kind in MASKS) and "1.0000" in printed
    (tmp_path / "mine.txt").write_text("연락은 010-0123-4567로 주세요.\n", encoding="utf-8")
    assert measure_main(["--files", str(tmp_path / "mine.txt")]) == 0
    assert "⟦010-0123-4567⟧" in capsys.readouterr().out
    assert measure_main(["--files", str(tmp_path / "none.txt")]) == 1
    assert "none.txt" in capsys.readouterr().err


def test_real_petitions_hold_hardly_any_false_alarm(shared_data):
    """Their authors' numbers were masked before; what is left was read: addresses and numbers of offices."""
    rows = itertools.islice(read_rows(shared_data / "pretrain_ko" / "petitions_train.jsonl.xz"), 1500)
    found = Counter(span.kind for row in rows for span in find_personal_data(row["text"]))
    assert found.total() <= 20 and not found["resident_number"] and not found["card"] and not found["account"]
