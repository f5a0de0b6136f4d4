"""Reviews of invented restaurants, films, books, gadgets, lodgings and lectures.

Truth: ``sentiment`` (positive, negative, mixed), ``rating`` (1 to 10), ``aspects`` {aspect: polarity} of exactly the
aspects that the text speaks of, ``category``, ``item``. Positive is rated 7 to 10, mixed 5 or 6, negative 1 to 4.
"""

from __future__ import annotations

import random
from functools import lru_cache

from ..content import reviews as c
from ..content.places import INVENTED_TOWNS
from ..draft import Draft
from .phrases import chance, pick, say, shuffled, weighted

_LEVELS = (("후기", 9), ("합쇼", 4), ("해라", 5), ("음", 3), ("해", 2))
_WITH = ("친구와", "가족과", "혼자", "동생과", "부모님과", "직장 동료와", "남편과", "아내와", "아이들과", "오랜 친구와", "언니와", "선배와", "어머니와", "이웃과", "동호회 사람들과")
_WHY = ("비가 와서", "배가 고파서", "소문을 듣고", "친구가 권해서", "집에서 가까워서", "길을 가다가", "점심을 놓쳐서", "방송을 보고", "약속이 있어서", "추워서 따뜻한 것이 먹고 싶어서")
_NIGHTS = ("하룻밤을", "이틀 밤을", "사흘을", "2박 3일을", "1박 2일을")
_TURNS = {
    "negative": ("다만", "하지만", "그런데", "그렇지만", "아쉽게도"),
    "positive": ("그래도", "그나마", "반면에", "그렇지만", "다행히"),
}
_MORE = ("", "", "", "", "", "", "그리고", "게다가", "또", "무엇보다")

_PRICES = {"빵집": (3, 9), "찻집": (4, 9), "고깃집": (13, 24), "횟집": (14, 34), "양식당": (11, 26), "분식집": (4, 10), "국숫집": (7, 13), "국밥집": (8, 14), "한식당": (8, 16), "중국집": (7, 14)}  # 1,000 won

