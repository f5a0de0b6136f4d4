"""5주차 연습 문제: 학습 루프를 손으로.

함수마다 `raise NotImplementedError`를 지우고 채우세요. 위에서 아래로 갈수록 어렵습니다.

    make week5-check                     # 모두 채점
    make week5-check EX=cross_entropy    # 하나만 채점
    make week5-solution EX=cross_entropy # 한 번이라도 채점받은 문제의 풀이

`torch`의 기본 연산만 쓰면 됩니다. `F.cross_entropy`, `torch.optim`, `clip_grad_norm_`처럼 답을 통째로 주는 것과 `scratch_llm`은
부르지 마세요. 배우는 것은 여러분입니다.

모양을 적는 글자: N 자리의 수, V 어휘의 크기.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

#: 손실에서 빼는 자리의 정답.
IGNORE = -100


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """교차 엔트로피: 정답 토큰에 준 확률 p의 -ln p를, 빼지 않은 자리에서 평균한 값.

    확률은 로짓의 소프트맥스입니다. 로짓이 1,000이어도 넘치면 안 되고, 기울기가 흘러야 합니다.

    매개변수:
        logits: (N, V).
        targets: (N,), 정답 토큰의 번호. `IGNORE`(-100)인 자리는 분자에도 분모에도 넣지 않습니다.

    반환:
        수 하나(모양 ()), 단위는 내트.

    예:
        모든 로짓이 같으면 ln V입니다.
    """
    raise NotImplementedError


def bits_per_byte(nats_per_token: float, n_tokens: int, n_bytes: int) -> float:
    """토큰당 손실을 원문 1바이트당 비트로 바꿉니다. 토크나이저가 다른 모델끼리 견줄 수 있습니다.

    매개변수:
        nats_per_token: 토큰 하나의 평균 손실(내트). 1비트는 ln 2내트입니다.
        n_tokens: 평균을 낸 토큰의 수.
        n_bytes: 그 토큰들이 나타내는 원문의 UTF-8 바이트 수.
    """
    raise NotImplementedError


def learning_rate(step: int, *, peak: float, floor: float, warmup_steps: int, steps: int) -> float:
    """워밍업이 있는 코사인 일정에서 `step`번째 걸음(0부터)의 학습률.

    - 워밍업: 첫 걸음에 `peak / warmup_steps`, 그 뒤로 고르게 올라 `warmup_steps - 1`번째 걸음에 꼭 `peak`입니다.
      첫 걸음이 0이면 그 배치를 버리는 셈이므로 0에서 시작하지 않습니다.
    - 코사인: 그다음 반 바퀴의 코사인을 따라 내려, 마지막 걸음 `steps - 1`에 꼭 `floor`입니다. 그 뒤에도 `floor`입니다.

    힌트: 워밍업 뒤의 진행을 0과 1 사이의 수 `(step + 1 - warmup_steps) / (steps - warmup_steps)`로 적어 보세요.
    """
    raise NotImplementedError


def clip_gradients(gradients: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], float]:
    """기울기 전체를 벡터 하나로 보고, 그 길이가 `max_norm`을 넘으면 방향은 그대로 두고 길이만 줄입니다.

    매개변수:
        gradients: 파라미터마다의 기울기. 모양은 저마다 다릅니다. 받은 텐서는 고치지 않습니다.
        max_norm: 0보다 큰 수.

    반환:
        새 기울기들(넘지 않으면 값이 그대로)과, 자르기 **전**의 길이.

    예:
        clip_gradients([tensor([3.]), tensor([4.])], 1.0) == ([tensor([0.6]), tensor([0.8])], 5.0)
    """
    raise NotImplementedError


def token_probabilities(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """다음 토큰을 뽑을 확률. 온도, top-k, top-p를 이 차례로 겁니다.

    1. 로짓을 온도로 나눕니다. 온도가 0이면 가장 큰 토큰의 확률이 1이고 나머지는 0입니다.
    2. top-k: 가장 그럴듯한 k개만 남깁니다.
    3. top-p: 남은 것들의 확률을 **다시 합이 1이 되게** 한 다음, 큰 것부터 더해 합이 처음으로 p 이상이 되는 데까지 남깁니다.
       p를 넘게 한 그 토큰도 남습니다. 그래서 적어도 하나는 남습니다.

    매개변수:
        logits: (V,). 확률이 똑같은 토큰은 시험에 나오지 않습니다.
        top_k, top_p: None이면 걸지 않습니다.

    반환:
        (V,), 어휘의 차례대로. 합은 1이고 뺀 토큰은 0입니다.
    """
    raise NotImplementedError


def pack_windows(documents: Sequence[Sequence[int]], length: int, end_id: int, pad_id: int) -> tuple[Tensor, Tensor]:
    """문서들을 한 줄로 이어 창으로 자릅니다. 정답은 한 칸 뒤의 토큰입니다.

    - 문서마다 뒤에 `end_id`를 붙여 차례로 잇습니다.
    - 이은 줄을 `length`토큰마다 자릅니다. 첫 토큰을 뺀 모든 토큰이 **꼭 한 번** 정답이 되어야 합니다. 창과 창 사이의 토큰도요.
    - 마지막 창이 모자라면 입력은 `pad_id`로, 정답은 `IGNORE`로 채웁니다. 패딩만 있는 창은 만들지 않습니다.

    매개변수:
        documents: 토큰 번호의 줄들. 모두 이으면 2토큰 이상입니다.

    반환:
        입력과 정답, 둘 다 (창의 수, length), int64.

    예:
        문서 [[1, 2, 3], [4, 5]], length 4, end_id 0, pad_id 9
        입력 [[1, 2, 3, 0], [4, 5, 9, 9]], 정답 [[2, 3, 0, 4], [5, 0, -100, -100]]
    """
    raise NotImplementedError


def accumulate_gradients(
    parameters: Sequence[Tensor], micro_batches: Sequence[Any], loss_sum: Callable[[Any], tuple[Tensor, int]]
) -> float:
    """배치 하나를 작은 묶음으로 나누어 계산하고, 한꺼번에 계산한 것과 같은 기울기를 `.grad`에 남깁니다.

    묶음마다 정답이 있는 자리의 수가 다를 수 있습니다(패딩, 마스크). 그래도 결과는 **모든 자리의 평균** 손실의 기울기여야 합니다.

    메모리를 아끼는 것이 목적이므로, 한 묶음의 `backward()`를 끝내 `.grad`에 더한 다음에 다음 묶음을 계산합니다. 전에 남아 있던 `.grad`는
    지우고 시작합니다.

    매개변수:
        parameters: 배우는 텐서들. 손실에 쓰이지 않은 것의 `.grad`는 None이어도 됩니다.
        micro_batches: 묶음들.
        loss_sum: 묶음을 주면 (손실의 **합**, 정답이 있는 자리의 수)를 줍니다. 묶음마다 한 번만 부르세요.

    반환:
        모든 자리의 평균 손실.
    """
    raise NotImplementedError


class AdamW:
    """AdamW(Loshchilov & Hutter, 2019). 파라미터마다 기울기의 이동 평균 m과 제곱의 이동 평균 v를 둡니다.

        w ← w - lr · λ · w                     가중치 감쇠: 기울기에 섞지 않고 가중치에 바로
        m ← β1 m + (1 - β1) g
        v ← β2 v + (1 - β2) g²
        w ← w - lr · m' / (√v' + ε)            m' = m / (1 - β1^t), v' = v / (1 - β2^t), t = 1, 2, …
    """

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        raise NotImplementedError

    def step(self, gradients: Sequence[Tensor]) -> None:
        """한 걸음: 받아 둔 파라미터들을 **제자리에서** 고칩니다. 기울기는 파라미터와 같은 차례이고, 고치지 않습니다.

        힌트: `requires_grad`인 텐서를 제자리에서 고치려면 `torch.no_grad()` 안에서 하세요.
        """
        raise NotImplementedError
