"""3주차 연습 문제의 채점. 기댓값은 정의에서 손으로 셈한 것입니다."""

from __future__ import annotations

import pytest

from llm_workshop.learning.grading import exercise

# --- count_pairs ----------------------------------------------------------------------------------------------


@exercise("count_pairs", hint="쌍은 n - 1개입니다. 목록과, 한 칸 민 목록을 나란히 놓아 보세요.")
def test_pairs_are_counted(submission):
    assert submission.count_pairs([5, 7, 5, 7]) == {(5, 7): 2, (7, 5): 1}
    assert submission.count_pairs([3]) == {}


@exercise("count_pairs", hint="겹치는 쌍도 하나씩 셉니다. [1, 1, 1]에는 (1, 1)이 두 번 있습니다.")
def test_pairs_that_overlap_count(submission):
    assert submission.count_pairs([1, 1, 1]) == {(1, 1): 2}


@exercise("count_pairs", hint="(5, 7)과 (7, 5)는 다른 쌍입니다. 순서를 바꾸거나 집합으로 만들지 마세요.")
def test_the_order_in_a_pair_matters(submission):
    assert submission.count_pairs([5, 7, 9, 7, 5]) == {(5, 7): 1, (7, 9): 1, (9, 7): 1, (7, 5): 1}


# --- merge ----------------------------------------------------------------------------------------------------


@exercise("merge", hint="쌍이 나오는 자리를 모두 바꾸고, 나머지 토큰은 그대로 옮기세요. 맨 끝의 토큰을 잊기 쉽습니다.")
def test_every_occurrence_is_merged(submission):
    assert submission.merge([5, 7, 9, 5, 7], (5, 7), 256) == [256, 9, 256]
    assert submission.merge([5, 7, 5], (5, 7), 256) == [256, 5]


@exercise("merge", hint="왼쪽부터 합칩니다. 합친 뒤에는 두 칸을 건너뛰어야 같은 토큰을 두 번 쓰지 않습니다.")
def test_overlapping_pairs_are_merged_from_the_left(submission):
    assert submission.merge([1, 1, 1], (1, 1), 256) == [256, 1]
    assert submission.merge([1, 1, 1, 1], (1, 1), 256) == [256, 256]


@exercise("merge", hint="받은 목록을 고치지 말고 새 목록을 만드세요. 부른 쪽이 아직 쓰고 있을 수 있습니다.")
def test_the_given_list_stays_as_it_is(submission):
    ids = [5, 7, 9]
    assert submission.merge(ids, (5, 7), 300) == [300, 9]
    assert ids == [5, 7, 9]


# --- train_bpe ------------------------------------------------------------------------------------------------


@exercise("train_bpe", uses=("count_pairs", "merge"),
          hint="합친 뒤의 줄에서 다시 세어야 합니다. 둘째 병합은 첫 병합이 만든 256을 쓸 수 있습니다.")
def test_merges_build_on_merges(submission):
    # ab가 3·2 + 2 = 8번, ba가 3번. 합치면 abab는 [256, 256]이 되어 그 쌍이 3번.
    assert submission.train_bpe({"abab": 3, "ab": 2}, 2) == [(97, 98), (256, 256)]
    assert submission.train_bpe({"abab": 3, "ab": 2}, 1) == [(97, 98)]


@exercise("train_bpe", uses=("count_pairs", "merge"),
          hint="낱말이 나온 횟수를 곱해야 합니다. \"cd\"는 한 낱말이지만 말뭉치에는 세 번 나옵니다.")
def test_words_count_as_often_as_they_occur(submission):
    assert submission.train_bpe({"ab": 1, "abc": 1, "cd": 3}, 2) == [(99, 100), (97, 98)]


@exercise("train_bpe", uses=("count_pairs", "merge"),
          hint="횟수가 같으면 번호의 쌍이 작은 것을 고릅니다. 사전에 먼저 들어간 것이나 가장 큰 것이 아닙니다.")
