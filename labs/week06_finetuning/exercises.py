"""6주차 연습 문제: 미세 조정과 PEFT를 손으로.

함수마다 `raise NotImplementedError`를 지우고 채우세요. 위에서 아래로 갈수록 어렵고, 뒤의 문제가 앞의 답을 쓰기도 합니다.

    make week6-check                     # 모두 채점
    make week6-check EX=LoRALinear       # 하나만 채점
    make week6-solution EX=LoRALinear    # 한 번이라도 채점받은 문제의 풀이

`torch`의 기본 연산만 쓰면 됩니다. `peft`, `bitsandbytes`, `sklearn.metrics`처럼 답을 통째로 주는 것과 `scratch_llm`은 부르지 마세요.
배우는 것은 여러분입니다.

모양을 적는 글자: B 배치, T 토큰 수, D 벡터의 너비, r 랭크, n 수의 개수.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

#: 손실에서 빼는 자리의 정답.
IGNORE = -100


def mask_prompt(
    prompt: Sequence[int], answer: Sequence[int], end_id: int, max_length: int, pad_id: int
) -> tuple[list[int], list[int]]:
    """지시와 답을 이어 학습할 줄을 만들고, **답과 끝 토큰만** 배우게 정답을 가립니다.

    - 줄은 `prompt + answer + [end_id]`이고, 넘치면 뒤를 자르고 모자라면 뒤를 `pad_id`로 채워 꼭 `max_length`로 만듭니다.
    - 정답은 줄과 같은 자리에 적습니다(한 칸 미는 일은 모델이 합니다). 지시와 패딩 자리는 `IGNORE`입니다.
    - `pad_id`와 `end_id`가 같을 수도 있습니다. 그래도 진짜 끝 토큰은 배워야 합니다. 그래야 모델이 말을 멈출 줄 압니다.

    반환:
        (줄, 정답), 둘 다 길이 `max_length`.

    예:
        mask_prompt([5, 6], [7], 2, 6, 0) == ([5, 6, 7, 2, 0, 0], [-100, -100, 7, 2, -100, -100])
    """
    raise NotImplementedError


def pool_last(hidden: Tensor, mask: Tensor) -> Tensor:
    """글마다 **마지막 진짜 토큰**의 벡터를 꺼냅니다. 인과 모델에서 글 전체를 본 것은 그 토큰뿐입니다.

    패딩은 오른쪽에 있을 수도, 왼쪽에 있을 수도 있습니다.

    매개변수:
        hidden: (B, T, D).
        mask: (B, T), bool. 진짜 토큰이면 True.

    반환:
        (B, D).

    예외:
        ValueError: 진짜 토큰이 하나도 없는 글이 있을 때.
    """
    raise NotImplementedError


def macro_f1(truth: Sequence[int], predicted: Sequence[int], n_classes: int) -> float:
    """매크로 F1: 부류마다 F1을 셈해 고르게 평균한 것. 드문 부류도 흔한 부류와 무게가 같습니다.

    부류 하나의 F1은 2·TP / (2·TP + FP + FN)입니다. 정답에도 예측에도 없는 부류는 0 ÷ 0인데, 0으로 칩니다.

    매개변수:
        truth, predicted: 0부터 `n_classes - 1`까지의 부류. 길이가 같습니다.
    """
    raise NotImplementedError


def calibration_error(confidence: Sequence[float], correct: Sequence[bool], n_bins: int) -> float:
    """기대 보정 오차(ECE): 모델이 말한 확신과 실제 정확도가 얼마나 어긋나는지.

    0과 1 사이를 `n_bins`개의 같은 칸으로 나눕니다. k번째 칸은 k / n_bins 이상, (k + 1) / n_bins 미만이고, 확신이 꼭 1이면 마지막
    칸입니다. 칸마다 |평균 확신 - 정확도|를 구해, 칸에 든 **예의 수**로 무게를 두어 평균합니다. 빈 칸은 셈에 들지 않습니다.

    매개변수:
        confidence: 고른 부류의 확률. 0과 1 사이. 하나 이상.
        correct: 맞았는지.
    """
    raise NotImplementedError


class LoRALinear:
    """얼린 행렬 W 옆의 LoRA: `y = x Wᵀ + (alpha / r) · x Aᵀ Bᵀ`.

    Attributes:
        A: (r, in), 배웁니다. 무작위로 시작합니다.
        B: (out, r), 배웁니다. 0으로 시작하므로 처음에는 원래 모델과 똑같습니다.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        """`weight`는 (out, in)이고 배우지 않습니다. 랭크가 1과 min(out, in) 사이가 아니면 ValueError입니다."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out). A와 B에만 기울기가 흐릅니다."""
        raise NotImplementedError

    def merged_weight(self) -> Tensor:
        """(out, in): 어댑터를 더한 행렬 하나. 이것만 있으면 추론이 조금도 느려지지 않습니다. 받은 `weight`는 고치지 않습니다."""
        raise NotImplementedError


def dora_weight(weight: Tensor, A: Tensor, B: Tensor, scale: float, magnitude: Tensor) -> Tensor:
    """DoRA: 행마다 **방향**은 LoRA로, **길이**는 따로 배웁니다(Liu 외, 2024).

        V = W + scale · B A,        W' = m · V / |V|        (|V|는 행마다의 길이)

    논문 4.3절대로, 기울기를 구할 때 |V|는 상수로 봅니다. 배우는 데 드는 메모리가 크게 줄고 결과는 거의 같습니다.

    매개변수:
        weight: (out, in), 얼린 W.
        A: (r, in). B: (out, r). magnitude: (out,), 행마다의 길이 m.

    반환:
        (out, in).
    """
    raise NotImplementedError


def quantize_blocks(values: Tensor, table: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """블록 양자화: `block_size`개씩 묶어, 묶음에서 가장 큰 절댓값으로 나눈 다음 표에서 가장 가까운 수의 번호를 적습니다.

    nf4는 표가 정규 분포의 분위수 16개인 경우입니다. 시험에는 작은 표가 나옵니다.

    매개변수:
        values: (n,), float32.
        table: 오름차순, -1부터 1까지. 꼭 한가운데에 놓이는 값은 시험에 나오지 않습니다.
        block_size: n이 나누어떨어지지 않으면 마지막 묶음이 짧습니다.

    반환:
        번호 (n,) int64와 묶음마다의 가장 큰 절댓값 (묶음의 수,). 모두 0인 묶음은 0으로 되살아나야 합니다(`nan`이 나오면 안 됩니다).
    """
    raise NotImplementedError


def restore_blocks(packed: Tensor, largest: Tensor, table: Tensor, block_size: int, n: int) -> Tensor:
    """4비트 번호를 바이트에서 꺼내어 수로 되살립니다.

    바이트 하나에 번호가 둘 들어 있고, **먼저 것이 위쪽 네 비트**입니다. n이 홀수이면 마지막 바이트의 아래쪽은 버립니다.

    매개변수:
        packed: (ceil(n / 2),), uint8.
        largest: 묶음마다의 가장 큰 절댓값.
        table: 번호 → 수, 16개까지.
        n: 수의 개수.

    반환:
        (n,): 표의 수에 그 묶음의 가장 큰 절댓값을 곱한 것.

    예:
        바이트 0x31은 3번과 1번입니다.
    """
    raise NotImplementedError
