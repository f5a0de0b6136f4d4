"""1주차 연습 문제의 채점. 기댓값은 정의에서 손으로 셈했거나 공개된 모델의 크기입니다."""

from __future__ import annotations

import math

import pytest

from llm_workshop.learning.grading import exercise

# --- weight_bytes -----------------------------------------------------------------------------------------------


@exercise("weight_bytes", hint="형식의 비트 수에 개수를 곱하고 8로 나눕니다. bfloat16은 16비트입니다.")
def test_bytes_of_each_format(submission):
    found = [submission.weight_bytes(10, dtype) for dtype in ("float32", "bfloat16", "float16", "int8", "int4")]
    assert found == [40, 20, 20, 10, 5]
    assert submission.weight_bytes(8_030_261_248, "bfloat16") == 16_060_522_496


@exercise("weight_bytes", hint="int4가 홀수 개면 마지막 하나도 한 바이트를 차지합니다. 올림하세요. 결과는 정수입니다.")
def test_an_odd_number_of_halves_rounds_up(submission):
    assert [submission.weight_bytes(n, "int4") for n in (1, 2, 3)] == [1, 1, 2]
    assert isinstance(submission.weight_bytes(3, "int4"), int)


@exercise("weight_bytes", hint="모르는 이름은 ValueError입니다. 조용히 다른 형식으로 넘어가면 나중에 더 찾기 어렵습니다.")
def test_an_unknown_format_is_refused(submission):
    with pytest.raises(ValueError):
        submission.weight_bytes(10, "int3")


# --- next_token -------------------------------------------------------------------------------------------------


@exercise("next_token", hint="온도 0은 가장 큰 로짓의 번호입니다. 같으면 앞의 것이고, u는 쓰지 않습니다.")
def test_temperature_zero_takes_the_largest(submission):
    assert submission.next_token([0.5, -1.0, 3.0, 2.9], 0.0, 0.99) == 2
    assert submission.next_token([1.0, 7.0, 7.0], 0.0, 0.0) == 1
    assert submission.next_token([-5.0, -2.0, -9.0], 0.0, 0.5) == 1


@exercise("next_token", hint="소프트맥스로 확률을 얻고, 앞에서부터 더해 u를 처음 넘는 번호입니다. ln 3과 0의 확률은 3 대 1입니다.")
def test_the_draw_follows_the_probabilities(submission):
    logits = [0.0, math.log(3)]  # 확률 0.25, 0.75
    assert [submission.next_token(logits, 1.0, u) for u in (0.0, 0.24, 0.26, 0.99)] == [0, 0, 1, 1]
    assert [submission.next_token(logits[::-1], 1.0, u) for u in (0.74, 0.76)] == [0, 1]
    three = [math.log(2), 0.0, 0.0]  # 확률 0.5, 0.25, 0.25
    assert [submission.next_token(three, 1.0, u) for u in (0.4, 0.6, 0.74, 0.76)] == [0, 1, 1, 2]


@exercise("next_token", hint="로짓을 온도로 나눈 다음 소프트맥스를 합니다. 온도 0.5면 3 대 1이 9 대 1이 됩니다.")
def test_the_temperature_divides_the_logits(submission):
    logits = [0.0, math.log(3)]
    assert [submission.next_token(logits, 0.5, u) for u in (0.09, 0.11)] == [0, 1]  # 0.1과 0.9
    assert [submission.next_token([0.0, math.log(9)], 2.0, u) for u in (0.24, 0.26)] == [0, 1]  # 0.25와 0.75


@exercise("next_token", hint="지수를 내기 전에 가장 큰 로짓을 빼세요. 확률은 그대로이고 넘치지 않습니다.")
def test_large_logits_do_not_overflow(submission):
    assert submission.next_token([1000.0, 1000.0 + math.log(3)], 1.0, 0.2) == 0
    assert submission.next_token([1000.0, 1000.0 + math.log(3)], 1.0, 0.3) == 1


@exercise("next_token", hint="음수 온도는 순서를 뒤집습니다. ValueError로 막으세요.")
def test_a_negative_temperature_is_refused(submission):
    with pytest.raises(ValueError):
        submission.next_token([0.0, 1.0], -1.0, 0.5)


# --- bits_per_byte ----------------------------------------------------------------------------------------------


@exercise("bits_per_byte", hint="자연로그의 손실을 ln 2로 나누면 비트입니다.")
def test_nats_become_bits(submission):
    assert submission.bits_per_byte(math.log(2), 100, 100) == pytest.approx(1.0)
    assert submission.bits_per_byte(math.log(256), 7, 7) == pytest.approx(8.0)  # 바이트를 찍을 때