def test_ties_go_to_the_smallest_ids(submission):
    assert submission.train_bpe({"cd": 2, "ab": 2}, 2) == [(97, 98), (99, 100)]


@exercise("train_bpe", uses=("count_pairs", "merge"),
          hint="두 번 이상 나오는 쌍이 없으면 멈춥니다. 낱말의 경계를 넘어 쌍을 만들지도 않았는지 보세요.")
def test_it_stops_where_nothing_repeats(submission):
    assert submission.train_bpe({"ab": 2, "cx": 1, "xd": 1}, 10) == [(97, 98)]
    assert submission.train_bpe({"x": 9, "y": 9}, 10) == []


@exercise("train_bpe", uses=("count_pairs", "merge"),
          hint="글자가 아니라 UTF-8 바이트에서 시작합니다. \"가각\"은 EA B0 80 EA B0 81, 여섯 바이트입니다.")
def test_hangul_starts_as_bytes(submission):
    # EA B0이 4번 → 256. 남은 [256, 80, 256, 81]에서는 세 쌍이 모두 두 번이라, 글자의 경계를 넘는 (80, 256)이 먼저입니다.
    assert submission.train_bpe({"가각": 2}, 9) == [(0xEA, 0xB0), (0x80, 256), (256, 257), (258, 0x81)]


# --- encode ---------------------------------------------------------------------------------------------------


@exercise("encode", uses=("merge",), hint="병합으로 생긴 토큰도 다시 합쳐집니다. 더 합칠 것이 없을 때까지 되풀이하세요.")
def test_merged_tokens_merge_again(submission):
    assert submission.encode("abcab", [(97, 98), (256, 99)]) == [257, 256]


@exercise("encode", uses=("merge",), hint="먼저 배운 쌍이 먼저입니다. 왼쪽에 있다고, 또는 더 길게 합쳐진다고 먼저가 아닙니다.")
def test_what_was_learnt_first_is_merged_first(submission):
    assert submission.encode("abc", [(98, 99), (97, 98)]) == [97, 256]
    assert submission.encode("abcd", [(98, 99), (97, 98), (99, 100)]) == [97, 256, 100]


@exercise("encode", uses=("merge",), hint="지금 글에서 자주 나오는 쌍이 아니라 먼저 배운 쌍입니다. 세는 일은 학습 때 끝났습니다.")
def test_frequency_in_the_text_does_not_matter(submission):
    # (b, c)를 먼저 배웠으므로, ab가 세 번 나와도 bc부터 합칩니다.
    assert submission.encode("ababab" + "abc", [(98, 99), (97, 98)]) == [257, 257, 257, 97, 256]


@exercise("encode", uses=("merge",), hint="글자는 UTF-8 바이트로 시작합니다. 병합을 배우지 않은 글자는 바이트 그대로 남습니다.")
def test_characters_without_merges_stay_bytes(submission):
    assert submission.encode("가a", [(0xEA, 0xB0), (256, 0x80)]) == [257, 97]
    assert submission.encode("뷁", [(0xEA, 0xB0)]) == [0xEB, 0xB7, 0x81]


# --- decode_with_fallback -------------------------------------------------------------------------------------


@exercise("decode_with_fallback", hint="바이트 조각을 하나씩 풀지 말고, 이은 다음에 한 번만 푸세요.")
def test_bytes_join_into_characters(submission):
    assert submission.decode_with_fallback(["▁안", "녕", "<0xEB>", "<0xB7>", "<0x81>"]) == " 안녕뷁"
    assert submission.decode_with_fallback(["<0xF0>", "<0x9F>", "<0x91>", "<0x8D>", "!"]) == "👍!"


