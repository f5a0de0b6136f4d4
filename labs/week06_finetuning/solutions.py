"""6주차 연습 문제의 풀이."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: 손실에서 빼는 자리의 정답.
IGNORE = -100


def mask_prompt(
    prompt: Sequence[int], answer: Sequence[int], end_id: int, max_length: int, pad_id: int
) -> tuple[list[int], list[int]]:
    """지시와 답을 이어 학습할 줄을 만들고 정답을 가립니다."""
    row = [*prompt, *answer, end_id][:max_length]
    # 값이 아니라 자리로 가립니다. pad_id와 같은 값을 찾아 가리면 진짜 끝 토큰까지 사라집니다.
    labels = ([IGNORE] * len(prompt) + [*answer, end_id])[:max_length]
    missing = max_length - len(row)
    return row + [pad_id] * missing, labels + [IGNORE] * missing


def pool_last(hidden: Tensor, mask: Tensor) -> Tensor:
    """글마다 마지막 진짜 토큰의 벡터를 꺼냅니다."""
    if not mask.any(dim=1).all():
        raise ValueError("토큰이 하나도 없는 글이 있습니다")
    # 진짜 토큰의 자리 번호 가운데 가장 큰 것. 길이에서 1을 빼면 왼쪽 패딩에서 틀립니다.
    places = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, places, -1).amax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def macro_f1(truth: Sequence[int], predicted: Sequence[int], n_classes: int) -> float:
    """매크로 F1."""
    scores = []
    for kind in range(n_classes):
        hits = sum(t == p == kind for t, p in zip(truth, predicted, strict=True))
        # 2·TP + FP + FN은 정답에 나온 횟수와 예측에 나온 횟수의 합과 같습니다.
        total = sum(t == kind for t in truth) + sum(p == kind for p in predicted)
        scores.append(2 * hits / total if total else 0.0)
    return sum(scores) / n_classes


def calibration_error(confidence: Sequence[float], correct: Sequence[bool], n_bins: int) -> float:
    """기대 보정 오차(ECE)."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(n_bins)]
    for sure, right in zip(confidence, correct, strict=True):
        bins[min(int(sure * n_bins), n_bins - 1)].append((sure, right))
    error = 0.0
    for members in bins:
        # |평균 확신 - 정확도| × 예의 수 = |확신의 합 - 맞은 수|. 빈 칸은 저절로 0입니다.
        error += abs(sum(sure for sure, _ in members) - sum(right for _, right in members))
    return error / len(confidence)


class LoRALinear:
    """얼린 행렬 W 옆의 LoRA."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        out_features, in_features = weight.shape
        if not 1 <= rank <= min(out_features, in_features):
            raise ValueError(f"랭크 {rank}은(는) 1과 {min(out_features, in_features)} 사이여야 합니다")
        self.weight = weight.detach()
        self.scale = alpha / rank
        # 둘 다 0이면 어느 쪽의 기울기도 0이라 영영 배우지 못합니다.
        self.A = (torch.randn(rank, in_features) / in_features**0.5).requires_grad_()
        self.B = torch.zeros(out_features, rank, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) → (..., out)."""
        # 좁은 쪽부터 곱합니다. B @ A를 먼저 만들면 W만 한 행렬이 생깁니다.
        return x @ self.weight.T + self.scale * (x @ self.A.T @ self.B.T)

    def merged_weight(self) -> Tensor:
        """(out, in): 어댑터를 더한 행렬 하나."""
        return self.weight + self.scale * (self.B @ self.A)


def dora_weight(weight: Tensor, A: Tensor, B: Tensor, scale: float, magnitude: Tensor) -> Tensor:
    """DoRA."""
    direction = weight + scale * (B @ A)
    length = direction.norm(dim=1, keepdim=True).detach()  # 기울기에는 상수
    return magnitude[:, None] * direction / length


def quantize_blocks(values: Tensor, table: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """블록 양자화."""
    codes, largest = [], []
    for block in values.split(block_size):
        top = block.abs().max()
        scaled = block / top if top > 0 else block
        codes.append((scaled[:, None] - table).abs().argmin(dim=1))
        largest.append(top)
    return torch.cat(codes), torch.stack(largest)


def restore_blocks(packed: Tensor, largest: Tensor, table: Tensor, block_size: int, n: int) -> Tensor:
    """4비트 번호를 바이트에서 꺼내어 수로 되살립니다."""
    codes = torch.stack((packed >> 4, packed & 0x0F), dim=1).flatten()[:n].long()
    return table[codes] * largest.repeat_interleave(block_size)[:n]
