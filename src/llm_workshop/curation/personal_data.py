"""Personal data in Korean text, found by rules: shape first, then check digit, date or the words around.

A shape alone is not enough. ``2023-11-45678`` may be an account or the number of a court case, and technical manuals
are full of digits, so every kind has a second witness:

=================  ===========================================================================================
kind               what is asked besides the shape
=================  ===========================================================================================
phone              a mobile prefix (010, 011, 016-019; +82 10)
landline           an area code that is given out; without hyphens, or without area code, words such as 전화, 팩스
resident_number    a date that exists, a digit for century and sex, and the check digit
card               the Luhn check digit and an issuer's prefix, or the word 카드 nearby
email              a domain of letters
account            the name of a bank or a word such as 계좌, 입금, 예금주 nearby
address            a region (시, 군, 구...) before the road or lot, or words such as 주소, 배송지
=================  ===========================================================================================

Resident registration numbers given or changed since October 2020 have random digits and no check digit any more
(주민등록법 시행규칙 2020): without one, a number counts if the birth is later than that, or if a word such as 주민번호
stands nearby. Nationwide numbers of companies (1588-0000) are no personal data. Names are not looked for: a rule
cannot tell a private person from a poet or a character of a novel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import date
from typing import NamedTuple

#: kind -> what stands in its place, in the order in which the kinds are looked for (the surest first)
MASKS: dict[str, str] = {
    "email": "[이메일]",
    "resident_number": "[주민등록번호]",
    "card": "[카드번호]",
    "phone": "[전화번호]",
    "landline": "[전화번호]",
    "account": "[계좌번호]",
    "address": "[주소]",
}
KINDS = tuple(MASKS)


class Span(NamedTuple):
    """One value: ``text[start:end]`` is personal data of this kind."""

    kind: str
    start: int
    end: int


# Where the dear patterns below are tried; each of these begins with a set, which ``re`` finds fast.
_MANY_DIGITS = re.compile(r"[0-9][0-9\-‐‑–−. ()]{5,}[0-9]")
_ROAD_OR_LOT = re.compile(r"[로길동리가] ?산?[0-9]")
_BEFORE_ROAD, _AFTER_ROAD = 44, 60  # how far an address may reach around that place (characters)

_H = "[-‐‑–−]"  # hyphen, as people and word processors write it
_START = r"(?<![0-9A-Za-z_])(?<![0-9][.,-])"
_END = r"(?![0-9A-Za-z_])"
_DASH_END = rf"(?!{_H}?[0-9])"  # letters may follow where hyphens make the shape clear: 010-0123-4567E-mail

_RESIDENT = re.compile(rf"{_START}([0-9]{{6}})( ?{_H} ?|)([0-9]{{7}}){_DASH_END}{_END}")
_CARD = re.compile(rf"{_START}(?:[0-9]{{4}}([- ]|{_H}|)[0-9]{{4}}\1[0-9]{{4}}\1[0-9]{{4}}|3[47][0-9]{{2}}([- ]|)[0-9]{{6}}\2[0-9]{{5}}){_DASH_END}{_END}")
_PHONE = re.compile(
    rf"(?<![0-9A-Za-z_])(?<![0-9][.,-])(?:\(?\+? ?82 ?\)?[-. ]?\(?0?\)?|\(?0)1[016789]"
    rf"(?:(?:\) ?|[. ]| ?{_H} ?)[0-9]{{3,4}}(?:[. ]| ?{_H} ?)?[0-9]{{4}}{_DASH_END}|[0-9]{{7,8}}{_END}|[0-9]{{3,4}} ?{_H} ?[0-9]{{4}}{_DASH_END})"
)
_AREA = r"(?:02|0[3-6][1-5]|070|050[2-8]|080)"
_LANDLINE = re.compile(
    rf"(?<![0-9A-Za-z_])(?<![0-9][.,-])(?:\(?{_AREA}(?:\) ?| ?{_H} ?|\.)[0-9]{{3,4}}(?: ?{_H} ?|\.)[0-9]{{4}}"
    rf"|\+82[- ]?(?:2|[3-6][1-5]|70)[- ][0-9]{{3,4}}[- ][0-9]{{4}}){_DASH_END}"
)
_LANDLINE_LOOSE = re.compile(rf"{_START}(?:{_AREA} ?[0-9]{{3,4}} ?{_H}? ?[0-9]{{4}}|[2-9][0-9]{{2,3}}{_H}[0-9]{{4}}){_DASH_END}{_END}")
_ACCOUNT = re.compile(rf"{_START}(?:[0-9]{{2,6}}(?:{_H}[0-9]{{1,8}}){{1,4}}|[0-9]{{10,14}}){_DASH_END}{_END}")
_EMAIL_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,4}[A-Za-z]{2,8}(?![A-Za-z0-9(_])")
_EMAIL_LOCAL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-"

_TEL = re.compile(r"(?:전화|연락처|연락|휴대폰|핸드폰|팩스|전송|대표번호|문의|tel|fax|phone|[☎☏📞])[^가-힣0-9]{0,6}(?:번호)?[^가-힣0-9]{0,4}$", re.IGNORECASE)
_RESIDENT_WORDS = re.compile(r"주민|등록번호|생년월일|신분증")
_CARD_WORDS = re.compile(r"카드|결제|card", re.IGNORECASE)
_BANK_WORDS = re.compile(
    r"계좌|통장|은행|입금|송금|이체|예금주|무통장|농협|축협|수협|신협|새마을|금고|우체국|카카오뱅크|케이뱅크|토스|뱅크|환불받"
)
_NOT_ACCOUNT = re.compile(r"사업자|법인|등록번호|사건|접수|주문|송장|운송장|모델|버전|우편|호봉|기간|날짜|일시|[0-9]{4}년")


def _nearby(text: str, start: int, words: re.Pattern, before: int = 30) -> bool:
    return words.search(text, max(0, start - before), start) is not None


def _digits(value: str) -> str:
    return "".join(c for c in value if "0" <= c <= "9")


# Numbers with a witness of their own ---------------------------------------------------------------------------------


def luhn_holds(digits: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812-1): every second digit from the right counts double.

    >>> luhn_holds("79927398713")
    True
    """
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def resident_check_holds(digits: str) -> bool:
    """The check digit of a resident registration number (13 digits): (11 - weighted sum mod 11) mod 10.

    Foreigners' numbers (seventh digit 5 to 8) add 2 to it.
    """
    total = sum(int(d) * w for d, w in zip(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=False))
    return (11 - total % 11 + (2 if digits[6] in "5678" else 0)) % 10 == int(digits[12])