@exercise("decode_with_fallback", hint="▁는 조각의 가운데나 끝에도 올 수 있습니다. 모두 공백으로 바꾸되 앞의 공백을 지우지는 마세요.")
def test_the_mark_of_a_space_becomes_a_space_everywhere(submission):
    assert submission.decode_with_fallback(["▁밥▁을", "▁", "먹다▁"]) == " 밥 을 먹다 "


@exercise("decode_with_fallback", hint="모자라거나 깨진 바이트에서 멈추면 안 됩니다. errors=\"replace\"가 �로 바꾸어 줍니다.")
def test_broken_bytes_are_shown_as_replacement(submission):
    assert submission.decode_with_fallback(["가", "<0xEB>", "<0xB7>"]) == "가\ufffd"
    assert submission.decode_with_fallback(["<0xFF>", "나"]) == "\ufffd나"


@exercise("decode_with_fallback", hint="바이트 조각은 <0x와 > 사이에 16진수가 꼭 두 자리인 것뿐입니다. 비슷하게 생긴 다른 글은 글입니다.")
def test_only_two_hexadecimal_digits_are_a_byte(submission):
    assert submission.decode_with_fallback(["<0x", "41", ">", "<0x41>", "<0x414>", "<b>"]) == "<0x41>A<0x414><b>"


# --- Utf8Stream -----------------------------------------------------------------------------------------------


@exercise("Utf8Stream", hint="덜 온 글자의 바이트는 남겨 두었다가, 다음에 온 바이트 앞에 이어 붙이세요.")
def test_a_character_appears_when_it_is_whole(submission):
    stream = submission.Utf8Stream()
    assert [stream.push(bytes([byte])) for byte in "가".encode()] == ["", "", "가"]
    assert [stream.push(bytes([byte])) for byte in "👍".encode()] == ["", "", "", "👍"]


@exercise("Utf8Stream", hint="덜 온 것은 끝에만 있습니다. 그 앞의 다 모인 글자들은 기다리지 말고 내보내세요.")
def test_whole_characters_do_not_wait(submission):
    stream = submission.Utf8Stream()
    assert stream.push("값은 ".encode() + b"\xec") == "값은 "
    assert stream.push(b"\xb2\x9c" + "원".encode()) == "천원"
    assert stream.push(b"!") == "!"


@exercise("Utf8Stream", hint="0xFF는 무엇이 와도 글자가 되지 못합니다. 기다리면 그 뒤의 글이 모두 막힙니다.")
def test_bytes_that_can_be_no_character_do_not_block(submission):
    stream = submission.Utf8Stream()
    assert stream.push(b"\xff") == "\ufffd"
    assert stream.push("다".encode()) == "다"
    assert stream.push(b"\x80") == "\ufffd"


@exercise("Utf8Stream", hint="E0, F0, F4 다음에는 80–BF 가운데 일부만 올 수 있습니다. 둘째 바이트가 그 밖이면 셋째를 기다릴 까닭이 없습니다.")
def test_a_second_byte_that_cannot_follow_ends_the_waiting(submission):
    for first, wrong, right in ((0xE0, 0x80, 0xA0), (0xF0, 0x80, 0x90), (0xF4, 0x90, 0x8F)):
        stream = submission.Utf8Stream()
        assert stream.push(bytes([first])) == ""
        assert stream.push(bytes([wrong])) == "\ufffd\ufffd"
        assert stream.push(bytes([first, right])) == ""


@exercise("Utf8Stream", hint="끝났는데 남은 바이트가 있으면 � 하나를 내보내고 비웁니다. 없으면 아무것도 내보내지 않습니다.")
def test_the_rest_is_shown_at_the_end(submission):
    stream = submission.Utf8Stream()
    assert stream.push("나".encode() + b"\xea\xb0") == "나"
    assert stream.finish() == "\ufffd"
    assert stream.finish() == ""
    assert stream.push(b"a") == "a"


# --- wordpiece ------------------------------------------------------------------------------------------------