_FICTION = frozenset(("장편 소설", "단편집", "추리 소설", "동화책", "만화", "그림책"))
_PLAIN_BOOKS = frozenset(("역사책", "과학책", "자기 계발서", "여행기"))
_TENSE_FILMS = frozenset(("스릴러 영화", "공포 영화", "추리 영화", "공상 과학 영화"))
_EFFECT_FILMS = frozenset(("공상 과학 영화", "액션 영화", "공포 영화"))
_CRAFTS, _BODILY = frozenset(("수채화", "제빵", "도자기", "서예")), frozenset(("수영", "요가", "제빵", "도자기", "우쿨렐레", "기타"))
_CORE = frozenset(("맛", "이야기", "내용", "성능", "청결", "강사"))  # a flaw here would spoil a good mark
_CHARGED = frozenset("무선 이어폰/블루투스 스피커/무선 청소기/노트북/태블릿/스마트폰/디지털카메라/손목시계".split("/"))
_NOISY = frozenset("무선 청소기/로봇 청소기/공기 청정기/선풍기/서큘레이터/가습기/제습기/드라이기/노트북/빔 프로젝터/키보드/믹서".split("/"))
_FILTERED = frozenset("무선 청소기/로봇 청소기/공기 청정기/제습기/가습기".split("/"))
_HANDHELD = frozenset("무선 이어폰/무선 청소기/태블릿/스마트폰/디지털카메라/드라이기/보조 배터리/키보드".split("/"))
_HEATED = frozenset("노트북/태블릿/스마트폰/보조 배터리/빔 프로젝터".split("/"))
_SMALL = frozenset("무선 이어폰/스마트폰/손목시계/보조 배터리/디지털카메라/드라이기".split("/"))
# A sentence with one of these words fits only the listed kinds of items.
_ONLY: tuple[tuple[str, frozenset], ...] = (
    *((word, _FICTION | {"에세이"}) for word in ("주인공", "인물", "내 이야기", "묘사가", "이야기가 [이")),
    *((word, _PLAIN_BOOKS) for word in ("근거", "몰랐던", "어려운 내용", "도표", "인터넷에", "그림이 흐릿")),
    *((word, _TENSE_FILMS) for word in ("반전", "소름", "앞에 나온")),
    *((word, _EFFECT_FILMS) for word in ("특수 효과", "그래픽")),
    *((word, _CHARGED) for word in ("충전하면", "반나절")), ("소리가 [거의", _NOISY), ("소리가 너무", _NOISY), ("[필터가", _FILTERED),
    *((word, _CRAFTS) for word in ("재료비를", "재료를 다 준비")),
    ("손에 [쥐", _HANDHELD), ("뜨거워", _HEATED), ("지문", _CHARGED),
)  # fmt: skip
_NEVER: tuple[tuple[str, frozenset], ...] = (
    ("작은 이야기", _EFFECT_FILMS | _TENSE_FILMS), ("억지로 울", _EFFECT_FILMS | _TENSE_FILMS | {"다큐멘터리", "코미디 영화"}), ("현실에", _EFFECT_FILMS | {"사극", "애니메이션"}),
    ("따뜻해지", _EFFECT_FILMS | _TENSE_FILMS), ("버튼이", frozenset(("키보드", "모니터", "무선 이어폰"))), ("크고 무거", _SMALL), ("창고에", frozenset("모니터/빔 프로젝터/제습기/공기 청정기/선풍기/서큘레이터/전기밥솥/전기장판/로봇 청소기/무선 청소기".split("/"))), ("조금만] 써도 {main", frozenset(("키보드",))), ("처음 켰을", frozenset(("키보드",))),
    *((w, frozenset(("다큐멘터리", "애니메이션"))) for w in ("배우", "연기가")), ("등장인물", frozenset(("다큐멘터리", "음악 영화"))), ("컵라면", frozenset(("호텔", "리조트"))),
    *((word, frozenset(("한국사", "독서 토론", "일본어 기초", "재테크"))) for word in ("실습은", "[실습이")),
    *((word, _BODILY) for word in ("영상", "책만", "받아 적기", "녹음", "[자료에", "온라인으로", "자료를", "독학이")),
    ("주인 내외", frozenset(("호텔", "리조트", "모텔"))), ("감자를", frozenset(("호텔", "리조트", "모텔"))), ("온돌", frozenset(("호텔", "모텔", "글램핑장"))), ("마당에서", frozenset(("호텔", "모텔"))),
    ("창틀", frozenset(("글램핑장",))), ("창문", frozenset(("글램핑장",))), ("창밖", frozenset(("글램핑장",))),
    *((w, frozenset(("시집", "그림책", "만화", "동화책"))) for w in ("사흘 만에", "문장이 길고", "[꾸밈말이", "[틈틈이|", "번역이", "장이 짧게")), ("그림과 도표", frozenset(("시집",))),
    *((w, frozenset(("과학책", "역사책", "자기 계발서"))) for w in ("문장이 [짧고", "말맛이", "[소리 내어")),
)  # fmt: skip
_NOT_FOR_DRINKS = ("간이", "반찬", "젓가락", "배불리", "기름", "덜 익", "짜다", "싱겁", "조미료", "느끼", "씹을", "비린내", "질기고", "식은", "재료가", "둘이 먹고", "그릇을", "푸짐", "음식이 나오는", "메뉴판", "할머니가", "한 입", "양이 적은")


def _suits(sentence: str, kind: str) -> bool:
    if kind in c.DRINKS_AND_BREAD and any(word in sentence for word in _NOT_FOR_DRINKS):
        return False
    if any(word in sentence and kind not in kinds for word, kinds in _ONLY):
        return False
    return not any(word in sentence and kind in kinds for word, kinds in _NEVER)