def birth_of(digits: str) -> date | None:
    """The birth in the first seven digits of a resident registration number, or None where there is no such day."""
    century = {"1": 1900, "2": 1900, "5": 1900, "6": 1900, "3": 2000, "4": 2000, "7": 2000, "8": 2000, "9": 1800, "0": 1800}
    try:
        return date(century[digits[6]] + int(digits[:2]), int(digits[2:4]), int(digits[4:6]))
    except ValueError:
        return None


_RANDOM_SINCE = date(2020, 10, 1)


def _is_resident(text: str, match: re.Match) -> bool:
    digits = match[1] + match[3]
    birth = birth_of(digits)
    if birth is None or birth > date.today():
        return False
    if resident_check_holds(digits) or _nearby(text, match.start(), _RESIDENT_WORDS):
        return True
    return bool(match[2]) and birth >= _RANDOM_SINCE


_ISSUERS = re.compile(r"4|5[1-5]|2[2-7]|3[0-9]|6[0-9]|9[0-9]")  # Visa, Mastercard, Amex/JCB/Diners, UnionPay..., Korean cards


def _is_card(text: str, match: re.Match) -> bool:
    digits = _digits(match[0])
    if luhn_holds(digits):
        return _ISSUERS.match(digits) is not None and len(set(digits)) > 1
    return len(match[0]) > len(digits) and _nearby(text, match.start(), _CARD_WORDS)


# Numbers that need words around --------------------------------------------------------------------------------------


def _in_address_of_the_web(text: str, start: int) -> bool:
    if text[start - 1 : start] not in tuple("/=&?#:"):
        return False
    token = text[max(0, start - 200) : start].split()
    return bool(token) and ("://" in token[-1] or "www." in token[-1])


def _is_phone(text: str, match: re.Match) -> bool:
    return not _in_address_of_the_web(text, match.start())