@exercise("wordpiece", hint="긴 조각부터 맞추어 보세요. 처음 맞는 것이 가장 긴 것입니다.")
def test_the_longest_piece_wins(submission):
    assert submission.wordpiece("먹었다", {"먹", "먹었", "##었다", "##다"}) == ["먹었", "##다"]
    assert submission.wordpiece("먹었다", {"먹", "##었", "##었다", "##다"}) == ["먹", "##었다"]


@exercise("wordpiece", hint="첫 조각이 아니면 어휘에서 \"##\"이 붙은 것을 찾고, 결과에도 붙여 둡니다. 첫 조각에는 붙이지 않습니다.")
def test_pieces_inside_a_word_are_marked(submission):
    assert submission.wordpiece("나나나", {"나", "##나"}) == ["나", "##나", "##나"]
    assert submission.wordpiece("다나", {"##다", "나", "##나"}) == ["[UNK]"]


@exercise("wordpiece", hint="하나라도 맞지 않으면 낱말 전체가 [UNK] 하나입니다. 맞은 데까지 남겨 두지 않습니다.")
def test_one_unknown_piece_makes_the_word_unknown(submission):
    vocabulary = {"먹", "##었", "##다"}
    assert submission.wordpiece("먹었고", vocabulary) == ["[UNK]"]
    assert submission.wordpiece("먹었다", vocabulary) == ["먹", "##었", "##다"]


@exercise("wordpiece", hint="탐욕법은 물리지 않습니다. ab를 고른 뒤 막혔다고 a로 돌아가지 않습니다.")
def test_a_choice_is_not_taken_back(submission):
    assert submission.wordpiece("abc", {"a", "ab", "##bc"}) == ["[UNK]"]
    assert submission.wordpiece("abc", {"a", "##bc"}) == ["a", "##bc"]


# --- viterbi --------------------------------------------------------------------------------------------------


@exercise("viterbi", hint="조각마다가 아니라 합이 가장 큰 나누기입니다. 한 + 국어 = -7.5가 한국 + 어 = -8이나 한국어 = -9보다 큽니다.")
def test_the_best_sum_wins_over_the_longest_piece(submission):
    scores = {"한": -4.0, "국": -4.0, "어": -3.0, "한국": -5.0, "국어": -3.5, "한국어": -9.0}
    assert submission.viterbi("한국어", scores) == ["한", "국어"]
    assert submission.viterbi("한국어", scores | {"한국어": -7.0}) == ["한국어"]


@exercise("viterbi", hint="첫 조각의 점수가 좋다고 좋은 나누기는 아닙니다. 끝까지 간 합을 견주세요.")
def test_a_good_start_may_end_badly(submission):
    # a(-1)로 시작하면 남은 b가 -10입니다.
    assert submission.viterbi("ab", {"a": -1.0, "b": -10.0, "ab": -2.0}) == ["ab"]
    # 조각이 적다고 좋은 것도 아닙니다.
    assert submission.viterbi("ab", {"a": -1.0, "b": -0.5, "ab": -2.0}) == ["a", "b"]


@exercise("viterbi", hint="나눌 수 없으면 ValueError입니다. 막다른 길이 있어도 다른 길로 갈 수 있으면 그 길을 찾아야 합니다.")
def test_dead_ends_and_texts_that_cannot_be_cut(submission):
    assert submission.viterbi("abc", {"ab": -0.1, "a": -3.0, "bc": -3.0}) == ["a", "bc"]
    with pytest.raises(ValueError):
        submission.viterbi("abd", {"ab": -0.1, "a": -3.0, "bc": -3.0})


@exercise("viterbi", seconds=5, hint="모든 나누기를 다 해 보면 끝나지 않습니다. 자리마다 가장 좋은 점수 하나만 기억하세요.")
def test_long_texts_do_not_take_forever(submission):
    assert submission.viterbi("a" * 200, {"a": -1.0, "aa": -1.5}) == ["aa"] * 100
