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

from llm_workshop.curation.addresses import find_addresses

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


# Where the dear patterns below are tried; it begins with a set, which ``re`` finds fast.
_MANY_DIGITS = re.compile(r"[0-9][0-9\-‐‑–−. ()]{5,}[0-9]")

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
_EMAIL_SPELT = re.compile(
    r"[A-Za-z0-9._%+-]{2,64} ?(?:골뱅이|\[at\]|\(at\)) ?(?:[A-Za-z0-9-]{2,}(?:\.[A-Za-z]{2,8}){1,3}|(?:네이버|다음|한메일|지메일)(?: ?(?:닷|점)?컴)?)", re.IGNORECASE
)
_SPELT_DIGIT = "[공영일이삼사오육칠팔구0-9]"
_PHONE_SPELT = re.compile(rf"[공영]일[공영][ .-]{{0,3}}{_SPELT_DIGIT}{{4}}[ .-]{{0,3}}{_SPELT_DIGIT}{{4}}")
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
    if "email" in kinds and ("골뱅이" in text or "at]" in text or "at)" in text):
        for match in _EMAIL_SPELT.finditer(text):
            add("email", *match.span())
    if "phone" in kinds and ("공일공" in text or "영일영" in text):
        for match in _PHONE_SPELT.finditer(text):
            add("phone", *match.span())
    for place in _MANY_DIGITS.finditer(text):
        if len(_digits(place[0])) < 7:
            continue
        for kind, pattern, holds in _CHECKED:
            if kind in kinds:
                for match in pattern.finditer(text, max(0, place.start() - 5), place.end() + 2):
                    if holds(text, match):
                        add(kind, *_without_lone_bracket(match))
    if "address" in kinds:
        for start, end in find_addresses(text):
            add("address", start, end)
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
