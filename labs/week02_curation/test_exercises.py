"""2주차 채점. 참가자의 파일만 불러오며, 값은 정의에서 손으로 셈할 수 있는 것입니다."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from llm_workshop.learning.grading import exercise

# --- normalize_text ---------------------------------------------------------------------------------------


@exercise("normalize_text", hint="unicodedata.normalize('NFC', ...)를 거쳤나요? NFD와 NFC를 바꾸어 쓰지 않았나요?")
def test_decomposed_hangul_becomes_syllables(submission):
    assert submission.normalize_text(unicodedata.normalize("NFD", "한국어 학습")) == "한국어 학습"


@exercise("normalize_text", hint="지울 글자 여섯 가지(U+200B, U+200C, U+200D, U+2060, U+FEFF, U+00AD)가 모두 들어 있나요?")
@pytest.mark.parametrize("code", [0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD])
def test_what_nobody_sees_is_gone(submission, code):
    assert submission.normalize_text(f"나{chr(code)}라{chr(code)}") == "나라"


@exercise("normalize_text", hint="자모 사이에 낀 글자를 먼저 지워야 NFC가 두 자모를 한 음절로 합칩니다.")
def test_a_syllable_that_was_cut_by_an_invisible_character(submission):
    assert submission.normalize_text("\u1112\u200b\u1161\u11ab") == "한"


@exercise("normalize_text", hint="NFKC는 'ㅋ'이나 '①', '㎏'까지 다른 글자로 바꿉니다. NFC를 쓰세요.")
def test_everything_else_stays(submission):
    decomposed = unicodedata.normalize("NFD", "가")
    assert submission.normalize_text(f"ㅋㅋ ① 10㎏ 🙂\n\t끝{decomposed}") == "ㅋㅋ ① 10㎏ 🙂\n\t끝가"


# --- hangul_ratio -----------------------------------------------------------------------------------------


@exercise("hangul_ratio", hint="분모는 공백을 뺀 글자의 수입니다. 공백까지 세지 않았나요?")
def test_spaces_do_not_count(submission):
    assert submission.hangul_ratio("GPU 학습!") == pytest.approx(2 / 6)
    assert submission.hangul_ratio("가 나\n다\u3000라") == 1.0


@exercise("hangul_ratio", hint="음절은 '가'(U+AC00)부터 '힣'(U+D7A3)까지입니다. 양 끝도 들어갑니다.")
def test_both_ends_of_the_syllables(submission):
    assert submission.hangul_ratio("가힣ab") == 0.5
    assert submission.hangul_ratio("ㅋㅋㅋ하") == 0.25


@exercise("hangul_ratio", hint="셀 글자가 없을 때 0으로 나누지 않도록 하세요.")
def test_nothing_to_count(submission):
    assert submission.hangul_ratio("") == 0.0
    assert submission.hangul_ratio(" \n\t") == 0.0
    assert submission.hangul_ratio("한") == 1.0


# --- squeeze_repeats --------------------------------------------------------------------------------------


@exercise("squeeze_repeats", hint="keep번까지 남겨야 합니다. 하나 많거나 적지 않은지 세어 보세요.")
def test_long_runs_are_cut_to_keep(submission):
    assert submission.squeeze_repeats("재밌다ㅋㅋㅋㅋㅋ!!!!") == "재밌다ㅋㅋㅋ!!!"
    assert submission.squeeze_repeats("ㅠㅠㅠㅠ...... ㅡㅡㅡㅡ", keep=2) == "ㅠㅠ.. ㅡㅡ"
    assert submission.squeeze_repeats("ㅎㅎㅎㅎ??", keep=1) == "ㅎ?"


@exercise("squeeze_repeats", hint="음절, 숫자, 로마자는 줄이지 않습니다. 10000이 1000이 되면 큰일입니다.")
def test_what_must_stay_stays(submission):
    text = "하하하하 10000원 www.aaaa.com ㅋㅋㅋ"
    assert submission.squeeze_repeats(text) == text
    assert submission.squeeze_repeats(text + "ㅋ") == text


@exercise("squeeze_repeats", hint="**같은** 글자가 이어질 때만 줄입니다. 'ㅋㅎㅋㅎㅋㅎ'나 '?!?!?!'는 그대로입니다.")
def test_only_the_same_character_is_a_run(submission):
    assert submission.squeeze_repeats("ㅋㅎㅋㅎㅋㅎ?!?!?!ㅏㅏㅏㅏ") == "ㅋㅎㅋㅎㅋㅎ?!?!?!ㅏㅏㅏ"


@exercise("squeeze_repeats", hint="keep이 1보다 작으면 ValueError를 내야 합니다.")
def test_keep_must_be_one_or_more(submission):
    assert submission.squeeze_repeats("ㅋㅋㅋㅋ", keep=1) == "ㅋ"
    with pytest.raises(ValueError):
        submission.squeeze_repeats("ㅋㅋㅋㅋ", keep=0)


# --- is_resident_number -----------------------------------------------------------------------------------
# 아무에게도 주어지지 않은 지역 번호(98, 99)로 만든 번호다. 손으로: 800101-198000의 S는 8x2 + 1x5 + 1x7 + 1x8 + 9x9 + 8x2 = 133,
# 133 mod 11 = 1, (11 - 1) mod 10 = 0이므로 마지막 자리는 0이다.


def _with_check_digit(twelve: str) -> str:
    total = sum(w * int(d) for w, d in zip((2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), twelve))
    return twelve + str((11 - total % 11) % 10)


@exercise("is_resident_number", hint="곱하는 수는 2~9 다음에 다시 2~5입니다. 마지막 자리는 (11 - S mod 11) mod 10입니다.")
def test_the_check_digit(submission):
    good = _with_check_digit("800101198000")
    assert good == "8001011980000" and submission.is_resident_number(good)
    for wrong in range(10):
        assert submission.is_resident_number(good[:12] + str(wrong)) == (str(wrong) == good[12])


@exercise("is_resident_number", hint="S mod 11이 0이나 1이면 11 - S mod 11은 11이나 10입니다. 끝의 mod 10을 잊지 않았나요?")
def test_when_the_digit_wraps_around(submission):
    wrapped = [n for n in (_with_check_digit(f"80010119800{d}") for d in range(10)) if _rest(n) in (0, 1)]
    wrapped += [n for n in (_with_check_digit(f"80010119801{d}") for d in range(10)) if _rest(n) in (0, 1)]
    assert len(wrapped) >= 2
    assert all(submission.is_resident_number(number) for number in wrapped)
    assert not any(submission.is_resident_number(number[:12] + "5") for number in wrapped)


def _rest(number: str) -> int:
    return sum(w * int(d) for w, d in zip((2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), number[:12])) % 11


@exercise("is_resident_number", hint="가운데 '-'가 있는 모양과 없는 모양을 모두 받되, 다른 자리의 '-'나 모자란 자리는 안 됩니다.")
def test_the_two_shapes(submission):
    good = _with_check_digit("991231298123")
    assert submission.is_resident_number(good)
    assert submission.is_resident_number(f"{good[:6]}-{good[6:]}")
    for bad in (good[:12], good + "0", f"{good[:7]}-{good[7:]}", f"{good[:6]} {good[6:]}", "abcdef-ghijklm", ""):
        assert not submission.is_resident_number(bad)


@exercise("is_resident_number", hint="월은 01~12, 일은 01~31이어야 합니다. 00월도 13월도 없습니다.")
@pytest.mark.parametrize("date", ["800001", "801301", "800100", "800132"])
def test_a_day_that_is_on_no_calendar(submission, date):
    assert not submission.is_resident_number(_with_check_digit(f"{date}198000"))
    assert submission.is_resident_number(_with_check_digit("801231198000"))


# --- jaccard ----------------------------------------------------------------------------------------------


@exercise("jaccard", hint="|교집합| / |합집합|입니다. 분모가 두 집합 크기의 합이 아닌지 보세요.")
def test_the_definition(submission):
    assert submission.jaccard("abcd", "bcde", 3) == pytest.approx(1 / 3)
    assert submission.jaccard("가나다라마", "가나다라마", 2) == 1.0
    assert submission.jaccard("가나다", "라마바", 2) == 0.0


@exercise("jaccard", hint="조각은 집합입니다. 같은 조각이 여러 번 나와도 한 번만 셉니다.")
def test_pieces_are_a_set(submission):
    assert submission.jaccard("aaaaaa", "aaa", 2) == 1.0
    assert submission.jaccard("ababab", "ab", 2) == pytest.approx(1 / 2)


@exercise("jaccard", hint="마지막 조각까지 셌나요? range(len(text) - size + 1)입니다. 짧은 글은 글 전체가 조각 하나입니다.")
def test_the_last_piece_and_short_texts(submission):
    assert submission.jaccard("abcz", "abcy", 3) == pytest.approx(1 / 3)
    assert submission.jaccard("가", "가", 3) == 1.0
    assert submission.jaccard("가", "가나다", 3) == 0.0


# --- minhash ----------------------------------------------------------------------------------------------


@exercise("minhash", hint="해시 함수마다(행마다) 가장 작은 값을 남깁니다. axis를 바꾸어 쓰지 않았나요?")
def test_by_hand(submission):
    # h_0(x) = (2x + 1) mod 7: 1 -> 3, 2 -> 5, 5 -> 4.  h_1(x) = (3x) mod 7: 1 -> 3, 2 -> 6, 5 -> 1.
    signature = submission.minhash(np.array([1, 2, 5]), np.array([2, 3]), np.array([1, 0]), 7)
    assert np.asarray(signature).tolist() == [3, 1]


@exercise("minhash", hint="결과는 모양 [k]인 int64 배열이어야 합니다. 조각의 순서가 달라도 서명은 같아야 합니다.")
def test_shape_and_order(submission):
    rng = np.random.default_rng(0)
    values, a, b = rng.integers(0, 2**31, 50), rng.integers(1, 2**31, 16), rng.integers(0, 2**31, 16)
    signature = submission.minhash(values, a, b, 2**31 - 1)
    assert signature.shape == (16,) and signature.dtype == np.int64
    assert (signature == submission.minhash(values[::-1], a, b, 2**31 - 1)).all()
    assert (signature == [min((int(s) * int(x) + int(t)) % (2**31 - 1) for x in values) for s, t in zip(a, b)]).all()


@exercise("minhash", hint="나머지를 먼저 구한 다음 가장 작은 값을 고릅니다. 순서를 바꾸면 비슷한 글의 서명이 닮지 않습니다.")
def test_equal_places_estimate_the_jaccard_similarity(submission):
    rng = np.random.default_rng(1)
    a, b = rng.integers(1, 2**31, 400), rng.integers(0, 2**31, 400)
    pool = rng.choice(2**31 - 1, 150, replace=False)
    first, second = pool[:100], pool[50:]  # 50 shared of 150
    equal = submission.minhash(first, a, b, 2**31 - 1) == submission.minhash(second, a, b, 2**31 - 1)
    assert abs(equal.mean() - 1 / 3) < 0.1


# --- candidate_pairs --------------------------------------------------------------------------------------


@exercise("candidate_pairs", hint="띠 하나라도 통째로 같으면 후보입니다. 띠 전체(모든 행)가 같아야 합니다.")
def test_one_equal_band_is_enough(submission):
    signatures = np.array([[1, 2, 3, 4], [1, 2, 9, 9], [5, 6, 3, 4], [1, 7, 3, 8]])
    assert set(submission.candidate_pairs(signatures, 2)) == {(0, 1), (0, 2)}


@exercise("candidate_pairs", hint="띠마다 사전을 따로 써야 합니다. 다른 자리의 띠끼리 만나면 안 됩니다.")
def test_bands_at_other_places_do_not_meet(submission):
    signatures = np.array([[1, 2, 3, 4], [3, 4, 1, 2], [3, 4, 5, 6]])
    assert set(submission.candidate_pairs(signatures, 2)) == {(1, 2)}


@exercise("candidate_pairs", hint="(i, j)는 i < j이고, 같은 칸에 셋이 들면 쌍도 셋입니다.")
def test_three_in_one_bucket(submission):
    signatures = np.array([[1, 1], [1, 2], [1, 3], [4, 3]])
    assert set(submission.candidate_pairs(signatures, 2)) == {(0, 1), (0, 2), (1, 2), (2, 3)}
    assert set(submission.candidate_pairs(signatures, 1)) == set()


@exercise("candidate_pairs", hint="bands가 서명의 길이를 나누지 않으면 ValueError를 내야 합니다. 남는 열을 버리면 안 됩니다.")
def test_bands_must_divide_the_signature(submission):
    signatures = np.array([[1, 2, 3], [1, 2, 3]])
    assert set(submission.candidate_pairs(signatures, 3)) == {(0, 1)}
    with pytest.raises(ValueError):
        submission.candidate_pairs(signatures, 2)


# --- clusters ---------------------------------------------------------------------------------------------


@exercise("clusters", hint="이어진 것끼리 한 무리입니다. 두 쌍이 글 하나를 같이 가지면 한 무리가 됩니다.")
def test_pairs_join_groups(submission):
    assert submission.clusters(7, [(0, 1), (4, 2), (1, 3), (5, 4)]) == [[0, 1, 3], [2, 4, 5]]


@exercise("clusters", hint="쌍이 어떤 순서로 와도 결과가 같아야 합니다. 두 무리를 합칠 때 **뿌리끼리** 이었나요?")
def test_any_order_of_pairs(submission):
    pairs = [(0, 1), (2, 3), (4, 5), (5, 3), (1, 2), (6, 7)]
    for order in (pairs, pairs[::-1], [(j, i) for i, j in pairs], pairs * 2):
        assert submission.clusters(9, order) == [[0, 1, 2, 3, 4, 5], [6, 7]]


@exercise("clusters", hint="혼자인 글은 무리가 아닙니다. 두 편 이상 든 무리만 돌려주세요.")
def test_single_texts_are_no_group(submission):
    assert submission.clusters(4, []) == []
    assert submission.clusters(3, [(2, 0)]) == [[0, 2]]


@exercise("clusters", hint="재귀로 뿌리를 찾으면 긴 사슬에서 RecursionError가 납니다. 반복문으로 찾으세요.")
def test_a_long_chain(submission):
    n = 20_000
    assert submission.clusters(n, [(i, i - 1) for i in range(n - 1, 0, -1)]) == [list(range(n))]