@exercise("bits_per_byte", hint="글 전체의 손실(토큰당 손실 × 토큰 수)을 바이트 수로 나눕니다. 한글은 한 글자가 3바이트입니다.")
def test_the_whole_loss_is_shared_among_the_bytes(submission):
    assert submission.bits_per_byte(6 * math.log(2), 50, 300) == pytest.approx(1.0)
    assert submission.bits_per_byte(3 * math.log(2), 200, 400) == pytest.approx(1.5)


# --- parameter_count --------------------------------------------------------------------------------------------

TINY = {"vocab_size": 10, "n_layers": 1, "d_model": 4, "n_heads": 2, "n_kv_heads": 1, "head_dim": 3, "d_ff": 5}


@exercise("parameter_count", hint="임베딩 40, 쿼리 24, 키와 밸류 12씩, 출력 24, SwiGLU 60, 정규화 8과 4. 하나씩 맞추어 보세요.")
def test_a_tiny_model_by_hand(submission):
    assert submission.parameter_count(**TINY, tied=True) == 40 + 24 + 12 + 12 + 24 + 60 + 8 + 4


@exercise("parameter_count", hint="묶지 않은 출력층은 임베딩과 같은 크기의 행렬이 하나 더 있습니다.")
def test_an_output_layer_of_its_own(submission):
    assert submission.parameter_count(**TINY, tied=False) - submission.parameter_count(**TINY, tied=True) == 40


@exercise("parameter_count", hint="층 하나의 몫만 n_layers배입니다. 임베딩과 마지막 정규화는 한 번입니다.")
def test_only_blocks_are_repeated(submission):
    counts = [submission.parameter_count(**TINY | {"n_layers": n}, tied=True) for n in (0, 1, 3)]
    assert counts == [44, 44 + 140, 44 + 3 * 140]


@exercise("parameter_count", hint="공개된 모델과 다릅니다. 키·밸류의 머리 수(n_kv_heads)와 SwiGLU의 행렬 셋을 확인하세요.")
def test_published_models(submission):
    assert submission.parameter_count(128256, 16, 2048, 32, 8, 64, 8192, True) == 1_235_814_400  # Llama 3.2 1B
    assert submission.parameter_count(128256, 32, 4096, 32, 8, 128, 14336, False) == 8_030_261_248  # Llama 3.1 8B
    assert submission.parameter_count(32000, 32, 4096, 32, 32, 128, 11008, False) == 6_738_415_616  # Llama 2 7B


# --- kv_cache_bytes ---------------------------------------------------------------------------------------------


@exercise("kv_cache_bytes", hint="키와 밸류 둘 다 간직합니다. 2 × 층 × 머리 × 너비 × 토큰 × 바이트입니다.")
def test_the_cache_of_one_row(submission):
    assert submission.kv_cache_bytes(1, 1, 4, 10) == 160  # 2 · 4 · 10 · 2
    assert submission.kv_cache_bytes(32, 8, 128, 8192) == 2**30  # Llama 3.1 8B, 문맥 8k: 꼭 1 GiB


@exercise("kv_cache_bytes", hint="줄(사용자)의 수와 수 하나의 바이트도 곱해야 합니다.")
def test_rows_and_formats_multiply(submission):
    assert submission.kv_cache_bytes(3, 2, 5, 7, n_rows=4) == 2 * 3 * 2 * 5 * 7 * 4 * 2
    assert submission.kv_cache_bytes(3, 2, 5, 7, n_rows=4, bytes_per_number=1) == 2 * 3 * 2 * 5 * 7 * 4


# --- training_days ----------------------------------------------------------------------------------------------


@exercise("training_days", hint="6ND를 실제로 내는 속도(최고 속도 × mfu)로 나누면 초입니다. 하루는 86,400초입니다.")
def test_days_of_one_device(submission):
    assert submission.training_days(1e9, 2e10, 1e15, 0.4) == pytest.approx(300_000 / 86_400)
    assert submission.training_days(2e6, 7.2e6, 1e9, 1.0) == pytest.approx(1.0)  # 8.64e13 / 1e9초 = 하루


@exercise("training_days", hint="장치가 여럿이면 기다리는 날은 그만큼 줄어듭니다(장치·시간은 그대로입니다).")
def test_devices_share_the_work(submission):
    assert submission.training_days(1e9, 2e10, 1e15, 0.4, n_devices=8) == pytest.approx(37_500 / 86_400)


