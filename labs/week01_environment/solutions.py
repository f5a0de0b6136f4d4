"""1주차 연습 문제의 풀이."""

from __future__ import annotations

import math
from collections.abc import Callable

BITS = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8, "int4": 4}


def weight_bytes(n_parameters: int, dtype: str) -> int:
    if dtype not in BITS:
        raise ValueError(f"모르는 형식 {dtype!r}: {', '.join(BITS)} 가운데 하나여야 합니다")
    return -(-n_parameters * BITS[dtype] // 8)  # 비트를 모두 더한 다음 바이트로 올림


def next_token(logits: list[float], temperature: float, u: float) -> int:
    if temperature < 0:
        raise ValueError(f"온도는 0 이상이어야 합니다: {temperature}")
    if temperature == 0:
        return max(range(len(logits)), key=lambda i: logits[i])  # 같은 값이면 max는 앞의 것을 준다
    # 가장 큰 값을 먼저 빼도 확률은 같다(분자와 분모에 같은 수를 곱한 셈). 빼지 않으면 e^1000에서 넘친다.
    largest = max(logits)
    scores = [math.exp((z - largest) / temperature) for z in logits]
    total, cumulative = sum(scores), 0.0
    for i, score in enumerate(scores):
        cumulative += score / total
        if cumulative > u:
            return i
    return len(logits) - 1  # 반올림으로 합이 1에 조금 못 미칠 때


def bits_per_byte(loss: float, n_tokens: int, n_bytes: int) -> float:
    nats = loss * n_tokens  # 글 전체의 손실
    bits = nats / math.log(2)  # 1비트는 ln 2 nat
    return bits / n_bytes


def parameter_count(
    vocab_size: int, n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, head_dim: int, d_ff: int, tied: bool
) -> int:
    embedding = vocab_size * d_model
    query = d_model * n_heads * head_dim
    key_value = 2 * d_model * n_kv_heads * head_dim  # 키와 밸류
    output = n_heads * head_dim * d_model
    feed_forward = 3 * d_model * d_ff  # 게이트, 업, 다운
    norms = 2 * d_model
    block = query + key_value + output + feed_forward + norms
    head = 0 if tied else vocab_size * d_model
    return embedding + n_layers * block + d_model + head  # 마지막 정규화가 d_model


def kv_cache_bytes(n_layers: int, n_kv_heads: int, head_dim: int, n_tokens: int, n_rows: int = 1, bytes_per_number: int = 2) -> int:
    numbers_per_token = 2 * n_layers * n_kv_heads * head_dim  # 키와 밸류
    return numbers_per_token * n_tokens * n_rows * bytes_per_number


def training_days(n_parameters: float, n_tokens: float, peak_flops: float, mfu: float, n_devices: int = 1) -> float:
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu는 0보다 크고 1 이하여야 합니다: {mfu}")
    flops = 6 * n_parameters * n_tokens
    seconds = flops / (peak_flops * mfu * n_devices)
    return seconds / 86_400


def concurrent_users(
    memory_bytes: float, n_parameters: int, dtype: str, n_layers: int, n_kv_heads: int, head_dim: int, n_tokens: int, reserve: float = 0.1
) -> int:
    free = memory_bytes * (1 - reserve) - weight_bytes(n_parameters, dtype)
    per_user = kv_cache_bytes(n_layers, n_kv_heads, head_dim, n_tokens)
    return max(0, int(free // per_user))


def generate_greedy(
    next_logits: Callable[[list[int]], list[float]], prompt: list[int], max_new_tokens: int, eos_id: int, context_length: int
) -> list[int]:
    tokens, new = list(prompt), []  # 베껴 두어야 받은 목록이 그대로 남는다
    while len(new) < max_new_tokens:
        logits = next_logits(tokens[-context_length:])
        best = max(range(len(logits)), key=lambda i: logits[i])
        tokens.append(best)
        new.append(best)
        if best == eos_id:
            break
    return new