@lru_cache(maxsize=256)
def _aspects(category: str, kind: str) -> tuple[tuple[str, dict[str, tuple[str, ...]]], ...]:
    """(aspect, {polarity: sentences that suit this kind of item})."""
    found = []
    for aspect in c.CATEGORIES[category].aspects:
        lists = {"positive": tuple(s for s in aspect.positive if _suits(s, kind)), "negative": tuple(s for s in aspect.negative if _suits(s, kind))}
        if lists["positive"] and lists["negative"]:
            found.append((aspect.name, lists))
    return tuple(found)


@lru_cache(maxsize=1024)
def _suiting(sentences: tuple[str, ...], kind: str) -> tuple[str, ...]:
    return tuple(s for s in sentences if _suits(s, kind))


def _item(rng: random.Random, category: str, world) -> tuple[str, str, dict]:
    """(kind of item, its name, slots)."""
    slots = {"with": pick(rng, _WITH), "why": pick(rng, _WHY), "town": pick(rng, INVENTED_TOWNS), "walk": rng.randint(2, 9), "far": rng.randint(20, 40), "wait": 10 * rng.randint(3, 7)}
    if "친구" in slots["why"] or "약속" in slots["why"]:
        slots["with"] = "혼자" if "친구" in slots["why"] else "동료와"
    if category == "restaurant":
        kind, tails, menus = pick(rng, c.RESTAURANTS)
        slots["menu"], slots["menu2"] = rng.sample(menus, 2)
        low, high = _PRICES.get(kind, (8, 12))
        middle = (low + high) // 2
        slots["price"] = {"positive": f"{rng.randint(low, middle - 1) * 1000:,}", "negative": f"{rng.randint(middle + 1, high) * 1000 + pick(rng, (0, 0, 500)):,}"}
        tail = pick(rng, tails)
        slots["name"] = pick(rng, c.NAME_HEADS) + " " * (len(tail) > 1 and chance(rng, 0.3)) + tail
        return kind, slots["name"], slots
    if category in ("film", "book"):
        kind = pick(rng, c.FILM_GENRES if category == "film" else c.BOOK_GENRES)
        name = f"{pick(rng, c.TITLE_HEADS)} {pick(rng, c.TITLE_TAILS)}"
        open_mark, close_mark = pick(rng, ("‘’", "《》", "〈〉", "‘’", "\"\""))
        slots.update(title=f"{open_mark}{name}{close_mark}", genre=kind, author=pick(rng, world.adults).name, running=rng.randint(92, 148), price={"positive": f"{rng.randint(12, 17) * 1000:,}", "negative": f"{rng.randint(18, 26) * 1000:,}"})
        return kind, name, slots
    if category == "gadget":
        kind, slots["main"] = pick(rng, c.GADGETS)
        slots["name"] = f"{pick(rng, c.BRANDS)} {kind}"
        if chance(rng, 0.4):
            slots["name"] = f"{pick(rng, c.BRANDS)} {kind} {pick(rng, ('X', 'S', 'M', 'K', 'A'))}{rng.randint(1, 90)}0"
        slots["big"] = rng.randint(30, 140) if kind in ("노트북", "태블릿", "스마트폰", "모니터", "빔 프로젝터", "디지털카메라") else rng.randint(3, 28)
        return kind, slots["name"], slots
    if category == "lodging":
        kind = pick(rng, c.LODGINGS)
        slots.update(name=f"{pick(rng, c.NAME_HEADS)} {c.LODGING_TAILS[kind]}", nights=pick(rng, _NIGHTS), big=rng.randint(5, 12) if kind in ("민박", "게스트하우스", "모텔") else rng.randint(10, 32))
        return kind, slots["name"], slots
    kind = pick(rng, c.LECTURES)
    slots.update(title=kind, teacher=pick(rng, world.adults).name, few=rng.randint(5, 9), big=rng.randint(4, 20))
    return kind, f"{kind} 강의", slots