@exercise("training_days", hint="mfu는 비율입니다. 0 이하나 1 초과는 ValueError로 막으세요. 40 %를 40으로 넣는 실수가 잦습니다.")
def test_an_impossible_utilisation_is_refused(submission):
    assert submission.training_days(1e9, 1e9, 1e12, 1.0) > 0
    for wrong in (0.0, -0.1, 40.0):
        with pytest.raises(ValueError):
            submission.training_days(1e9, 1e9, 1e12, wrong)


# --- concurrent_users -------------------------------------------------------------------------------------------

SHAPE = {"n_layers": 1, "n_kv_heads": 1, "head_dim": 5, "n_tokens": 5}
"""사람 하나의 캐시: 2 · 5 · 5 · 2 = 100바이트."""


@exercise("concurrent_users", uses=("weight_bytes", "kv_cache_bytes"),
          hint="비워 둘 몫을 먼저 빼고, 가중치를 뺀 나머지를 사람마다의 캐시로 나눕니다.")
def test_what_is_left_is_shared(submission):
    # 2000의 90 %는 1800, 가중치 400을 빼면 1400, 사람마다 100.
    assert submission.concurrent_users(2000, 200, "bfloat16", **SHAPE, reserve=0.1) == 14
    assert submission.concurrent_users(2000, 200, "int8", **SHAPE, reserve=0.5) == 8


@exercise("concurrent_users", uses=("weight_bytes", "kv_cache_bytes"), hint="일부만 들어가는 사람은 세지 않습니다. 내림하세요.")
def test_half_a_user_does_not_count(submission):
    found = submission.concurrent_users(1599, 200, "bfloat16", **SHAPE, reserve=0.0)
    assert found == 11 and isinstance(found, int)


@exercise("concurrent_users", uses=("weight_bytes", "kv_cache_bytes"), hint="가중치가 들어가지 않으면 음수가 아니라 0입니다.")
def test_weights_that_do_not_fit(submission):
    assert submission.concurrent_users(399, 200, "bfloat16", **SHAPE, reserve=0.0) == 0
    assert submission.concurrent_users(100, 200, "bfloat16", **SHAPE, reserve=0.0) == 0
    assert submission.concurrent_users(500, 200, "bfloat16", **SHAPE, reserve=0.0) == 1


# --- generate_greedy --------------------------------------------------------------------------------------------


def successor(vocab_size: int):
    """마지막 토큰 다음 번호에 가장 높은 점수를 주는 모델. 받은 줄을 `seen`에 적어 둔다."""
    seen: list[list[int]] = []

    def next_logits(tokens: list[int]) -> list[float]:
        seen.append(list(tokens))
        return [-abs(i - (tokens[-1] + 1) % vocab_size) * 1.0 for i in range(vocab_size)]

    return next_logits, seen


@exercise("generate_greedy", hint="가장 큰 로짓의 번호를 붙이고, 붙인 것까지 넣어 다시 묻습니다. 프롬프트는 빼고 돌려주세요.")
def test_each_token_is_fed_back(submission):
    next_logits, seen = successor(10)
    assert submission.generate_greedy(next_logits, [2, 3], 3, 0, 100) == [4, 5, 6]
    assert seen == [[2, 3], [2, 3, 4], [2, 3, 4, 5]]


@exercise("generate_greedy", hint="끝 토큰이 나오면 그것까지 넣고 멈춥니다. 모델을 더 부르지 마세요.")
def test_the_end_token_ends_it(submission):
    next_logits, seen = successor(10)
    assert submission.generate_greedy(next_logits, [6], 8, 8, 100) == [7, 8]
    assert len(seen) == 2


@exercise("generate_greedy", hint="길어지면 마지막 context_length개만 모델에게 보여 줍니다. 앞이 아니라 뒤를 남깁니다.")
def test_the_model_sees_only_its_context(submission):
    next_logits, seen = successor(10)
    assert submission.generate_greedy(next_logits, [1, 2, 3], 3, 9, 2) == [4, 5, 6]
    assert seen == [[2, 3], [3, 4], [4, 5]]


@exercise("generate_greedy", hint="받은 프롬프트를 고치지 말고 베껴 쓰세요.")
def test_the_prompt_stays_as_it_is(submission):
    prompt = [1, 2]
    assert submission.generate_greedy(successor(10)[0], prompt, 2, 9, 100) == [3, 4]
    assert prompt == [1, 2]


@exercise("generate_greedy", hint="max_new_tokens가 0이면 모델을 부르지 않고 빈 목록입니다.")
def test_nothing_is_asked_for(submission):
    next_logits, seen = successor(10)
    assert submission.generate_greedy(next_logits, [1], 0, 9, 100) == [] and seen == []
    assert submission.generate_greedy(next_logits, [1], 1, 9, 100) == [2] and len(seen) == 1
