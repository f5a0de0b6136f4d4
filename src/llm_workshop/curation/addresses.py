"""Korean addresses in running text: region, road and number (도로명), or region, village and lot (지번), with flat.

A road alone is no address: 앞으로 3년 has the shape of one. So a region (시, 군, 구...), words such as 주소 or 배송지, a
branch of a road (12번길) or a flat (101동 1203호) must stand beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Where the dear patterns below are tried; it begins with a set, which ``re`` finds fast.
_ROAD_OR_LOT = re.compile(r"[로길동리가] ?산?[0-9]")
_BEFORE_ROAD, _AFTER_ROAD = 44, 60  # how far an address may reach around that place (characters)

_PROVINCE = (
    r"(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충북|충남|전북|전남|경북|경남|제주)(?:특별자치시|특별자치도|특별시|광역시|시|도)?"
    r"|(?:충청|전라|경상)[남북]도"
)
_REGION = rf"(?:{_PROVINCE}|[가-힣]{{1,5}}(?:시|군|구|읍)|[가-힣]{{1,4}}면|(?<=[시군구] )[가-힣]{{1,6}}[0-9]?동)"
_UNIT = r"(?:[,.]? ?(?:[가-힣A-Za-z0-9]{1,12}(?:아파트|빌라|빌딩|맨션|오피스텔|타운|APT) ?)?(?:제?[0-9]{1,4}동 ?(?:제?[0-9]{1,5}호)?|(?:제?지?하? ?[0-9]{1,2}층 ?)?제?[0-9]{1,5}호|[0-9]{1,2}층)(?![0-9]))?"
_ROAD = r"[가-힣]{1,9}[0-9]{0,3}(?:[동서남북]?[0-9]?가)?(?:대로|로|길)"
_NUMBER = r"[0-9]{1,4}(?:-[0-9]{1,3})?"
_COUNTED = (  # 앞으로 3년, 새로 5 개: a number that counts something
    r"(?![0-9]|(?:일|시|분|초|배|회|차|위|점|세|살|대)(?![가-힣]{2})| ?(?:개|명|년|월|시간|원|만|천|억|퍼센트|건|곳|가지|%|㎞|km|m\b)|급|[A-Za-z.:][0-9A-Za-z])"
)
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
        known = groups["branch"] or "호" in groups["unit"] or _ADDRESS_WORDS.search(text, max(0, start - 20), start)
        if not tokens and not known:
            return None
    end = match.end()
    while text[end - 1] in " ,.":
        end -= 1
    return start, end


def find_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Where each address begins and ends, in the order of the text; some may be given twice or overlap."""
    last = 0  # where the address before ends
    for place in _ROAD_OR_LOT.finditer(text):
        for pattern in (_ADDRESS_ROAD, _ADDRESS_LOT, _ADDRESS_HOME):
            for match in pattern.finditer(text, max(last, place.start() - _BEFORE_ROAD), place.end() + _AFTER_ROAD):
                around = match.start() <= place.start() < match.end()  # others may be cut off by the window
                if around and (span := _address_span(text, match)):
                    yield span
                    last = span[1]
