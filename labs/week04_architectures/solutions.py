"""4주차 연습 문제의 풀이."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """RMSNorm: `x / sqrt(mean(x²) + eps) * weight`."""
    wide = x.float()
    mean_square = wide.pow(2).mean(dim=-1, keepdim=True)
    # eps가 제곱근 안에 있어야 x가 모두 0일 때의 기울기도 얌전합니다.
    return (wide / (mean_square + eps).sqrt() * weight.float()).to(x.dtype)


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = True) -> Tensor:
    """어텐션 하나: `softmax(q kᵀ / √d + 마스크) v`."""
    scores = q @ k.T / math.sqrt(q.shape[-1])
    if causal:
        # 대각선을 S - T칸 오른쪽으로 밀면 쿼리가 키의 마지막 T자리에 놓입니다.
        future = torch.ones_like(scores, dtype=torch.bool).triu(len(k) - len(q) + 1)
        # 소프트맥스 앞에서 -∞로 가립니다. 뒤에서 0을 곱하고 다시 나누면 0 ÷ 0이 될 수 있습니다.
        scores = scores.masked_fill(future, -math.inf)
    return scores.softmax(dim=-1) @ v


def multi_head_attention(x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor, n_heads: int) -> Tensor:
    """미래를 가린 멀티헤드 셀프 어텐션."""
    n_tokens, width = x.shape
    if width % n_heads:
        raise ValueError(f"너비 {width}은(는) 머리 {n_heads}개로 나누어떨어지지 않습니다")

    def split(projected: Tensor) -> Tensor:
        # (T, D) → (T, H, d) → (H, T, d). 곧바로 (H, T, d)로 보면 토큰과 머리가 뒤섞입니다.
        return projected.view(n_tokens, n_heads, width // n_heads).transpose(0, 1)

    heads = zip(split(x @ w_q.T), split(x @ w_k.T), split(x @ w_v.T), strict=True)
    context = torch.cat([attention(q, k, v) for q, k, v in heads], dim=-1)
    return context @ w_o.T


def apply_rope(x: Tensor, positions: Tensor, theta: float = 10_000.0) -> Tensor:
    """RoPE: 성분을 둘씩 짝지어, 위치에 비례하는 각도로 돌립니다."""
    width = x.shape[-1]
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = positions[:, None] * frequencies  # (T, d/2)
    # 각도는 float64로 셈합니다. 위치가 10만쯤 되면 float32의 각도는 소수점 셋째 자리에서 틀립니다.
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


class CachedHead:
    """KV 캐시가 있는 어텐션 머리 하나."""

    def __init__(self) -> None:
        self._k: Tensor | None = None
        self._v: Tensor | None = None

    def step(self, x: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> Tensor:
        """새 토큰들의 출력을 냅니다."""
        k, v = x @ w_k.T, x @ w_v.T
        # 쿼리는 적어 두지 않습니다. 지나간 토큰의 쿼리는 다시 쓰이지 않습니다.
        self._k = k if self._k is None else torch.cat((self._k, k))
        self._v = v if self._v is None else torch.cat((self._v, v))
        return attention(x @ w_q.T, self._k, self._v)


class Router:
    """전문가 혼합의 라우터."""

    def __init__(self, n_experts: int, top_k: int) -> None:
        self.top_k = top_k
        self.bias = torch.zeros(n_experts)

    def route(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """토큰마다 `점수 + 편향`이 가장 큰 전문가 k명을 고릅니다."""
        experts = (scores + self.bias).topk(self.top_k, dim=-1).indices
        # 편향은 순서만 바꿉니다. 무게에 들어가면 출력이 달라지고 기울기도 흔들립니다.
        weights = scores.gather(-1, experts)
        return experts, weights / weights.sum(dim=-1, keepdim=True)

    def rebalance(self, experts: Tensor, rate: float) -> None:
        """고른 횟수를 보고 편향을 고칩니다."""
        # minlength가 없으면 한 번도 불리지 않은 뒷번호 전문가가 빠집니다.
        loads = torch.bincount(experts.flatten(), minlength=len(self.bias)).float()
        self.bias += rate * torch.sign(loads.mean() - loads)


def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mamba의 선택적 스캔."""
    h = torch.zeros_like(A) if state is None else state
    outputs = []
    for x_t, delta_t, B_t, C_t in zip(x, delta, B, C, strict=True):
        decay = torch.exp(delta_t[:, None] * A)  # (D, N), 0과 1 사이
        h = decay * h + (delta_t * x_t)[:, None] * B_t
        outputs.append(h @ C_t + D * x_t)
    return torch.stack(outputs), h


def wkv(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
    """RWKV-4의 WKV."""
    a, b = torch.zeros_like(decay), torch.zeros_like(decay)
    m = torch.full_like(decay, -math.inf)  # 아직 아무 항도 없습니다.
    outputs = []
    for k_t, v_t in zip(k, v, strict=True):
        # 지금 토큰까지 넣은 몫. 두 항 가운데 큰 지수로 나누면 모든 거듭제곱이 1 이하입니다.
        top = torch.maximum(m, bonus + k_t)
        past, now = torch.exp(m - top), torch.exp(bonus + k_t - top)
        outputs.append((past * a + now * v_t) / (past * b + now))
        # 다음 토큰을 위한 상태. 지나간 것은 w만큼 흐려지고, 지금 것은 보너스 없이 들어갑니다.
        top = torch.maximum(m - decay, k_t)
        past, now = torch.exp(m - decay - top), torch.exp(k_t - top)
        a, b, m = past * a + now * v_t, past * b + now, top
    return torch.stack(outputs)
