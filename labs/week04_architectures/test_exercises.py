"""4주차 연습 문제의 채점. 기댓값은 정의에서 손으로 셈한 것입니다."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from llm_workshop.learning.grading import assert_close, exercise

# --- rms_norm -------------------------------------------------------------------------------------------------


@exercise("rms_norm", hint="제곱의 **평균**의 제곱근으로 나눕니다. [1, 7]이면 (1 + 49) / 2 = 25, 제곱근은 5입니다.")
def test_each_vector_is_divided_by_its_root_mean_square(submission):
    assert_close(submission.rms_norm(tensor([1.0, 7.0]), torch.ones(2), 0.0), [0.2, 1.4])
    x = tensor([[[1.0, 7.0], [10.0, 70.0]], [[-3.0, 3.0], [0.0, 2.0]]])
    assert_close(submission.rms_norm(x, torch.ones(2), 0.0), [[[0.2, 1.4], [0.2, 1.4]], [[-1.0, 1.0], [0.0, math.sqrt(2)]]])


@exercise("rms_norm", hint="평균을 빼지 않습니다. 그것은 LayerNorm입니다. 모든 성분이 같은 벡터는 0이 아니라 1이 됩니다.")
def test_the_mean_is_not_subtracted(submission):
    assert_close(submission.rms_norm(tensor([3.0, 3.0, 3.0]), tensor([1.0, 2.0, -1.0]), 0.0), [1.0, 2.0, -1.0])


@exercise("rms_norm", hint="eps는 제곱근 안에서 제곱의 평균에 더합니다. 모두 0인 벡터에서 nan이 나오지 않아야 합니다.")
def test_eps_stands_under_the_root(submission):
    # mean(x²) = 7, 7 + 9 = 16, 제곱근은 4.
    assert_close(submission.rms_norm(tensor([math.sqrt(7), -math.sqrt(7)]), torch.ones(2), 9.0), [math.sqrt(7) / 4, -math.sqrt(7) / 4])
    assert_close(submission.rms_norm(torch.zeros(4), torch.ones(4)), [0.0] * 4)


@exercise("rms_norm", hint="통계는 x.float()로 셈하고, 마지막에 .to(x.dtype)로 되돌리세요.")
def test_bfloat16_is_computed_in_float32(submission):
    x = torch.arange(1, 9).bfloat16()
    got = submission.rms_norm(x, torch.ones(8, dtype=torch.bfloat16), 0.0)
    assert got.dtype == torch.bfloat16
    # mean(x²) = 25.5, 제곱근은 5.0498. bfloat16에서는 5.0625로 반올림되어 8 / 5.0498 = 1.5842가 1.58이 되지 못합니다.
    assert got.tolist() == [float(tensor(n / math.sqrt(25.5)).bfloat16()) for n in range(1, 9)]


# --- attention ------------------------------------------------------------------------------------------------


@exercise("attention", hint="점수를 √d로 나누었나요? d = 4이면 2로 나눕니다. 소프트맥스는 키를 따라(마지막 축) 합니다.")
def test_scores_are_divided_by_the_root_of_the_width(submission):
    # 점수는 2 ln 3 / √4 = ln 3과 0이므로 무게는 3/4과 1/4.
    q, k = tensor([[2 * math.log(3), 0.0, 0.0, 0.0]]), tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    assert_close(submission.attention(q, k, tensor([[4.0], [8.0]]), causal=False), [[5.0]])
    # 쿼리가 여럿이어도 무게의 합은 쿼리마다 1입니다.
    assert_close(submission.attention(torch.zeros(3, 4), k, tensor([[4.0, 0.0], [8.0, 2.0]]), causal=False), [[6.0, 1.0]] * 3)


@exercise("attention", hint="i번째 쿼리는 0번부터 i번까지의 키만 봅니다. 자기 자신은 봅니다. 삼각형의 방향을 살펴보세요.")
def test_the_future_is_hidden(submission):
    # 점수가 모두 0이므로, 보이는 밸류의 평균입니다.
    zeros, v = torch.zeros(3, 2), tensor([[2.0], [4.0], [9.0]])
    assert_close(submission.attention(zeros, zeros, v), [[2.0], [3.0], [5.0]])
    assert_close(submission.attention(zeros, zeros, v, causal=False), [[5.0]] * 3)


@exercise("attention", hint="소프트맥스 뒤에 0을 곱하지 말고, 앞에서 -inf로 가리세요. 미래의 점수가 크면 과거의 무게가 0이 됩니다.")
def test_a_huge_score_in_the_future_does_no_harm(submission):
    q, k = tensor([[1.0], [1.0]]), tensor([[0.0], [1000.0]])
    assert_close(submission.attention(q, k, tensor([[3.0], [5.0]])), [[3.0], [5.0]])


@exercise("attention", hint="쿼리 T개는 키 S개의 마지막 T자리입니다. 쿼리가 하나이고 키가 셋이면 셋을 모두 봅니다. 대각선을 S - T칸 미세요.")
def test_queries_stand_at_the_last_places(submission):
    k, v = torch.zeros(4, 2), tensor([[4.0], [8.0], [0.0], [12.0]])
    assert_close(submission.attention(torch.zeros(1, 2), k, v), [[6.0]])
    assert_close(submission.attention(torch.zeros(2, 2), k, v), [[4.0], [6.0]])


# --- multi_head_attention -------------------------------------------------------------------------------------


def two_heads():
    """너비 4, 머리 둘. 둘째 토큰이 머리 0에서는 첫 토큰을, 머리 1에서는 자기 자신을 봅니다."""
    x = torch.eye(4)[:2]
    w_q, w_k, w_v = torch.zeros(4, 4), torch.zeros(4, 4), torch.zeros(4, 4)
    w_q[:, 1] = tensor([10.0, 0.0, 10.0, 0.0])
    w_k[:, 0] = tensor([10.0, 0.0, 0.0, 0.0])
    w_k[:, 1] = tensor([0.0, 0.0, 10.0, 0.0])
    w_v[:, 0] = tensor([1.0, 2.0, 3.0, 4.0])
    w_v[:, 1] = tensor([5.0, 6.0, 7.0, 8.0])
    return x, w_q, w_k, w_v


@exercise("multi_head_attention", uses=("attention",),
          hint="view로 (T, H, d)로 본 다음 축을 바꾸세요. 곧바로 (H, T, d)로 보면 토큰과 머리가 섞입니다. 끝에는 머리를 차례로 이어 붙입니다.")
def test_each_head_looks_by_itself(submission):
    assert_close(submission.multi_head_attention(*two_heads(), torch.eye(4), 2), [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 7.0, 8.0]])
    # 머리가 하나이면 두 점수가 같으므로 평균입니다.
    assert_close(submission.multi_head_attention(*two_heads(), torch.eye(4), 1), [[1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0]])


@exercise("multi_head_attention", uses=("attention",),
          hint="√d의 d는 전체 너비가 아니라 머리 하나의 너비 D / H입니다.")
def test_the_width_of_a_head_scales_the_scores(submission):
    # D = 8, H = 2, d = 4: 점수는 2 ln 3 / √4 = ln 3과 0. 머리 0의 무게는 3/4과 1/4, 머리 1은 1/2과 1/2.
    x = torch.eye(8)[:2]
    w_q, w_k, w_v = torch.zeros(8, 8), torch.zeros(8, 8), torch.zeros(8, 8)
    w_q[0, 1], w_k[0, 0] = 2 * math.log(3), 1.0
    w_v[:, 0], w_v[:, 1] = 0.0, 8.0
    assert_close(submission.multi_head_attention(x, w_q, w_k, w_v, torch.eye(8), 2)[1], [2.0] * 4 + [4.0] * 4)


@exercise("multi_head_attention", uses=("attention",),
          hint="이어 붙인 뒤에 w_o를 곱합니다. 가중치는 (나가는, 들어오는) 모양이라 x @ w.T입니다.")
def test_the_output_matrix_mixes_the_heads(submission):
    swap = torch.zeros(4, 4)
    swap[0, 3] = swap[1, 0] = 1.0  # 나가는 0번은 들어오는 3번, 나가는 1번은 들어오는 0번.
    assert_close(submission.multi_head_attention(*two_heads(), swap, 2), [[4.0, 1.0, 0.0, 0.0], [8.0, 1.0, 0.0, 0.0]])


@exercise("multi_head_attention", uses=("attention",),
          hint="나누어떨어지지 않으면 ValueError를 내세요. 남는 성분을 버리면 안 됩니다.")
def test_the_width_must_be_divisible(submission):
    x, w_q, w_k, w_v = two_heads()
    assert_close(submission.multi_head_attention(x, w_q, w_k, w_v, torch.eye(4), 4)[0], [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError):
        submission.multi_head_attention(x, w_q, w_k, w_v, torch.eye(4), 3)


# --- apply_rope -----------------------------------------------------------------------------------------------


@exercise("apply_rope", hint="짝 (a, b)는 (a cos - b sin, b cos + a sin)이 됩니다. 부호를 살펴보세요. 위치 0에서는 돌지 않습니다.")
def test_a_pair_turns_by_its_position(submission):
    x = tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    expected = [[1.0, 0.0], [math.cos(1), math.sin(1)], [-math.sin(2), math.cos(2)]]
    assert_close(submission.apply_rope(x, tensor([0, 1, 2])), expected)


@exercise("apply_rope", hint="짝은 이웃 (2i, 2i + 1)이 아니라 절반끼리 (i, i + d/2)입니다.")
def test_pairs_are_halves(submission):
    # 성분 0의 짝은 성분 2입니다. 각도 1로 돕니다.
    assert_close(submission.apply_rope(tensor([[1.0, 0.0, 0.0, 0.0]]), tensor([1])), [[math.cos(1), 0.0, math.sin(1), 0.0]])


@exercise("apply_rope", hint="i번째 짝의 각도는 위치 · theta^(-2i/d)입니다. d = 4, theta = 100이면 둘째 짝은 100^(-1/2) = 0.1입니다.")
def test_later_pairs_turn_more_slowly(submission):
    got = submission.apply_rope(tensor([[0.0, 1.0, 0.0, 0.0]]), tensor([3]), theta=100.0)
    assert_close(got, [[0.0, math.cos(0.3), 0.0, math.sin(0.3)]])
    got = submission.apply_rope(tensor([[0.0, 1.0, 0.0, 0.0]]), tensor([3]))
    assert_close(got, [[0.0, math.cos(0.03), 0.0, math.sin(0.03)]])


@exercise("apply_rope", hint="받은 positions를 쓰세요. 0부터 차례로라고 생각하지 마세요. 점수는 두 위치의 차이에만 달려 있어야 합니다.")
def test_scores_depend_on_the_distance_alone(submission):
    torch.manual_seed(0)
    q, k = torch.randn(1, 8), torch.randn(1, 8)

    def score(m, n):
        return (submission.apply_rope(q, tensor([m])) @ submission.apply_rope(k, tensor([n])).T).item()

    assert score(10, 3) == pytest.approx(score(1510, 1503), abs=1e-3)
    assert abs(score(10, 3) - score(10, 5)) > 1e-2


# --- CachedHead -----------------------------------------------------------------------------------------------

EYE = torch.eye(2)
NONE = torch.zeros(2, 2)


@exercise("CachedHead", uses=("attention",), hint="새 키와 밸류를 앞의 것 뒤에 이어 붙인 다음, 모두에 대해 어텐션을 하세요.")
def test_a_token_sees_all_that_came_before(submission):
    head = submission.CachedHead()
    # 쿼리가 0이라 지금까지의 평균입니다.
    assert_close(head.step(tensor([[2.0, 0.0]]), NONE, EYE, EYE), [[2.0, 0.0]])
    assert_close(head.step(tensor([[4.0, 6.0]]), NONE, EYE, EYE), [[3.0, 3.0]])
    assert_close(head.step(tensor([[0.0, 6.0]]), NONE, EYE, EYE), [[2.0, 4.0]])


@exercise("CachedHead", uses=("attention",), hint="이미 계산한 키와 밸류를 적어 두세요. 지나간 토큰을 새 가중치로 다시 계산하면 안 됩니다.")
def test_nothing_is_computed_twice(submission):
    head = submission.CachedHead()
    head.step(tensor([[2.0, 0.0]]), NONE, EYE, EYE)
    # 새 토큰의 밸류는 3배이지만 앞의 밸류 (2, 0)은 그대로이므로 평균은 (1, 3).
    assert_close(head.step(tensor([[0.0, 2.0]]), NONE, EYE, 3 * EYE), [[1.0, 3.0]])
    # 새 키가 0이고 앞의 키들이 그대로이면 점수는 (쿼리 (s, 0)) · 키 = 2s, 0, 0. s = √2 ln 2 / 2라 무게는 1/2, 1/4, 1/4.
    s = math.sqrt(2) * math.log(2) / 2
    assert_close(head.step(tensor([[1.0, 0.0]]), s * EYE, NONE, NONE), [[1.0, 6.0 / 4]])


@exercise("CachedHead", uses=("attention",), hint="여러 토큰을 한 번에 넣을 때도 미래는 가려야 합니다. 나누어 넣은 결과와 견주어 보세요.")
def test_pieces_give_what_the_whole_gives(submission):
    torch.manual_seed(0)
    x = torch.randn(6, 2)
    weights = torch.randn(3, 2, 2)
    one_by_one = submission.CachedHead()
    expected = torch.cat([one_by_one.step(x[i : i + 1], *weights) for i in range(6)])
    assert expected.shape == (6, 2) and not torch.allclose(expected, x)
    for cuts in ((6,), (3, 3), (1, 4, 1)):
        head = submission.CachedHead()
        assert_close(torch.cat([head.step(part, *weights) for part in x.split(cuts)]), expected)


@exercise("CachedHead", uses=("attention",), hint="캐시는 머리마다 따로입니다. 클래스 변수나 전역 변수에 두면 다른 글과 섞입니다.")
def test_two_texts_do_not_mix(submission):
    first, second = submission.CachedHead(), submission.CachedHead()
    first.step(tensor([[8.0, 8.0]]), NONE, EYE, EYE)
    assert_close(second.step(tensor([[2.0, 4.0]]), NONE, EYE, EYE), [[2.0, 4.0]])
    assert_close(first.step(tensor([[0.0, 2.0]]), NONE, EYE, EYE), [[4.0, 5.0]])


# --- Router ---------------------------------------------------------------------------------------------------


@exercise("Router", hint="점수가 큰 전문가 k명을 고르고, 고른 점수들의 합으로 나누세요. 전체의 합이 아닙니다.")
def test_the_best_experts_share_the_weight(submission):
    router = submission.Router(4, 2)
    experts, weights = router.route(tensor([[0.1, 0.6, 0.3, 0.2], [0.8, 0.1, 0.1, 0.2]]))
    assert experts.tolist() == [[1, 2], [0, 3]]
    assert_close(weights, [[2 / 3, 1 / 3], [0.8, 0.2]])


@exercise("Router", hint="편향은 고를 때만 씁니다. 무게는 원래 점수로 셈하세요.")
def test_the_bias_chooses_but_does_not_weigh(submission):
    router = submission.Router(3, 2)
    router.bias = tensor([0.0, 0.0, 0.5])
    experts, weights = router.route(tensor([[0.6, 0.3, 0.2]]))
    assert experts.tolist() == [[2, 0]]
    assert_close(weights, [[0.25, 0.75]])


@exercise("Router", hint="평균보다 많이 불린 전문가는 낮추고 적게 불린 전문가는 높입니다. 크기는 언제나 rate입니다.")
def test_busy_experts_are_lowered(submission):
    router = submission.Router(3, 1)
    assert_close(router.bias, [0.0, 0.0, 0.0])
    # 부른 횟수 4, 1, 1: 평균은 2.
    router.rebalance(tensor([[0], [0], [0], [0], [1], [2]]), 0.1)
    assert_close(router.bias, [-0.1, 0.1, 0.1])
    # 1, 2, 3: 평균은 2라 1번은 그대로.
    router.rebalance(tensor([[0], [1], [1], [2], [2], [2]]), 0.1)
    assert_close(router.bias, [0.0, 0.1, 0.0])


@exercise("Router", hint="한 번도 불리지 않은 전문가도 셉니다. bincount에는 minlength가 있습니다.")
def test_experts_never_called_are_raised(submission):
    router = submission.Router(4, 2)
    scores = tensor([[0.9, 0.8, 0.75, 0.1]] * 5)
    experts, _ = router.route(scores)
    assert experts.tolist() == [[0, 1]] * 5
    router.rebalance(experts, 0.05)
    assert_close(router.bias, [-0.05, -0.05, 0.05, 0.05])
    # 0.9 - 0.05 = 0.85, 0.8 - 0.05 = 0.75, 0.75 + 0.05 = 0.8: 이제 2번이 1번보다 앞섭니다.
    assert router.route(scores)[0].tolist() == [[0, 2]] * 5


# --- selective_scan -------------------------------------------------------------------------------------------

LN2 = math.log(2)


@exercise("selective_scan", hint="한 걸음씩: 감쇠는 exp(Δ·A), 들어오는 것은 Δ·x·B입니다. 출력은 상태를 고친 **뒤**에 냅니다.")
def test_one_channel_by_hand(submission):
    x, delta = tensor([[1.0], [0.0], [2.0]]), tensor([[LN2], [LN2], [2 * LN2]])
    y, last = submission.selective_scan(x, delta, tensor([[-1.0]]), torch.ones(3, 1), torch.ones(3, 1), tensor([0.0]))
    # h: ln2 → ln2 / 2 → ln2 / 8 + 2·2ln2
    assert_close(y, [[LN2], [LN2 / 2], [LN2 / 8 + 4 * LN2]])
    assert_close(last, [[LN2 / 8 + 4 * LN2]])


@exercise("selective_scan", hint="채널마다, 상태의 성분마다 감쇠가 다릅니다. 모양을 (D, N)으로 맞추세요: delta[:, None] * A.")
def test_channels_and_states_have_their_own_decay(submission):
    x, delta = tensor([[1.0, 3.0], [0.0, 0.0]]), tensor([[1.0, 1.0], [LN2, 2 * LN2]])
    A = tensor([[-1.0, -2.0], [-1.0, -3.0]])
    B, C = tensor([[1.0, 10.0], [7.0, 7.0]]), tensor([[0.0, 0.0], [1.0, 1.0]])
    y, last = submission.selective_scan(x, delta, A, B, C, tensor([0.0, 0.0]))
    # 첫 걸음 뒤: (1, 10)과 (3, 30). 감쇠는 채널 0이 1/2, 1/4이고 채널 1이 1/4, 1/64.
    assert_close(last, [[0.5, 2.5], [0.75, 30 / 64]])
    assert_close(y, [[0.0, 0.0], [3.0, 0.75 + 30 / 64]])


@exercise("selective_scan", hint="D는 상태를 거치지 않고 x를 바로 출력에 더하는 길입니다. 상태에 더하면 안 됩니다.")
def test_the_input_also_passes_by(submission):
    zero = torch.zeros(2, 1)
    y, last = submission.selective_scan(tensor([[2.0], [3.0]]), zero, tensor([[-1.0]]), zero + 1, zero + 1, tensor([5.0]))
    assert_close(y, [[10.0], [15.0]])
    assert_close(last, [[0.0]])


@exercise("selective_scan", hint="받은 상태에서 시작하고 마지막 상태를 돌려주세요. 받은 텐서는 제자리 연산으로 고치지 않습니다.")
def test_a_text_may_come_in_pieces(submission):
    torch.manual_seed(0)
    x, delta, B, C = torch.randn(6, 3), torch.rand(6, 3), torch.randn(6, 2), torch.randn(6, 2)
    A, D = -torch.rand(3, 2) - 0.1, torch.randn(3)
    whole, last = submission.selective_scan(x, delta, A, B, C, D)
    y1, middle = submission.selective_scan(x[:4], delta[:4], A, B[:4], C[:4], D)
    kept = middle.clone()
    y2, end = submission.selective_scan(x[4:], delta[4:], A, B[4:], C[4:], D, middle)
    assert torch.equal(middle, kept)
    assert_close(torch.cat((y1, y2)), whole)
    assert_close(end, last)
    assert last.abs().max() > 0.01 and not torch.allclose(whole, x)


# --- wkv ------------------------------------------------------------------------------------------------------


@exercise("wkv", hint="식을 한 줄씩 따라가 보세요. 지금 토큰에는 u가 붙고, 지나간 토큰은 한 걸음마다 e^(-w)배가 됩니다.")
def test_three_tokens_by_hand(submission):
    # e^u = 2, e^(-w) = 1/2, e^k = 1.  t=1: (1 + 2·4) / (1 + 2) = 3.  t=2: a = 1/2 + 4, b = 1/2 + 1, (4.5 + 0) / (1.5 + 2).
    k, v = torch.zeros(3, 1), tensor([[1.0], [4.0], [0.0]])
    assert_close(submission.wkv(k, v, tensor([LN2]), tensor([LN2])), [[1.0], [3.0], [9 / 7]])


@exercise("wkv", hint="첫 토큰은 홀로 있으니 무게가 얼마이든 평균은 v 자신입니다. 바로 앞 토큰은 아직 흐려지지 않았습니다.")
def test_the_token_before_has_not_faded(submission):
    # w가 아주 커도 바로 앞 토큰의 무게는 그대로입니다: (1·6 + 1·2) / 2 = 4. 그 앞의 것은 사라졌습니다: (2 + 0) / 2.
    k, v = torch.zeros(3, 1), tensor([[6.0], [2.0], [0.0]])
    assert_close(submission.wkv(k, v, tensor([50.0]), tensor([0.0])), [[6.0], [4.0], [1.0]])


@exercise("wkv", hint="키가 크면 무게도 큽니다. e^k를 곱했나요? 채널마다 w와 u가 다릅니다.")
def test_channels_have_their_own_keys_and_decays(submission):
    k = tensor([[math.log(3), 0.0], [0.0, math.log(4)], [0.0, 0.0]])
    v = tensor([[4.0, 5.0], [8.0, 10.0], [0.0, 1.0]])
    # 채널 0 (w = 0, u = 0): 4, (12 + 8) / 4, 20 / 5.  채널 1 (e^(-w) = 1/2, e^u = 3): 5, (5 + 12·10) / 13, (2.5 + 40 + 3) / (4.5 + 3).
    assert_close(submission.wkv(k, v, tensor([0.0, LN2]), tensor([0.0, math.log(3)])), [[4.0, 5.0], [5.0, 125 / 13], [4.0, 45.5 / 7.5]])


@exercise("wkv", hint="가장 큰 지수 m을 빼고 거듭제곱하세요. 출력을 낼 때의 m에는 u가 들고, 상태를 고칠 때의 m은 w만큼 흐려집니다.")
def test_huge_exponents_do_not_overflow(submission):
    v = tensor([[2.0], [4.0], [6.0]])
    for level in (1000.0, -1000.0):  # 키를 모두 같은 만큼 옮겨도 평균은 그대로입니다.
        assert_close(submission.wkv(torch.full((3, 1), level), v, tensor([0.0]), tensor([0.0])), [[2.0], [3.0], [4.0]])
    # 아주 큰 키 뒤의 작은 키: 큰 것만 보입니다. 그러나 w = 600이면 두 걸음 만에 뒤집힙니다.
    k = tensor([[1000.0], [0.0], [0.0], [0.0]])
    v = tensor([[2.0], [4.0], [6.0], [8.0]])
    assert_close(submission.wkv(k, v, tensor([600.0]), tensor([0.0])), [[2.0], [2.0], [2.0], [7.0]])
