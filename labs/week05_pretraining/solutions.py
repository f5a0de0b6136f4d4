"""5주차 연습 문제의 풀이."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

#: 손실에서 빼는 자리의 정답.
IGNORE = -100


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """교차 엔트로피."""
    kept = targets != IGNORE
    logits, targets = logits[kept], targets[kept]
    # ln p = 로짓 - ln Σ e^로짓. logsumexp는 가장 큰 로짓을 빼고 셈하므로 넘치지 않습니다.
    log_p = logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(dim=-1)
    return -log_p.mean()


def bits_per_byte(nats_per_token: float, n_tokens: int, n_bytes: int) -> float:
    """토큰당 손실을 원문 1바이트당 비트로 바꿉니다."""
    return nats_per_token * n_tokens / math.log(2) / n_bytes


def learning_rate(step: int, *, peak: float, floor: float, warmup_steps: int, steps: int) -> float:
    """워밍업이 있는 코사인 일정."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min(1.0, (step + 1 - warmup_steps) / (steps - warmup_steps))
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


def clip_gradients(gradients: Sequence[Tensor], max_norm: float) -> tuple[list[Tensor], float]:
    """기울기 전체의 길이를 자릅니다."""
    norm = math.sqrt(sum(float(gradient.pow(2).sum()) for gradient in gradients))
    # 텐서마다 따로 자르면 방향이 바뀝니다. 모두에 같은 수를 곱합니다.
    scale = max_norm / norm if norm > max_norm else 1.0
    return [gradient * scale for gradient in gradients], norm


def token_probabilities(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """다음 토큰을 뽑을 확률."""
    if temperature == 0:
        return torch.zeros_like(logits).scatter(0, logits.argmax(dim=0, keepdim=True), 1.0)
    ordered, order = (logits / temperature).sort(descending=True)
    if top_k is not None:
        ordered, order = ordered[:top_k], order[:top_k]
    p = ordered.softmax(dim=0)
    if top_p is not None:
        # 자기 **앞**까지의 합이 이미 p 이상이면 뺍니다. 그래서 p를 넘게 한 토큰은 남습니다.
        p = p.masked_fill(p.cumsum(0) - p >= top_p, 0.0)
        p = p / p.sum()
    return torch.zeros_like(logits).scatter(0, order, p)


def pack_windows(documents: Sequence[Sequence[int]], length: int, end_id: int, pad_id: int) -> tuple[Tensor, Tensor]:
    """문서들을 한 줄로 이어 창으로 자릅니다."""
    line = [token for document in documents for token in (*document, end_id)]
    inputs, targets = [], []
    # 창은 length칸씩 나아가지만 조각은 한 토큰 더 깁니다. 창의 마지막 정답이 다음 창의 첫 입력입니다.
    for start in range(0, len(line) - 1, length):
        piece = line[start : start + length + 1]
        missing = length + 1 - len(piece)
        inputs.append(piece[:-1] + [pad_id] * missing)
        targets.append(piece[1:] + [IGNORE] * missing)
    return torch.tensor(inputs), torch.tensor(targets)


def accumulate_gradients(
    parameters: Sequence[Tensor], micro_batches: Sequence[Any], loss_sum: Callable[[Any], tuple[Tensor, int]]
) -> float:
    """배치 하나를 작은 묶음으로 나누어 계산합니다."""
    for parameter in parameters:
        parameter.grad = None
    total, count = 0.0, 0
    for batch in micro_batches:
        loss, n_targets = loss_sum(batch)
        loss.backward()  # 합의 기울기가 .grad에 더해지고, 이 묶음의 활성값은 여기서 풀려납니다.
        total += loss.item()
        count += n_targets
    # 평균들의 평균이 아니라 모든 자리의 평균이므로, 나누는 일은 다 더한 다음에 한 번만 합니다.
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad /= count
    return total / count


class AdamW:
    """AdamW."""

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.m = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.v = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.t = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """한 걸음."""
        self.t += 1
        beta1, beta2 = self.betas
        for w, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
            w -= self.lr * self.weight_decay * w
            m += (1 - beta1) * (g - m)
            v += (1 - beta2) * (g * g - v)
            # m과 v는 0에서 시작해 처음에는 너무 작습니다. 1 - β^t로 나누면 바로잡힙니다.
            mean, square = m / (1 - beta1**self.t), v / (1 - beta2**self.t)
            w -= self.lr * mean / (square.sqrt() + self.eps)