def _is_landline(text: str, match: re.Match) -> bool:
    return text[match.end() : match.end() + 1] != "호" and not _in_address_of_the_web(text, match.start())


def _is_loose_landline(text: str, match: re.Match) -> bool:
    return _nearby(text, match.start(), _TEL, 14)


def _is_account(text: str, match: re.Match) -> bool:
    digits = _digits(match[0])
    if not 10 <= len(digits) <= 16 or _nearby(text, match.start(), _NOT_ACCOUNT, 12):
        return False
    if re.fullmatch(r"(?:19|20)[0-9]{2}[-‐‑–−][0-9]{1,2}[-‐‑–−][0-9]{1,2}.*", match[0]) and len(digits) < 11:
        return False  # a date
    if _nearby(text, match.start(), _BANK_WORDS, 24):
        return True
    return "예금주" in text[match.end() : match.end() + 12]


def _without_lone_bracket(match: re.Match) -> tuple[int, int]:
    return match.start() + (match[0].startswith("(") and ")" not in match[0]), match.end()


# Addresses -----------------------------------------------------------------------------------------------------------

_PROVINCE = (
    r"(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충북|충남|전북|전남|경북|경남|제주)(?:특별자치시|특별자치도|특별시|광역시|시|도)?"
    r"|(?:충청|전라|경상)[남북]도"
)
_REGION = rf"(?:{_PROVINCE}|[가-힣]{{1,5}}(?:시|군|구|읍)|[가-힣]{{1,4}}면)"
_UNIT = r"(?:[,.]? ?(?:[가-힣A-Za-z0-9]{1,12}(?:아파트|빌라|빌딩|맨션|오피스텔|타운|APT) ?)?(?:제?[0-9]{1,4}동 ?(?:제?[0-9]{1,5}호)?|(?:제?지?하? ?[0-9]{1,2}층 ?)?제?[0-9]{1,5}호|[0-9]{1,2}층)(?![0-9]))?"
_ROAD = r"[가-힣]{1,9}[0-9]{0,3}(?:[동서남북]?[0-9]?가)?(?:대로|로|길)"
_NUMBER = r"[0-9]{1,4}(?:-[0-9]{1,3})?"
_COUNTED = r"(?![0-9]| ?(?:개|명|년|월|일|시간|시\b|분|초|원|배|회|차|위|점|만|천|억|세|살|퍼센트|대\b|건|곳|가지|%|㎞|km|m\b|시까지)|[A-Za-z.:][0-9A-Za-z])"
_ADDRESS_ROAD = re.compile(
    rf"(?P<region>(?:(?<![가-힣]){_REGION} ){{0,4}})(?P<road>(?<![가-힣A-Za-z]){_ROAD}) ?{_NUMBER}(?P<branch>번? ?[가나다라]?길 ?{_NUMBER})?"
    rf"(?:번지)?{_COUNTED}(?P<unit>{_UNIT})"
)
_ADDRESS_LOT = re.compile(
    rf"(?P<region>(?:(?<![가-힣]){_REGION} ){{1,4}})[가-힣]{{1,6}}[0-9]{{0,2}}(?:동|리|가) (?:산 ?)?(?:[0-9]{{1,4}}-[0-9]{{1,4}}(?:번지)?|[0-9]{{1,4}}번지){_COUNTED}{_UNIT}"
)
_ADDRESS_HOME = re.compile(r"[가-힣A-Za-z0-9]{1,12}(?:아파트|빌라|맨션|오피스텔|APT) ?제?[0-9]{1,4}동 ?제?[0-9]{1,5}호")
_ADDRESS_WORDS = re.compile(r"주소|배송지|거주|소재지|사는 곳|우편물|택배|이사한|받는 곳")
# Words that look like a region or a road: 다시, 앞으로 3
_NO_REGION = frozenset(
    "다시 역시 혹시 잠시 즉시 일시 동시 당시 수시 무시 표시 제시 게시 지시 전시 임시 감시 실시 필요시 몹시 반드시 친구 요구 연구 지구 야구 축구 농구 배구 "
    "도구 기구 가구 출구 입구 호구 누구 영구 장군 아군 적군 국군 미군 하면 되면 라면 화면 장면 측면 표면 반면 전면 이면 정면 보면 오면 가면".split()
)
_NO_ROAD = frozenset(
    "별도로 추가로 실제로 새로 바로 서로 따로 그대로 이대로 대로 최대로 최소로 스스로 주로 함부로 위로 아래로 뒤로 때로 홀로 도로 통로 경로 선로 진로 회로 미로 "
    "예로 이로 제로 외로 별로 기본값으로 절대로 마음대로 순서대로 하나로 차례로 진짜로 정말로 가로 세로 방법대로 골목길 지름길 오솔길 도로길 계기로 대신하여로".split()
)


