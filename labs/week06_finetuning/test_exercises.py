"""6주차 연습 문제의 채점. 기댓값은 정의에서 손으로 셈한 것입니다."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from llm_workshop.learning.grading import assert_close, exercise

# --- mask_prompt ----------------------------------------------------------------------------------------------


@exercise("mask_prompt", hint="답과 끝 토큰만 정답에 남깁니다. 지시와 패딩은 -100입니다. 정답을 한 칸 밀지 마세요.")
def test_only_the_answer_is_learnt(submission):
    row, labels = submission.mask_prompt([5, 6], [7], 2, 6, 0)
    assert list(row) == [5, 6, 7, 2, 0, 0]
    assert list(labels) == [-100, -100, 7, 2, -100, -100]


@exercise("mask_prompt", hint="패딩을 값으로 찾지 말고 자리로 가리세요. pad_id와 end_id가 같으면 진짜 끝 토큰까지 가려집니다.")
def test_the_end_is_learnt_even_where_padding_looks_like_it(submission):
    row, labels = submission.mask_prompt([5], [7, 8], 2, 6, 2)
    assert list(row) == [5, 7, 8, 2, 2, 2]
    assert list(labels) == [-100, 7, 8, 2, -100, -100]


@exercise("mask_prompt", hint="지시에 답과 같은 토큰이 있어도 지시는 배우지 않습니다. 길이로 가리세요.")
def test_equal_tokens_in_the_prompt_are_hidden(submission):
    assert list(submission.mask_prompt([7, 2, 7], [7], 2, 5, 0)[1]) == [-100, -100, -100, 7, 2]


@exercise("mask_prompt", hint="넘치면 뒤를 잘라 줄과 정답의 길이를 모두 max_length로 맞추세요.")
def test_long_rows_are_cut(submission):
    row, labels = submission.mask_prompt([5, 6], [7, 8, 9], 2, 4, 0)
    assert list(row) == [5, 6, 7, 8]
    assert list(labels) == [-100, -100, 7, 8]
    row, labels = submission.mask_prompt([5, 6, 3], [7], 2, 2, 0)
    assert list(row) == [5, 6] and list(labels) == [-100, -100]


# --- pool_last ------------------------------------------------------------------------------------------------

HIDDEN = torch.arange(24.0).view(2, 4, 3)  # 글 b, 자리 t의 벡터는 [12b + 3t, +1, +2]


@exercise("pool_last", hint="hidden[:, -1]은 패딩의 벡터입니다. 글마다 마지막 True의 자리를 찾으세요.")
def test_padding_on_the_right_is_skipped(submission):
    mask = tensor([[True, True, False, False], [True, True, True, True]])
    assert_close(submission.pool_last(HIDDEN, mask), [[3.0, 4.0, 5.0], [21.0, 22.0, 23.0]])


@exercise("pool_last", hint="왼쪽에 패딩이 있으면 '길이 - 1'은 마지막 자리가 아닙니다. True의 개수가 아니라 자리를 보세요.")
def test_padding_on_the_left_is_no_matter(submission):
    mask = tensor([[False, False, True, True], [False, True, True, False]])
    assert_close(submission.pool_last(HIDDEN, mask), [[9.0, 10.0, 11.0], [18.0, 19.0, 20.0]])


@exercise("pool_last", hint="토큰이 하나도 없는 글에는 마지막 토큰이 없습니다. ValueError를 내세요.")
def test_a_text_without_tokens_is_refused(submission):
    assert_close(submission.pool_last(HIDDEN[:1], tensor([[True, False, False, False]])), [[0.0, 1.0, 2.0]])
    with pytest.raises(ValueError):
        submission.pool_last(HIDDEN, tensor([[True, False, False, False], [False] * 4]))


# --- macro_f1 -------------------------------------------------------------------------------------------------


@exercise("macro_f1", hint="부류마다 2·TP / (2·TP + FP + FN)을 구해 부류의 수로 나눕니다.")
def test_the_mean_over_classes(submission):
    # 부류 0: TP 2, FP 1, FN 1 → 4/6.  부류 1: TP 1, FP 1, FN 1 → 2/4.
    assert submission.macro_f1([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], 2) == pytest.approx((2 / 3 + 1 / 2) / 2)


@exercise("macro_f1", hint="부류의 크기로 무게를 두지 마세요. 한 부류만 답하는 모델은 정확도가 90 %여도 매크로 F1이 절반을 넘지 못합니다.")
def test_rare_classes_weigh_as_much(submission):
    # 부류 0: TP 9, FP 1 → 18/19.  부류 1: 0.
    assert submission.macro_f1([0] * 9 + [1], [0] * 10, 2) == pytest.approx(9 / 19)


@exercise("macro_f1", hint="어디에도 나오지 않는 부류는 0 ÷ 0이 아니라 0이고, 그래도 부류의 수에 듭니다.")
def test_a_class_that_is_nowhere_counts_as_zero(submission):
    assert submission.macro_f1([0, 1], [0, 1], 4) == pytest.approx(0.5)
    # 부류 2는 예측에만: 0.  부류 0: 2/2, 부류 1: TP 1, FN 1 → 2/3.
    assert submission.macro_f1([0, 1, 1], [0, 1, 2], 3) == pytest.approx((1 + 2 / 3) / 3)


# --- calibration_error ----------------------------------------------------------------------------------------


@exercise("calibration_error", hint="칸마다 |평균 확신 - 정확도|를 구하고, 칸에 든 예의 수로 무게를 두어 평균하세요.")
def test_bins_weigh_by_their_examples(submission):
    # 칸 [0.5, 1]: 확신 0.9, 0.9, 0.6의 평균 0.8, 정확도 1/3.  칸 [0, 0.5): 확신 0.4, 정확도 1.
    got = submission.calibration_error([0.9, 0.9, 0.6, 0.4], [True, False, False, True], 2)
    assert got == pytest.approx(3 / 4 * (0.8 - 1 / 3) + 1 / 4 * 0.6)


@exercise("calibration_error", hint="차이의 절댓값은 예마다가 아니라 칸마다 구합니다. 확신 0.75로 넷 가운데 셋을 맞히면 잘 맞는 것입니다.")
def test_it_is_the_gap_of_the_bin_and_not_of_each_example(submission):
    assert submission.calibration_error([0.75] * 4, [True, True, True, False], 10) == pytest.approx(0.0)
    assert submission.calibration_error([0.75] * 4, [True, False, False, False], 10) == pytest.approx(0.5)


@exercise("calibration_error", hint="서로 다른 칸의 어긋남은 지워지지 않습니다. 칸이 하나면 지워집니다. 칸의 경계도 살펴보세요.")
def test_gaps_of_different_bins_do_not_cancel(submission):
    sure, right = [0.9, 0.1], [False, True]
    assert submission.calibration_error(sure, right, 10) == pytest.approx(0.9)
    assert submission.calibration_error(sure, right, 1) == pytest.approx(0.0)
    # 0.5는 둘째 칸입니다: |0.5 + 0.75 - 1| / 2와 |0.25 - 0|을 예의 수로.
    assert submission.calibration_error([0.5, 0.75, 0.25], [True, False, False], 2) == pytest.approx((0.25 + 0.25) / 3)


@exercise("calibration_error", hint="확신이 꼭 1인 예는 마지막 칸에 듭니다. 번호가 칸의 수를 넘거나 예를 빠뜨리지 마세요.")
def test_full_confidence_is_in_the_last_bin(submission):
    assert submission.calibration_error([1.0, 1.0, 0.9, 0.0], [True, False, True, False], 5) == pytest.approx(0.9 / 4)


# --- LoRALinear -----------------------------------------------------------------------------------------------

W = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def adapted(submission, alpha=4.0):
    """랭크 2, 손으로 넣은 A와 B: B A = [[1, 2, 0], [0, 0, 3]]."""
    layer = submission.LoRALinear(W.clone(), 2, alpha)
    with torch.no_grad():
        layer.A.copy_(tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]))
        layer.B.copy_(tensor([[1.0, 0.0], [0.0, 3.0]]))
    return layer


@exercise("LoRALinear", hint="B는 0으로 시작해서 처음 출력이 x Wᵀ와 같아야 합니다. 그러나 A까지 0이면 기울기가 영영 0입니다.")
def test_it_begins_as_the_frozen_layer_and_can_learn(submission):
    layer = submission.LoRALinear(W.clone(), 2, 8.0)
    x = tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]])
    y = layer.forward(x)
    assert_close(y.detach(), [[[1.0, 4.0], [5.0, 11.0]]])
    assert layer.A.shape == (2, 3) and layer.B.shape == (2, 2)
    y.sum().backward()
    assert layer.B.grad is not None and layer.B.grad.abs().sum() > 0


@exercise("LoRALinear", hint="더하는 것에 alpha / r을 곱합니다. alpha = 4, r = 2이면 2배입니다.")
def test_the_change_counts_alpha_over_rank(submission):
    x = tensor([[1.0, 1.0, 1.0]])
    # x Wᵀ = (6, 15), B A x = (3, 3).
    assert_close(adapted(submission).forward(x).detach(), [[12.0, 21.0]])
    assert_close(adapted(submission, alpha=1.0).forward(x).detach(), [[7.5, 16.5]])


@exercise("LoRALinear", hint="합친 행렬은 W + (alpha / r) B A이고, 그것을 곱한 결과가 forward와 같아야 합니다. 받은 W는 그대로 두세요.")
def test_merging_gives_the_same_in_one_matrix(submission):
    layer = adapted(submission)
    assert_close(layer.merged_weight().detach(), [[3.0, 6.0, 3.0], [4.0, 5.0, 12.0]])
    x = tensor([[1.0, -1.0, 2.0]])
    assert_close(layer.forward(x).detach(), [[3.0, 23.0]])  # 합친 뒤에도 forward는 어댑터를 한 번만 더합니다
    assert_close(layer.merged_weight().detach(), [[3.0, 6.0, 3.0], [4.0, 5.0, 12.0]])


@exercise("LoRALinear", hint="배우는 것은 A와 B뿐입니다. 받은 weight가 기울기를 원하더라도 흐르지 않게 끊으세요(detach).")
def test_only_the_thin_matrices_learn(submission):
    weight = W.clone().requires_grad_()
    layer = submission.LoRALinear(weight, 1, 1.0)
    layer.forward(torch.ones(1, 3)).sum().backward()
    assert weight.grad is None
    assert layer.A.requires_grad and layer.B.requires_grad and layer.A.is_leaf and layer.B.is_leaf
    # B가 0이므로 A의 첫 기울기는 0이고, B의 기울기는 A x입니다.
    assert_close(layer.B.grad, layer.A.detach().sum().expand(2, 1))


@exercise("LoRALinear", hint="랭크는 1 이상, 행렬의 짧은 변 이하입니다. 아니면 ValueError입니다.")
def test_ranks_that_cannot_be_are_refused(submission):
    assert submission.LoRALinear(W.clone(), 2, 1.0).A.shape == (2, 3)
    for rank in (0, 3):
        with pytest.raises(ValueError):
            submission.LoRALinear(W.clone(), rank, 1.0)


# --- dora_weight ----------------------------------------------------------------------------------------------


@exercise("dora_weight", hint="행(나가는 성분)마다 길이를 잽니다. dim=1입니다. (3, 4)의 길이는 5이므로 m = 10이면 (6, 8)입니다.")
def test_every_row_gets_its_length(submission):
    weight = tensor([[3.0, 4.0], [0.0, -2.0]])
    got = submission.dora_weight(weight, torch.zeros(1, 2), torch.zeros(2, 1), 1.0, tensor([10.0, 3.0]))
    assert_close(got, [[6.0, 8.0], [0.0, -3.0]])


@exercise("dora_weight", hint="길이는 W가 아니라 V = W + scale · B A의 것입니다. 방향을 바꾼 뒤의 길이로 나누세요.")
def test_the_direction_is_changed_before_the_length_is_taken(submission):
    # V = (0, 4) + 0.5·(6, 0) = (3, 4).
    got = submission.dora_weight(tensor([[0.0, 4.0]]), tensor([[3.0, 0.0]]), tensor([[2.0]]), 0.5, tensor([10.0]))
    assert_close(got, [[6.0, 8.0]])


@exercise("dora_weight", hint="|V|를 detach하세요. 그러면 V로 흐르는 기울기는 m / |V|배일 뿐입니다. m과 B, A에는 기울기가 흘러야 합니다.")
def test_the_length_is_a_constant_to_the_gradient(submission):
    A, B = tensor([[1.0, 0.0]], requires_grad=True), tensor([[0.0]], requires_grad=True)
    magnitude = tensor([10.0], requires_grad=True)
    submission.dora_weight(tensor([[3.0, 4.0]]), A, B, 1.0, magnitude).sum().backward()
    assert_close(B.grad, [[2.0]])  # m / |V| · (1, 1)·(1, 0)
    assert_close(magnitude.grad, [7 / 5])  # (3 + 4) / 5


# --- quantize_blocks ------------------------------------------------------------------------------------------

TABLE = tensor([-1.0, -0.5, 0.0, 0.2, 1.0])


@exercise("quantize_blocks", hint="가장 큰 **절댓값**으로 나누고, 표에서 가장 가까운 수를 고르세요. 음수가 더 클 수도 있습니다.")
def test_the_nearest_number_of_the_table(submission):
    # 10으로 나누면 -1, 0.55, 0.15, -0.3, 0.65.
    codes, largest = submission.quantize_blocks(tensor([-10.0, 5.5, 1.5, -3.0, 6.5]), TABLE, 8)
    assert codes.tolist() == [0, 3, 3, 1, 4]
    assert_close(largest, [10.0])


@exercise("quantize_blocks", hint="묶음마다 가장 큰 절댓값이 따로입니다. 튀는 수 하나가 다른 묶음을 망치지 않게 하는 것이 묶음의 뜻입니다.")
def test_every_block_has_its_own_scale(submission):
    codes, largest = submission.quantize_blocks(tensor([1.0, -0.5, 1000.0, 190.0, 2.0]), TABLE, 2)
    assert codes.tolist() == [4, 1, 4, 3, 4]
    assert_close(largest, [1.0, 1000.0, 2.0])


@exercise("quantize_blocks", hint="모두 0인 묶음에서 0 ÷ 0을 하지 마세요. 번호는 0을 나타내는 것이어야 합니다.")
def test_a_block_of_zeros(submission):
    codes, largest = submission.quantize_blocks(tensor([0.0, 0.0, 3.0, 0.0]), TABLE, 2)
    assert codes.tolist()[2:] == [4, 2]
    assert (TABLE[codes[:2]] * largest[0]).tolist() == [0.0, 0.0]
    assert codes.tolist()[:2] == [2, 2]


# --- restore_blocks -------------------------------------------------------------------------------------------


@exercise("restore_blocks", hint="먼저 것이 위쪽 네 비트입니다: 바이트 >> 4, 그다음 바이트 & 15.")
def test_the_first_code_is_in_the_upper_half(submission):
    # 0x31, 0x42 → 3, 1, 4, 2.
    assert_close(submission.restore_blocks(tensor([0x31, 0x42], dtype=torch.uint8), tensor([1.0]), TABLE, 4, 4), [0.2, -0.5, 1.0, 0.0])


@exercise("restore_blocks", hint="블록 b의 수에는 largest[b]를 곱합니다. 블록의 경계가 바이트 가운데에 올 수도 있습니다.")
def test_every_block_is_scaled_by_its_own(submission):
    got = submission.restore_blocks(tensor([0x44, 0x40, 0x11], dtype=torch.uint8), tensor([2.0, 10.0]), TABLE, 3, 6)
    assert_close(got, [2.0, 2.0, 2.0, -10.0, -5.0, -5.0])


@exercise("restore_blocks", hint="수의 개수가 홀수이면 마지막 바이트의 아래쪽은 채우려고 넣은 것이니 버리세요. 마지막 묶음은 짧을 수 있습니다.")
def test_odd_counts_and_short_blocks(submission):
    got = submission.restore_blocks(tensor([0x40, 0x10], dtype=torch.uint8), tensor([3.0, 8.0]), TABLE, 2, 3)
    assert_close(got, [3.0, -3.0, -4.0])


@exercise("restore_blocks", uses=("quantize_blocks",), hint="표가 촘촘하면 되살린 수는 처음의 수와 가까워야 합니다. 표의 간격 절반을 넘게 틀리면 안 됩니다.")
def test_there_and_back(submission):
    torch.manual_seed(0)
    table = torch.linspace(-1, 1, 16)
    values = torch.randn(37)
    codes, largest = submission.quantize_blocks(values, table, 8)
    padded = torch.cat((codes, torch.zeros(1, dtype=codes.dtype))).to(torch.uint8)
    back = submission.restore_blocks(padded[0::2] << 4 | padded[1::2], largest, table, 8, 37)
    assert back.shape == (37,)
    assert ((back - values).abs() <= largest.repeat_interleave(8)[:37] / 15 + 1e-5).all()