def _polarities(rng: random.Random, sentiment: str, count: int) -> list[str]:
    if sentiment == "mixed":
        first = pick(rng, ("positive", "negative"))
        other = "negative" if first == "positive" else "positive"
        lead = max(1, count // 2)
        return [first] * lead + [other] * (count - lead)
    other = "negative" if sentiment == "positive" else "positive"
    exception = count >= 3 and chance(rng, 0.3)
    return [sentiment] * (count - 1) + [other if exception else sentiment]


def _rating(rng: random.Random, sentiment: str, exceptions: bool) -> int:
    if sentiment == "mixed":
        return rng.randint(5, 6)
    if sentiment == "positive":
        return rng.randint(7, 8) if exceptions else rng.randint(8, 10)
    return rng.randint(3, 4) if exceptions else rng.randint(1, 3)


def _heading(rng: random.Random, name: str, kind: str, category: str, rating: int) -> tuple[str, str]:
    """(line before the text, line after it); either may be empty."""
    stars = "★" * (rating // 2) + "☆" * (5 - rating // 2)
    style = rng.random()
    if style < 0.22:
        return "", ""
    if style < 0.40:
        label = {"물건": "사용 후기", "강의": "수강 후기"}.get(category, kind)
        return f"[{label}] {name}", pick(rng, (f"평점 {rating}점", f"별점: {rating}/10", f"{rating}/10"))
    if style < 0.55:
        return f"{name} ({rating}/10)", ""
    if style < 0.68:
        return f"{name} · {rating}점", ""
    if style < 0.80 and rating % 2 == 0:
        return f"{stars} {name}", ""
    if style < 0.90:
        return "", f"10점 만점에 {rating}점."
    return f"제목: {name} 후기", f"점수: {rating}점"


def make_review(rng: random.Random, world) -> Draft:
    """One review of two to nine sentences."""
    category = pick(rng, tuple(c.CATEGORIES))
    sheet = c.CATEGORIES[category]
    kind, name, slots = _item(rng, category, world)
    level = weighted(rng, _LEVELS)
    sentiment = weighted(rng, (("positive", 4), ("negative", 4), ("mixed", 2)))
    available = _aspects(category, kind)
    count = min(len(available), weighted(rng, ((1, 2), (2, 5), (3, 6), (4, 4), (5, 2))))
    count = max(count, 2) if sentiment == "mixed" else count
    chosen = shuffled(rng, available)[:count]
    polarities = _polarities(rng, sentiment, count)
    if len(set(polarities)) > 1 and sentiment != "mixed" and chosen[-1][0] in _CORE:
        chosen[0], chosen[-1] = chosen[-1], chosen[0]
    prices = slots.get("price", {})
    sentences, joints = [], shuffled(rng, _MORE)
    if chance(rng, 0.7 if level != "음" else 0.4):
        sentences.append(say(rng, pick(rng, _suiting(sheet.openings, kind)), level, slots))
    last = None
    for (_, lists), polarity in zip(chosen, polarities, strict=True):
        options = lists[polarity]
        slots["price"] = prices.get(polarity, "")
        sources = shuffled(rng, options)[: 2 if len(options) > 3 and chance(rng, 0.22) else 1]
        for i, source in enumerate(sources):
            if last is not None and polarity != last:
                lead = pick(rng, _TURNS[polarity])
            else:
                lead = joints.pop() if last is not None and not i else ""
            sentences.append(f"{lead} {say(rng, source, level, slots)}" if lead else say(rng, source, level, slots))
            last = polarity
    if chance(rng, 0.75):
        verdicts = {"positive": sheet.praise, "negative": sheet.blame, "mixed": sheet.mixed}[sentiment]
        sentences.append(say(rng, pick(rng, _suiting(verdicts, kind)), level, slots))
    rating = _rating(rng, sentiment, len(set(polarities)) > 1)
    before, after = _heading(rng, name, kind, sheet.name, rating)
    mark = "!" if level in ("후기", "해") and sentiment == "positive" and chance(rng, 0.25) else "."
    body = ". ".join(sentences) + mark
    text = "\n".join(part for part in (before, body, after) if part)
    aspects = {aspect: polarity for (aspect, _), polarity in zip(chosen, polarities, strict=True)}
    return Draft(text, {"sentiment": sentiment, "rating": rating, "category": category, "item": name, "aspects": aspects})


KINDS = {"review": (make_review, 12.0)}