def _address_span(text: str, match: re.Match) -> tuple[int, int] | None:
    """Where the address begins and ends, or None where it is none."""
    groups = match.groupdict()
    if "region" not in groups:  # the name of a block of flats with building and flat
        return match.span()
    tokens = groups["region"].split()
    start = match.start()
    while tokens and (tokens[0] in _NO_REGION or (tokens[0].endswith("면") and len(tokens) == 1)):
        start += len(tokens[0]) + 1
        tokens = tokens[1:]
    if not tokens and "road" not in groups:
        return None
    if "road" in groups:
        road = groups["road"]
        if road in _NO_ROAD or road.endswith(("으로", "므로")) or re.search(r"[0-9]로$", road):
            return None
        known = groups["branch"] or "호" in groups["unit"] or _nearby(text, start, _ADDRESS_WORDS, 20)
        if not tokens and not known:
            return None
    end = match.end()
    while text[end - 1] in " ,.":
        end -= 1
    return start, end


# The search ----------------------------------------------------------------------------------------------------------

_CHECKED: tuple[tuple[str, re.Pattern, Callable[[str, re.Match], bool]], ...] = (
    ("resident_number", _RESIDENT, _is_resident),
    ("card", _CARD, _is_card),
    ("phone", _PHONE, _is_phone),
    ("landline", _LANDLINE, _is_landline),
    ("landline", _LANDLINE_LOOSE, _is_loose_landline),
    ("account", _ACCOUNT, _is_account),
)


def find_personal_data(text: str, kinds: Collection[str] = KINDS) -> list[Span]:
    """All personal data of these kinds, in the order of the text, without overlaps.

    A text without long numbers, "@" and roads with a number costs about a nanosecond a character.
    """
    found: list[Span] = []

    def add(kind: str, start: int, end: int) -> None:
        if all(end <= other.start or other.end <= start for other in found):
            found.append(Span(kind, start, end))

    if "@" in text and "email" in kinds:
        for start, end in _emails(text):
            add("email", start, end)
    for place in _MANY_DIGITS.finditer(text):
        if len(_digits(place[0])) < 7:
            continue
        for kind, pattern, holds in _CHECKED:
            if kind in kinds:
                for match in pattern.finditer(text, max(0, place.start() - 5), place.end() + 2):
                    if holds(text, match):
                        add(kind, *_without_lone_bracket(match))
    if "address" in kinds:
        last = 0  # where the address before ends
        for place in _ROAD_OR_LOT.finditer(text):
            for pattern in (_ADDRESS_ROAD, _ADDRESS_LOT, _ADDRESS_HOME):
                for match in pattern.finditer(text, max(last, place.start() - _BEFORE_ROAD), place.end() + _AFTER_ROAD):
                    around = match.start() <= place.start() < match.end()  # others may be cut off by the window
                    if around and (span := _address_span(text, match)):
                        add("address", *span)
                        last = span[1]
    found.sort(key=lambda span: span.start)
    return found


def _emails(text: str) -> list[tuple[int, int]]:
    """From each "@" outwards, so that a long line of letters costs nothing."""
    found = []
    at = text.find("@")
    while at >= 0:
        window = text[max(0, at - 64) : at]
        local = window[len(window.rstrip(_EMAIL_LOCAL)) :].lstrip("._%+-")
        domain = _EMAIL_DOMAIN.match(text, at + 1)
        if domain and local and not local.endswith(".") and local != "git" and not window.endswith("://" + local):
            found.append((at - len(local), domain.end()))
        at = text.find("@", at + 1)
    return found


def mask(text: str, spans: list[Span]) -> str:
    """The text with the mask of its kind in the place of each value."""
    parts, last = [], 0
    for kind, start, end in spans:
        parts += [text[last:start], MASKS[kind]]
        last = end
    return "".join([*parts, text[last:]])
