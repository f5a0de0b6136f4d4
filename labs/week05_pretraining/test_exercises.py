"""5주차 연습 문제의 채점. 기댓값은 정의에서 손으로 셈한 것입니다."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor

from llm_workshop.learning.grading import assert_close, exercise

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)

# --- cross_entropy --------------------------------------------------------------------------------------------


@exercise("cross_entropy", hint="확률은 소프트맥스, 손실은 -ln p의 평균입니다. 로그의 밑은 2가 아니라 e입니다.")
def test_the_mean_of_minus_log_p(submission):
    # 로짓 0과 ln 3: 확률은 1/4과 3/4.
    logits = tensor([[0.0, LN3], [0.0, LN3], [0.0, LN3]])
    assert_close(submission.cross_entropy(logits, tensor([0, 1, 1])), (math.log(4) + 2 * math.log(4 / 3)) / 3)
    assert_close(submission.cross_entropy(torch.full((5, 4096), 7.0), torch.arange(5)), math.log(4096))


@exercise("cross_entropy", hint="정답이 -100인 자리는 합에서도, 나누는 수에서도 빼세요.")
def test_ignored_places_count_nowhere(submission):
    logits = tensor([[0.0, LN3], [5.0, -9.0], [0.0, LN3]])
    assert_close(submission.cross_entropy(logits, tensor([0, -100, -100])), LN4)
    assert_close(submission.cross_entropy(logits, tensor([0, -100, 1])), (LN4 + math.log(4 / 3)) / 2)


@exercise("cross_entropy", hint="e^1000은 무한대입니다. 가장 큰 로짓을 빼거나 logsumexp를 쓰고, 확률을 구한 뒤 로그를 씌우지 마세요.")
def test_large_logits_do_not_overflow(submission):
    assert_close(submission.cross_entropy(tensor([[1000.0, 1000.0 + LN3]]), tensor([0])), LN4, 1e-3)
    assert_close(submission.cross_entropy(tensor([[0.0, 500.0]]), tensor([0])), 500.0)


@exercise("cross_entropy", hint="기울기가 흘러야 합니다. .item()이나 numpy를 거치지 마세요. 기울기는 (확률 - 정답의 1) / 자리의 수입니다.")
def test_the_gradient_is_probability_minus_one_hot(submission):
    logits = tensor([[0.0, LN3], [0.0, 0.0]], requires_grad=True)
    submission.cross_entropy(logits, tensor([1, 0])).backward()
    assert_close(logits.grad, [[0.25 / 2, -0.25 / 2], [-0.5 / 2, 0.5 / 2]])


# --- bits_per_byte --------------------------------------------------------------------------------------------


@exercise("bits_per_byte", hint="전체 내트는 손실 × 토큰 수입니다. ln 2로 나누면 비트, 바이트 수로 나누면 바이트당 비트입니다.")
def test_nats_become_bits_and_tokens_become_bytes(submission):
    # 토큰마다 4비트, 토큰 둘, 8바이트: 1비트/바이트.
    assert submission.bits_per_byte(4 * LN2, 2, 8) == pytest.approx(1.0)
    assert submission.bits_per_byte(LN2, 30, 90) == pytest.approx(1 / 3)


@exercise("bits_per_byte", hint="토큰이 길어져 수가 절반이 되면 토큰당 손실이 두 배여도 비트/바이트는 같습니다.")
def test_another_tokenizer_does_not_matter(submission):
    assert submission.bits_per_byte(2.0, 100, 400) == pytest.approx(submission.bits_per_byte(4.0, 50, 400)) == pytest.approx(0.5 / LN2)
    # 아무 바이트나 고르게 찍는 모델은 바이트당 8비트입니다.
    assert submission.bits_per_byte(math.log(256), 77, 77) == pytest.approx(8.0)


# --- learning_rate --------------------------------------------------------------------------------------------

PLAN = {"peak": 1.0, "floor": 0.1, "warmup_steps": 4, "steps": 14}


@exercise("learning_rate", hint="첫 걸음은 0이 아니라 peak / warmup_steps이고, warmup_steps - 1번째 걸음이 꼭 peak입니다.")
def test_the_warm_up_rises_evenly(submission):
    assert [submission.learning_rate(step, **PLAN) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


@exercise("learning_rate", hint="floor + (peak - floor) · (1 + cos(π · 진행)) / 2입니다. 진행은 워밍업이 끝난 뒤부터 셉니다.")
def test_then_half_a_cosine(submission):
    # 진행 1/2에서 한가운데 0.55, 1/5에서 (1 + cos 36°) / 2, 1에서 바닥.
    assert submission.learning_rate(8, **PLAN) == pytest.approx(0.55)
    assert submission.learning_rate(5, **PLAN) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 5)) / 2)
    assert submission.learning_rate(13, **PLAN) == pytest.approx(0.1)


@exercise("learning_rate", hint="마지막 걸음 뒤에는 바닥에 머뭅니다. 코사인을 계속 따라가면 다시 올라갑니다.")
def test_it_stays_at_the_floor(submission):
    assert submission.learning_rate(14, **PLAN) == pytest.approx(0.1)
    assert submission.learning_rate(23, **PLAN) == pytest.approx(0.1)
    assert submission.learning_rate(0, **PLAN) == pytest.approx(0.25)


@exercise("learning_rate", hint="워밍업이 0걸음일 수도 있습니다. 0으로 나누지 마세요.")
def test_without_a_warm_up(submission):
    plan = {"peak": 2.0, "floor": 0.0, "warmup_steps": 0, "steps": 2}
    assert [submission.learning_rate(step, **plan) for step in (0, 1)] == pytest.approx([1.0, 0.0])


# --- clip_gradients -------------------------------------------------------------------------------------------


@exercise("clip_gradients", hint="모든 텐서를 이어 붙인 벡터의 길이입니다. 텐서마다 따로 자르지 마세요.")
def test_all_gradients_are_one_vector(submission):
    clipped, norm = submission.clip_gradients([tensor([3.0]), tensor([[4.0]])], 1.0)
    assert_close(clipped[0], [0.6])
    assert_close(clipped[1], [[0.8]])
    assert float(norm) == pytest.approx(5.0)
    clipped, norm = submission.clip_gradients([tensor([[1.0, 1.0], [1.0, 1.0]]), tensor([0.0, 0.0])], 1.0)
    assert_close(clipped[0], [[0.5, 0.5], [0.5, 0.5]])
    assert_close(clipped[1], [0.0, 0.0])
    assert float(norm) == pytest.approx(2.0)


@exercise("clip_gradients", hint="길이가 max_norm보다 작으면 그대로 둡니다. 늘리지 마세요.")
def test_short_gradients_stay(submission):
    clipped, norm = submission.clip_gradients([tensor([0.3]), tensor([0.4])], 1.0)
    assert_close(torch.cat(clipped), [0.3, 0.4])
    assert float(norm) == pytest.approx(0.5)


@exercise("clip_gradients", hint="받은 기울기를 제자리에서 고치지 말고, 기울기가 모두 0이어도 0으로 나누지 마세요.")
def test_the_given_gradients_stay_and_zeros_are_fine(submission):
    gradient = tensor([30.0, 40.0])
    clipped, _ = submission.clip_gradients([gradient], 5.0)
    assert_close(clipped[0], [3.0, 4.0])
    assert_close(gradient, [30.0, 40.0])
    clipped, norm = submission.clip_gradients([torch.zeros(3)], 1.0)
    assert_close(clipped[0], [0.0, 0.0, 0.0])
    assert float(norm) == 0.0


# --- token_probabilities --------------------------------------------------------------------------------------


def logits_of(*probabilities: float) -> torch.Tensor:
    return tensor(probabilities).log()


@exercise("token_probabilities", hint="로짓을 온도로 **나눕니다**. 온도가 1/2이면 확률의 제곱에 비례합니다. 0이면 가장 큰 토큰 하나입니다.")
def test_temperature_sharpens(submission):
    # 제곱하면 9 : 1 : 4, 합은 14.
    logits = logits_of(3 / 6, 1 / 6, 2 / 6)
    assert_close(submission.token_probabilities(logits, temperature=0.5), [9 / 14, 1 / 14, 4 / 14])
    assert_close(submission.token_probabilities(logits), [3 / 6, 1 / 6, 2 / 6])
    assert_close(submission.token_probabilities(logits, temperature=0.0), [1.0, 0.0, 0.0])


@exercise("token_probabilities", hint="가장 그럴듯한 k개만 남기고 다시 합이 1이 되게 하세요. 결과는 어휘의 차례 그대로입니다.")
def test_top_k_keeps_the_likeliest(submission):
    assert_close(submission.token_probabilities(logits_of(0.1, 0.4, 0.2, 0.3), top_k=2), [0.0, 4 / 7, 0.0, 3 / 7])
    assert_close(submission.token_probabilities(logits_of(0.1, 0.4, 0.2, 0.3), top_k=9), [0.1, 0.4, 0.2, 0.3])


@exercise("token_probabilities", hint="p를 넘게 한 토큰까지 남깁니다. 0.4 + 0.3 = 0.7이므로 p = 0.6이면 둘이 남습니다.")
def test_top_p_keeps_the_token_that_crosses(submission):
    logits = logits_of(0.1, 0.4, 0.2, 0.3)
    assert_close(submission.token_probabilities(logits, top_p=0.6), [0.0, 4 / 7, 0.0, 3 / 7])
    assert_close(submission.token_probabilities(logits, top_p=0.8), [0.0, 4 / 9, 2 / 9, 3 / 9])
    # 첫 토큰은 p가 아무리 작아도 남습니다.
    assert_close(submission.token_probabilities(logits, top_p=0.01), [0.0, 1.0, 0.0, 0.0])


@exercise("token_probabilities", hint="온도 → top-k → top-p의 차례이고, top-p는 top-k로 남은 것의 확률을 다시 맞춘 다음에 셉니다.")
def test_the_rules_come_in_order(submission):
    # k = 2로 남은 둘은 4/7과 3/7. 4/7 = 0.571 ≥ 0.55이므로 하나만 남습니다.
    assert_close(submission.token_probabilities(logits_of(0.1, 0.4, 0.2, 0.3), top_k=2, top_p=0.55), [0.0, 1.0, 0.0, 0.0])
    # 온도 1/2이면 제곱이 25 : 9 : 4, 합은 38. 25/38 = 0.658 ≥ 0.6. 온도를 나중에 걸면 둘이 남습니다.
    assert_close(submission.token_probabilities(logits_of(0.5, 0.3, 0.2), temperature=0.5, top_p=0.6), [1.0, 0.0, 0.0])


# --- pack_windows ---------------------------------------------------------------------------------------------


@exercise("pack_windows", hint="정답은 입력보다 한 칸 뒤입니다. 창의 마지막 정답은 다음 창의 첫 입력입니다.")
def test_targets_are_the_next_tokens(submission):
    inputs, targets = submission.pack_windows([[1, 2, 3], [4, 5]], 3, 0, 9)
    assert inputs.tolist() == [[1, 2, 3], [0, 4, 5]]
    assert targets.tolist() == [[2, 3, 0], [4, 5, 0]]
    assert inputs.dtype == targets.dtype == torch.int64


@exercise("pack_windows", hint="마지막 창이 모자라면 입력은 pad_id, 정답은 -100으로 채웁니다. 남은 토큰을 버리지 마세요.")
def test_the_last_window_is_filled(submission):
    inputs, targets = submission.pack_windows([[1, 2, 3], [4, 5]], 4, 0, 9)
    assert inputs.tolist() == [[1, 2, 3, 0], [4, 5, 9, 9]]
    assert targets.tolist() == [[2, 3, 0, 4], [5, 0, -100, -100]]


@exercise("pack_windows", hint="첫 토큰을 뺀 모든 토큰이 꼭 한 번 정답이어야 합니다. 창의 경계에 있는 토큰을 세어 보세요.")
@pytest.mark.parametrize("length", [1, 2, 3, 5, 6, 7, 50])
def test_every_token_is_a_target_once(submission, length):
    documents = [[1, 2, 3], [], [4], [5, 6, 7, 8]]
    inputs, targets = submission.pack_windows(documents, length, 0, 9)
    line = [1, 2, 3, 0, 0, 4, 0, 5, 6, 7, 8, 0]
    assert inputs.shape == targets.shape == (-(-11 // length), length)
    assert [t for t in targets.flatten().tolist() if t != -100] == line[1:]
    assert inputs.flatten().tolist()[:11] == line[:-1]


# --- accumulate_gradients -------------------------------------------------------------------------------------


@exercise("accumulate_gradients", hint="묶음마다 평균을 내어 평균하지 마세요. 합을 모두 더하고 자리의 수를 모두 더해 한 번만 나눕니다.")
def test_unequal_batches_weigh_by_their_targets(submission):
    w = tensor(2.0, requires_grad=True)
    # 손실의 합은 2·(1 + 2 + 3)과 2·6, 자리는 3과 1. 평균 24 / 4, 기울기 12 / 4.
    loss = submission.accumulate_gradients([w], [tensor([1.0, 2.0, 3.0]), tensor([6.0])], lambda x: ((w * x).sum(), len(x)))
    assert float(loss) == pytest.approx(6.0)
    assert_close(w.grad, 3.0)


@exercise("accumulate_gradients", hint="전에 남아 있던 .grad를 먼저 지우세요. backward()는 덮어쓰지 않고 더합니다.")
def test_old_gradients_are_forgotten(submission):
    w, unused = tensor([1.0, 1.0], requires_grad=True), tensor(1.0, requires_grad=True)
    w.grad = tensor([100.0, 100.0])
    for _ in range(2):
        submission.accumulate_gradients([w, unused], [tensor([1.0, 4.0]), tensor([3.0, 0.0])], lambda x: ((w * x).sum(), 1))
        assert_close(w.grad, [2.0, 2.0])
    assert unused.grad is None or float(unused.grad) == 0


@exercise("accumulate_gradients", hint="손실을 모두 모아 마지막에 backward() 하지 마세요. 그러면 모든 묶음의 활성값을 한꺼번에 들고 있게 됩니다.")
def test_each_batch_goes_back_before_the_next_begins(submission):
    w = tensor(1.0, requires_grad=True)
    seen = []

    def loss_sum(x):
        seen.append(0.0 if w.grad is None else float(w.grad))
        return w * x, 1

    submission.accumulate_gradients([w], [5.0, 7.0, 9.0], loss_sum)
    assert len(seen) == 3 and seen[0] == 0.0 and 0 < seen[1] < seen[2], "앞 묶음의 기울기가 아직 없습니다"
    assert_close(w.grad, 7.0)


# --- AdamW ----------------------------------------------------------------------------------------------------


def after(submission, gradients, start=1.0, **settings):
    w = tensor([start])
    optimizer = submission.AdamW([w], **settings)
    for gradient in gradients:
        optimizer.step([tensor([gradient])])
    return w


@exercise("AdamW", hint="첫 걸음에서는 m' = g, √v' = |g|이므로 크기와 상관없이 꼭 lr만큼 갑니다. 1 - β^t로 나누었나요?")
def test_the_first_step_has_the_length_of_the_rate(submission):
    assert_close(after(submission, [0.5], lr=0.1), [0.9])
    assert_close(after(submission, [-800.0], lr=0.1), [1.1])


@exercise("AdamW", hint="m은 β1로, v는 β2로 흐립니다. v는 기울기의 **제곱**의 평균이고, 나눌 때 제곱근을 씌웁니다.")
def test_two_steps_by_hand(submission):
    # β = (1/2, 3/4), g = 1, 3.  m = 1/2 → 1/4 + 3/2 = 7/4, m' = 7/3.  v = 1/4 → 3/16 + 9/4 = 39/16, v' = 39/7.
    second = (7 / 3) / math.sqrt(39 / 7)
    assert_close(after(submission, [1.0, 3.0], start=0.0, lr=1.0, betas=(0.5, 0.75)), [-1.0 - second])


@exercise("AdamW", hint="가중치 감쇠는 기울기에 더하지 않고 가중치에 바로 겁니다: w ← w - lr·λ·w. 기울기가 0이어도 줄어듭니다.")
def test_decay_is_apart_from_the_gradient(submission):
    assert_close(after(submission, [0.0], start=10.0, lr=0.1, weight_decay=0.5), [9.5])
    assert_close(after(submission, [2.0], start=10.0, lr=0.1, weight_decay=0.5), [9.4])


@exercise("AdamW", hint="ε은 제곱근 **밖**에 더합니다. g = 1, ε = 3이면 1 / (1 + 3)입니다.")
def test_eps_stands_outside_of_the_root(submission):
    assert_close(after(submission, [1.0], start=0.0, lr=1.0, eps=3.0), [-0.25])


@exercise("AdamW", hint="m과 v는 파라미터마다 따로입니다. 걸음 수 t는 step()을 부를 때 한 번만 올립니다. 받은 텐서를 제자리에서 고치세요.")
def test_every_parameter_has_its_own_state(submission):
    a, b = tensor([[0.0, 0.0]], requires_grad=True), tensor([5.0])
    kept = tensor([3.0])
    optimizer = submission.AdamW([a, b], lr=1.0, betas=(0.5, 0.75))
    optimizer.step([tensor([[1.0, -1.0]]), tensor([0.0])])
    optimizer.step([tensor([[3.0, -3.0]]), kept])
    second = (7 / 3) / math.sqrt(39 / 7)
    assert_close(a.detach(), [[-1.0 - second, 1.0 + second]])
    # b: m = 3/2, m' = 2.  v = 9/4, v' = 36/7.
    assert_close(b, [5.0 - 2 / math.sqrt(36 / 7)])
    assert_close(kept, [3.0])
