"""3주차 연습 문제의 풀이."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise


def count_pairs(ids: list[int]) -> dict[tuple[int, int], int]:
    """이웃한 두 토큰의 쌍이 몇 번씩 나오는지 셉니다."""
    # zip(ids, ids[1:])과 같습니다. 한 칸 민 자기 자신과 묶으면 이웃한 쌍이 차례로 나옵니다.
    counts: dict[tuple[int, int], int] = {}
    for pair in pairwise(ids):
        counts[pair] = counts.get(pair, 0) + 1
    return counts


def merge(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """`pair`가 나오는 자리를 모두 `new_id` 하나로 바꾼 새 목록을 만듭니다."""
    merged = []
    place = 0
    while place < len(ids):
        if tuple(ids[place : place + 2]) == pair:
            merged.append(new_id)
            place += 2  # 합친 둘을 모두 지나가야 [1, 1, 1]에서 가운데 1을 두 번 쓰지 않습니다.
        else:
            merged.append(ids[place])
            place += 1
    return merged


def train_bpe(words: dict[str, int], n_merges: int) -> list[tuple[int, int]]:
    """바이트 BPE의 병합을 배웁니다."""
    # 같은 낱말은 한 번만 다루고 횟수를 곱합니다. 말뭉치를 통째로 훑는 것보다 훨씬 빠릅니다.
    pieces = [(list(word.encode()), times) for word, times in words.items()]
    merges: list[tuple[int, int]] = []
    for rank in range(n_merges):
        counts: Counter[tuple[int, int]] = Counter()
        for ids, times in pieces:
            for pair, number in count_pairs(ids).items():
                counts[pair] += number * times
        # 횟수가 큰 것이 먼저, 같으면 번호의 쌍이 작은 것이 먼저입니다.
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        merges.append(best)
        pieces = [(merge(ids, best, 256 + rank), times) for ids, times in pieces]
    return merges


def encode(text: str, merges: list[tuple[int, int]]) -> list[int]:
    """배운 병합으로 글을 부호화합니다."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    ids = list(text.encode())
    while True:
        # 지금 글에서 몇 번 나오는지는 상관없습니다. 먼저 배운 것이 먼저입니다.
        known = [pair for pair in pairwise(ids) if pair in ranks]
        if not known:
            return ids
        best = min(known, key=lambda pair: ranks[pair])
        ids = merge(ids, best, 256 + ranks[best])


def decode_with_fallback(tokens: list[str]) -> str:
    """SentencePiece 꼴의 조각을 글로 되돌립니다."""
    data = b""
    for token in tokens:
        byte = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token)
        data += bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()
    # 바이트를 모두 이은 다음에 한 번만 풉니다. 토큰마다 풀면 글자의 조각이 저마다 �가 됩니다.
    return data.decode("utf-8", errors="replace")


# 둘째 바이트가 80–BF보다 좁은 첫 바이트와 그 범위(RFC 3629): 너무 길게 적은 글자, 서로게이트, U+10FFFF보다 큰 번호를 막습니다.
SECOND_BYTES = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}


class Utf8Stream:
    """토큰의 바이트를 하나씩 받아, 다 모인 글자만 내보냅니다."""

    def __init__(self) -> None:
        self._waiting = b""

    def push(self, data: bytes) -> str:
        """바이트를 더 받고, 이제 보여 줄 수 있는 글자들을 돌려줍니다."""
        data = self._waiting + data
        unfinished = self._unfinished(data)
        self._waiting = data[len(data) - unfinished :]
        return data[: len(data) - unfinished].decode("utf-8", errors="replace")

    def finish(self) -> str:
        """남은 바이트를 내보냅니다."""
        rest = "\ufffd" if self._waiting else ""
        self._waiting = b""
        return rest

    @staticmethod
    def _unfinished(data: bytes) -> int:
        """끝에 있는, 더 와야 글자가 되는 바이트의 수(0–3)."""
        for length in (1, 2, 3):
            first = data[len(data) - length] if length <= len(data) else 0
            if first & 0b1100_0000 == 0b1000_0000:
                continue  # 이어지는 바이트(10…)이니 첫 바이트를 찾아 더 앞으로 갑니다.
            if 0xC2 <= first <= 0xF4:  # UTF-8에서 여러 바이트 글자를 시작할 수 있는 값
                needed = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
                low, high = SECOND_BYTES.get(first, (0x80, 0xBF))
                if length > 1 and not low <= data[len(data) - length + 1] <= high:
                    return 0  # 셋째 바이트가 와도 글자가 되지 못합니다.
                return length if length < needed else 0
            return 0
        return 0


def wordpiece(word: str, vocabulary: set[str]) -> list[str]:
    """WordPiece로 낱말 하나를 나눕니다."""
    pieces = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        # 가장 긴 것부터 해 보고, 처음 맞는 것에서 멈춥니다.
        for end in range(len(word), start, -1):
            if prefix + word[start:end] in vocabulary:
                pieces.append(prefix + word[start:end])
                start = end
                break
        else:
            return ["[UNK]"]
    return pieces


def viterbi(text: str, scores: dict[str, float]) -> list[str]:
    """Unigram으로 글을 나눕니다."""
    longest = max(map(len, scores), default=0)
    best = [0.0] + [-math.inf] * len(text)
    came_from = [0] * (len(text) + 1)
    for end in range(1, len(text) + 1):
        # 가장 긴 조각보다 멀리서 올 수는 없으니 거기까지만 봅니다.
        for start in range(max(0, end - longest), end):
            score = best[start] + scores.get(text[start:end], -math.inf)
            if score > best[end]:
                best[end], came_from[end] = score, start
    if best[-1] == -math.inf:
        raise ValueError(f"{text!r}을(를) 나눌 조각이 없습니다")
    # 끝에서부터, 온 길을 거꾸로 되짚습니다.
    pieces = []
    end = len(text)
    while end > 0:
        pieces.append(text[came_from[end] : end])
        end = came_from[end]
    return pieces[::-1]
