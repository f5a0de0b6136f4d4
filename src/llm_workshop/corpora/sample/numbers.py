"""Korean numbers: native with counters (세 마리), Sino-Korean (삼십 분), mixed money (1만 5천 원)."""

from __future__ import annotations

_ONES = ["", "하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉"]
_ONES_BEFORE_COUNTER = ["", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉"]
_TENS = ["", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔"]
_DIGITS = ["", "일", "이", "삼", "사", "오", "육", "칠", "팔", "구"]
_SMALL_UNITS = ["", "십", "백", "천"]
_LARGE_UNITS = ["", "만", "억", "조"]

# Counters that take native numbers up to 99; every other counter takes Sino-Korean ones.
NATIVE_COUNTERS = frozenset(
    "명 사람 분 마리 개 살 시 시간 번 잔 병 그릇 권 장 대 벌 켤레 송이 그루 채 통 봉지 조각 줄 달 가지 군데 곳 척 자루 "
    "숟가락 큰술 작은술 컵 접시 판 모 단 포기 알 쪽 톨 다발 짝 쌍 방울 모금 끼 걸음 바퀴 차례 배 돌 상자 봉 주먹 줌 집 "
    "편 곡 통화 마디 가닥 토막 묶음 스푼 손 판 입 바구니 냄비 팀 학급 가족 해 고개 칸 뭉치 발 벌 차례 층짜리 꼬치 정거장 번째".split()
)
# 분 counts people with native numbers (세 분) and minutes with Sino ones: ask for "분(시간)" for minutes.


def _check(number: int, low: int, high: int, what: str) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise ValueError(f"{what} goes from {low} to {high}, got {number!r}")


def native(number: int) -> str:
    """1..99 in native Korean: 하나, 열둘, 스물."""
    _check(number, 1, 99, "a native Korean number")
    return _TENS[number // 10] + _ONES[number % 10]


def native_modifier(number: int) -> str:
    """1..99 as they stand before a counter: 한, 열두, 스무, 스물한."""
    _check(number, 1, 99, "a native Korean number")
    return "스무" if number == 20 else _TENS[number // 10] + _ONES_BEFORE_COUNTER[number % 10]


def _sino_group(number: int) -> str:
    parts = []
    for place in (3, 2, 1, 0):
        digit = number // 10**place % 10
        if digit:
            parts.append(("" if digit == 1 and place else _DIGITS[digit]) + _SMALL_UNITS[place])
    return "".join(parts)


def sino(number: int) -> str:
    """0..10^16-1 in Sino-Korean, spaced by 만: 12345 -> "만 이천삼백사십오"."""
    _check(number, 0, 10**16 - 1, "a Sino-Korean number")
    if number == 0:
        return "영"
    groups = []
    for place in (3, 2, 1, 0):
        group = number // 10000**place % 10000
        if group:
            # 만 is read without 일 when it leads (만 오천), 억 and 조 keep it (일억).
            bare = group == 1 and place == 1 and not groups
            groups.append(("" if bare else _sino_group(group)) + _LARGE_UNITS[place])
    return " ".join(groups)


def counter(number: int, unit: str) -> str:
    """A number in words with its counter: 세 마리, 스무 살, 삼십 분 (``"분(시간)"``), 이천 원.

    Native numbers up to 99 for native counters, Sino-Korean otherwise. 유월 and 시월 for months.
    """
    if unit == "월":
        _check(number, 1, 12, "a month")
        return {6: "유월", 10: "시월"}.get(number, sino(number) + "월")
    if unit == "분(시간)":
        return f"{sino(number)} 분"
    if unit in NATIVE_COUNTERS and 1 <= number <= 99:
        return f"{native_modifier(number)} {unit}"
    if unit in ("달", "장", "대") and number > 99:
        return f"{sino(number)} {unit}"
    return f"{sino(number)} {unit}"


def amount(number: int, unit: str) -> str:
    """A number in digits with its unit as written in prose: 3시, 30분, 250g, 12명 (no space, as most Koreans write)."""
    return f"{number:,}{unit}"


def money(won: int) -> str:
    """Won as a newspaper writes it: 2천 원, 1만 5천 원, 3,450원, 12만 원."""
    _check(won, 0, 10**16 - 1, "an amount of won")
    if won < 1000 or won % 1000:
        return f"{won:,}원"
    ten_thousands, rest = divmod(won, 10000)
    if ten_thousands >= 10000:
        hundred_millions, ten_thousands = divmod(ten_thousands, 10000)
        head = f"{hundred_millions:,}억" + (f" {ten_thousands:,}만" if ten_thousands else "")
    else:
        head = f"{ten_thousands:,}만" if ten_thousands else ""
    tail = f"{rest // 1000}천" if rest else ""
    return " ".join(part for part in (head, tail) if part) + " 원"


def spell_won(won: int) -> str:
    """Won in words: 15000 -> "만 오천 원"."""
    return f"{sino(won)} 원"
