"""2주차 연습 문제의 풀이. 먼저 풀어 보고 보세요: `make week2-solution EX=이름`이 한 문제씩 보여 줍니다."""

from __future__ import annotations

import re
import unicodedata
from itertools import combinations

import numpy as np

# 보이지 않는 글자: 폭 없는 공백과 이음 글자, 낱말 이음, 바이트 순서 표시, 숨은 붙임표
INVISIBLE = dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD))


def normalize_text(text: str) -> str:
    # 지우기가 먼저: 자모 사이에 낀 글자가 있으면 NFC가 두 자모를 합치지 못한다.
    return unicodedata.normalize("NFC", text.translate(INVISIBLE))


def hangul_ratio(text: str) -> float:
    characters = [c for c in text if not c.isspace()]
    if not characters:
        return 0.0
    return sum("가" <= c <= "힣" for c in characters) / len(characters)


def squeeze_repeats(text: str, keep: int = 3) -> str:
    if keep < 1:
        raise ValueError(f"keep={keep}: 1 이상이어야 합니다")
    # 줄일 글자 하나를 묶고(\1), 바로 그 글자가 keep번 이상 더 이어지는 곳을 찾는다.
    return re.sub(rf"([\u3131-\u3163!?~.])\1{{{keep},}}", lambda match: match[1] * keep, text)


def is_resident_number(number: str) -> bool:
    if not re.fullmatch(r"[0-9]{6}-?[0-9]{7}", number):
        return False
    digits = [int(c) for c in number if c != "-"]
    month, day = digits[2] * 10 + digits[3], digits[4] * 10 + digits[5]
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return False
    weights = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)
    total = sum(weight * digit for weight, digit in zip(weights, digits[:12]))
    return (11 - total % 11) % 10 == digits[12]


def jaccard(first: str, second: str, size: int = 3) -> float:
    def shingles(text: str) -> set[str]:
        return {text[i : i + size] for i in range(max(1, len(text) - size + 1))}

    a, b = shingles(first), shingles(second)
    return len(a & b) / len(a | b)


def minhash(values: np.ndarray, a: np.ndarray, b: np.ndarray, prime: int) -> np.ndarray:
    # [k, 1] * [1, n] -> [k, n]. 2**31 미만 두 수의 곱은 2**62 미만이라 int64를 넘지 않는다.
    table = (a[:, None] * values[None, :] + b[:, None]) % prime
    return table.min(axis=1)


def candidate_pairs(signatures: np.ndarray, bands: int) -> set[tuple[int, int]]:
    n, k = signatures.shape
    if bands < 1 or k % bands:
        raise ValueError(f"bands={bands}: 서명의 길이 {k}를 나누어떨어지게 해야 합니다")
    rows = k // bands
    found = set()
    for band in range(bands):
        # 띠마다 사전이 따로다: 자리가 다른 띠끼리 만나면 안 된다.
        buckets: dict[tuple, list[int]] = {}
        for i in range(n):
            key = tuple(signatures[i, band * rows : (band + 1) * rows].tolist())
            buckets.setdefault(key, []).append(i)
        for members in buckets.values():
            found.update(combinations(members, 2))
    return found


def clusters(n: int, pairs: list[tuple[int, int]]) -> list[list[int]]:
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]  # 길을 반으로 줄이며 올라간다
            i = parent[i]
        return i

    for i, j in pairs:
        a, b = root(i), root(j)
        parent[max(a, b)] = min(a, b)  # 작은 번호가 뿌리가 된다
    groups: dict[int, list[int]] = {}
    for i in range(n):
        groups.setdefault(root(i), []).append(i)
    return [members for members in groups.values() if len(members) > 1]
