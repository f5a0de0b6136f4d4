"""Personal data that belongs to nobody, in sentences people really write.

Every number is well-formed (check digits hold, so that validators fire) and lies in a range that is not given out:

- mobile and landline numbers whose exchange starts with 0, which Korea does not assign;
- resident registration numbers of births before 2020 with the place codes 98 and 99, which were never given to an
  office (the place digits were dropped for numbers issued from October 2020 on);
- card numbers of the issuers' documented test prefixes; accounts of banks that do not exist;
- e-mail at the domains of RFC 2606; addresses in invented towns.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from llm_workshop.corpora.sample.korean import particle

_SURNAMES = "김 이 박 최 정 강 조 윤 장 임 한 오 서 신 권 황 안 송 류 홍".split()
_GIVEN = (
    "민준 서연 도윤 하은 지호 수아 예준 지우 현우 다은 준서 채원 건우 소율 태민 나윤 성민 유진 동현 혜린 "
    "영수 미경 정희 상철 은주 재훈 경숙 병호 선영 용식"
).split()
_ACCOUNT_NAMES = "mjkim haneul87 seoyeon.p dy_lee sunny02 blue.sea jihoo mountain77 gam.tree yj1004 kimchi9 rainbow".split()
_DOMAINS = ("example.com", "example.org", "example.net", "mail.example", "example.kr.example")
_BANKS = ("가온은행", "다솜은행", "누리마을금고", "한별은행", "미르저축은행")
_TOWNS = ("가람시", "솔내군", "은하시", "달빛읍", "푸른시 나루구", "한들시 새벌구")
_ROADS = ("느티나무로", "물레방아길", "햇살로", "구름다리길", "은행나무길", "달맞이로")
_WEIGHTS = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)


def resident_check_digit(first_twelve: str) -> int:
    """Check digit of a resident registration number (주민등록법 시행규칙): (11 - weighted sum mod 11) mod 10."""
    total = sum(w * int(d) for w, d in zip(_WEIGHTS, first_twelve, strict=True))
    return (11 - total % 11) % 10


def luhn_check_digit(digits: str) -> int:
    """Luhn check digit (ISO/IEC 7812-1) that completes ``digits``."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if i % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return -total % 10


def _name(rng: random.Random) -> str:
    return rng.choice(_SURNAMES) + rng.choice(_GIVEN)


def _mobile(rng: random.Random) -> str:
    middle, last = f"0{rng.randrange(1000):03d}", f"{rng.randrange(10000):04d}"
    shape = rng.choice(("010-{}-{}", "010-{}-{}", "010-{}-{}", "010{}{}", "010 {} {}", "010.{}.{}", "+82-10-{}-{}"))
    return shape.format(middle, last)


def _landline(rng: random.Random) -> str:
    area = rng.choice(("02", "031", "032", "041", "051", "053", "062", "064"))
    shape = rng.choice(("{}-0{:02d}-{:04d}", "{})0{:02d}-{:04d}"))
    return shape.format(area, rng.randrange(100), rng.randrange(10000))


def _resident(rng: random.Random) -> str:
    year, month, day = rng.randint(1950, 2019), rng.randint(1, 12), rng.randint(1, 28)
    sex = rng.randint(1, 2) + (2 if year >= 2000 else 0)
    digits = f"{year % 100:02d}{month:02d}{day:02d}{sex}{rng.choice(('98', '99'))}{rng.randrange(1000):03d}"
    digits += str(resident_check_digit(digits))
    return digits if rng.random() < 0.15 else f"{digits[:6]}-{digits[6:]}"


def _card(rng: random.Random) -> str:
    digits = rng.choice(("400000", "411111", "555555", "520082")) + f"{rng.randrange(10**9):09d}"
    digits += str(luhn_check_digit(digits))
    return rng.choice(("-", "-", " ", "")).join(digits[i : i + 4] for i in range(0, 16, 4))


def _email(rng: random.Random) -> str:
    number = str(rng.randrange(10, 1000)) if rng.random() < 0.5 else ""
    return f"{rng.choice(_ACCOUNT_NAMES)}{number}@{rng.choice(_DOMAINS)}"


def _account(rng: random.Random) -> str:
    shape = rng.choice(((3, 2, 6), (4, 3, 6), (3, 6, 2, 3), (6, 2, 6)))
    return "-".join(f"{rng.randrange(10**n):0{n}d}" for n in shape)


def _address(rng: random.Random) -> str:
    home = f"{rng.choice(_TOWNS)} {rng.choice(_ROADS)} {rng.randint(1, 190)}"
    if rng.random() < 0.3:
        home += f"번길 {rng.randint(1, 40)}"
    if rng.random() < 0.6:
        home += f", {rng.randint(101, 115)}동 {rng.randint(1, 20)}{rng.randint(1, 8):02d}호"
    return home


VALUES: dict[str, Callable[[random.Random], str]] = {
    "phone": _mobile,
    "landline": _landline,
    "resident_number": _resident,
    "card": _card,
    "email": _email,
    "account": _account,
    "address": _address,
}

_SENTENCES: tuple[str, ...] = (
    "궁금한 점은 {phone:으로/로} 연락 주세요.",
    "문의: {name} {phone}",
    "제 번호는 {phone:이니/니} 문자 남겨 주시면 바로 답장하겠습니다.",
    "전화번호 {phone}, 카톡도 같은 번호입니다.",
    "급하신 분은 {name}에게 {phone:으로/로} 전화하시면 됩니다.",
    "사무실 번호는 {landline}이고 점심시간에는 받지 않습니다.",
    "예약은 {landline}에서만 받습니다.",
    "메일은 {email}로 보내 주시기 바랍니다.",
    "작성자 {name} ({email})",
    "자료가 필요하신 분은 {email}로 메일 주시면 보내 드릴게요.",
    "주민번호 {resident_number} 확인 부탁드립니다.",
    "성명: {name}, 주민등록번호: {resident_number}, 연락처: {phone}",
    "신청서에는 {resident_number:이라고/라고} 적었는데 조회가 안 된다고 합니다.",
    "보험 가입자 {name}({resident_number})의 서류를 첨부합니다.",
    "결제한 카드는 {card}입니다. 취소 처리 부탁드려요.",
    "카드번호 {card:으로/로} 결제했는데 영수증이 안 왔습니다.",
    "입금은 {bank} {account} 예금주 {name} 앞으로 해 주세요.",
    "회비는 {bank} {account:으로/로} 보내 주시면 됩니다.",
    "환불받을 계좌: {bank} {account} {name}",
    "택배는 {address}로 부탁드립니다. 받는 사람은 {name}, 전화는 {phone}입니다.",
    "주소는 {address}입니다.",
    "배송지: {address} / {name} / {phone}",
    "이사한 집 주소를 남깁니다. {address}, 관리실 전화는 {landline}입니다.",
)  # fmt: skip


def personal_sentence(rng: random.Random) -> tuple[str, list[tuple[str, int, int]]]:
    """A sentence and its personal data as (kind, start, end); ``end`` is exclusive."""
    parts = rng.choice(_SENTENCES).split("{")
    text, found = parts[0], []
    for part in parts[1:]:
        inside, _, rest = part.partition("}")
        field, _, pair = inside.partition(":")
        if field == "bank":
            text += rng.choice(_BANKS) + rest
            continue
        value = _name(rng) if field == "name" else VALUES[field](rng)
        found.append((field, len(text), len(text) + len(value)))
        text += value + (particle(value, pair) if pair else "") + rest
    return text, found
