"""The training loop's lines in the labs' language."""

import pytest

from llm_workshop.progress import korean_line
from scratch_llm.training.progress import eval_line, step_line

RECORD = {"step": 7, "loss": 4.5, "learning_rate": 1e-3, "grad_norm": 0.8, "tokens_per_second": 5812.0, "mfu": 0.54,
          "valid_loss": 4.25, "bits_per_byte": 1.5}


def test_steps_and_evaluations():
    assert korean_line(step_line(RECORD, 100, 75)) == "스텝   7/100  손실 4.5000  학습률 1.00e-03  기울기 0.80  5,812 토큰/초  MFU 54%  남은 시간 1:15"
    assert korean_line(step_line(RECORD | {"step": 100}, 100, None)).endswith("남은 시간 –")
    assert korean_line(eval_line(RECORD)) == "  검증 손실 4.2500  1.5000 비트/바이트"
    averaged = RECORD | {"ema_valid_loss": 4.2}
    assert korean_line(eval_line(averaged)) == "  검증 손실 4.2500  1.5000 비트/바이트  (평균 가중치 4.2000)"


@pytest.mark.parametrize(("line", "korean"), [
    ("resuming after step 40", "스텝 40까지 배운 데서 이어 갑니다"),
    ("precision bfloat16: AVX-512 bfloat16 units", "정밀도 bfloat16: AVX-512의 bfloat16 연산 장치를 씁니다"),
    ("precision bfloat16: as asked", "정밀도 bfloat16: 설정에 따름"),
    ("compile off: too short a run to win it back", "컴파일 안 함: 짧은 학습이라 컴파일하는 시간이 더 깁니다"),
    ("  step 39: the loss  loss of a step", "  스텝 39: the loss  loss of a step"),
    ("step 6: the loss is nan and the gradient norm inf; batch 5 is left out", "스텝 6: 손실 nan, 기울기 inf. 배치 5번을 건너뜁니다"),
    ("step 34: the loss 4.8000 is 5.4 deviations above the median 4.0000 of the last 20 steps; back to step 30, batches 31 to 34 are left out",
     "스텝 34: 손실 4.8000, 최근 20스텝의 중앙값 4.0000보다 편차의 5.4배나 높음. 스텝 30의 체크포인트로 되돌아가 배치 31번부터 34번까지 건너뜁니다"),
    ("step 25: the loss is nan and the gradient norm nan; back to step 24, batches 25 to 25 are left out",
     "스텝 25: 손실 nan, 기울기 nan. 스텝 24의 체크포인트로 되돌아가 배치 25번을 건너뜁니다"),
    ("range test 10/100  lr 1.00e-05  loss 6.9000", "학습률 시험 10/100  학습률 1.00e-05  손실 6.9000"),
    ("Muon: range test 10/100  lr 1.00e-05  loss 6.9000", "Muon: 학습률 시험 10/100  학습률 1.00e-05  손실 6.9000"),
    ("warning: that is more than the 1 MB that are free; pretrain.micro_batch_size=auto takes what fits, pretrain.gradient_checkpointing=true needs less",
     "주의: 비어 있는 메모리 1 MB보다 많습니다. pretrain.micro_batch_size=auto이면 들어가는 만큼만 나누어 계산하고, pretrain.gradient_checkpointing=true이면 덜 씁니다"),
    ("1,656 examples to learn from, 32 held-out questions of 4 tasks", "배울 예 1,656개, 나중에 물을 질문 32개, 과제 4가지"),
    ("closed tasks: 61.5% of 1,000 answers are right, the best constant answers 53.5%", "정답이 정해진 1,000문항: 맞힌 것 61.5%, 가장 좋은 상수 답 53.5%"),
    ("train: 302 of 311 examples, 95 with a shortened prompt, 6 dropped: answer longer than the context of 128, 2 dropped: empty answer, "
     "1 dropped: no turn of the assistant",
     "학습: 예 311개 가운데 302개, 질문을 줄인 것 95개, 뺀 것 6개(답이 문맥 128토큰보다 긺), 뺀 것 2개(빈 답), 뺀 것 1개(답하는 차례가 없음)"),
    ("layout packed: 97% of the positions hold a token, 9% of these are learnt", "담는 법 packed: 자리의 97%가 글로 차고, 그 가운데 9%를 배웁니다"),
    ("a line of another kind", "a line of another kind"),
])
def test_other_lines(line, korean):
    assert korean_line(line) == korean
