"""Local-news notes from invented towns.

Truth: ``topic``, ``where``, ``when``, ``facts`` (slot -> value as written in the text) and ``qa``: pairs of a question
and an answer that stands word for word in the text.
"""

from __future__ import annotations

import datetime
import random
from functools import lru_cache

from ..content import places
from ..content.news import EVENTS, Event
from ..draft import Draft
from ..korean import josa
from ..templates import render
from .phrases import chance, pick, weighted

_WEEKDAYS = "월화수목금토일"
_FIRST_DAY = datetime.date(2024, 1, 1).toordinal()
# topic -> (smallest and largest amount, unit, step)
_MONEY = {
    "도서관": (18, 64, "억"), "시장 물가": (1, 6, "억"), "도로 공사": (2, 35, "억"), "학교 소식": (6, 38, "만"), "의회": (2, 24, "억"), "봉사와 나눔": (12, 90, "만"),
    "생활 안전": (20, 300, "만"),
}  # fmt: skip
# crop -> (unit, lowest and highest price in 100 won)
_UNITS = {
    "배추": ("한 포기", 38, 95), "무": ("한 개", 18, 45), "사과": ("열 개", 220, 420), "배": ("열 개", 280, 480), "감자": ("1킬로그램", 32, 70), "양파": ("1킬로그램", 22, 45), "대파": ("1킬로그램", 25, 68),
    "마늘": ("1킬로그램", 90, 150), "상추": ("100그램", 9, 28), "오이": ("열 개", 80, 190), "고등어": ("한 마리", 35, 65), "오징어": ("한 마리", 50, 95), "달걀": ("서른 개", 65, 98),
    "쌀": ("20킬로그램", 480, 630), "토마토": ("1킬로그램", 45, 98),
}  # fmt: skip
_HARVESTS = {"딸기": (2, 4), "감자": (6, 7), "블루베리": (6, 7), "수박": (6, 8), "복숭아": (7, 8), "포도": (8, 9), "사과": (9, 10), "배": (9, 10), "고구마": (9, 10), "표고버섯": (4, 5), "인삼": (9, 10), "쌀": (9, 10)}
_KILOS = {"사과": (4, 7), "포도": (5, 9), "딸기": (9, 15), "감자": (2, 3), "고구마": (3, 4), "표고버섯": (10, 16), "인삼": (35, 60), "배": (4, 6), "복숭아": (5, 8), "쌀": (3, 3), "수박": (2, 3), "블루베리": (15, 25)}  # 1,000 won
_REASONS = {
    "작은 불": ("누전", "부주의", "낡은 전선", "전열기 과열"), "정전": ("강한 바람", "낡은 전선", "전기 설비 고장"), "수도관 파열": ("갑작스러운 추위", "낡은 배관", "땅 꺼짐"), "가스 누출 신고": ("부주의", "낡은 배관", "밸브 고장"),
    "승강기 멈춤 사고": ("부품 고장", "정전", "제어 장치 이상"), "간판 추락 사고": ("강한 바람", "녹슨 나사", "부실한 고정"),
}  # fmt: skip
_VILLAGES = ("솔밭마을", "샘골마을", "돌다리마을", "윗말", "아랫말", "달맞이마을", "너른들마을", "꽃재마을", "두레마을", "물레방아마을", "양지마을", "감나무골")
_FESTIVAL_MONTHS = {"벚꽃축제": (4,), "국화축제": (10, 11), "딸기축제": (3, 4), "얼음낚시축제": (1,), "빛축제": (12,), "단오제": (6,), "감자축제": (7, 8), "별빛 음악회": (7, 8), "김장문화제": (11,), "갈대축제": (10,), "연날리기 대회": (1, 2)}
_SPORT_MONTHS = {"축구": (3, 4, 5, 6, 7, 8, 9, 10, 11), "야구": (4, 5, 6, 7, 8, 9, 10), "하키": (4, 5, 6, 9, 10), "농구": (10, 11, 12, 1, 2, 3), "배구": (10, 11, 12, 1, 2, 3), "핸드볼": (11, 12, 1, 2, 3, 4)}
_CLOSE = {"농구": 6, "핸드볼": 3}  # points apart that still make a close game; 1 in the other sports
_CLOSE_WORDS = ("접전", "팽팽", "엎치락", "따라붙")
_CAUSE_MONTHS = {"병충해": (5, 6, 7, 8, 9, 10), "늦더위": (9, 10), "이른 추위": (10, 11), "가뭄": (5, 6), "잦은 비": (7, 8, 9), "명절을 앞둔 수요 증가": (1, 2, 9)}
_EVENT_MONTHS = {"졸업 전시회": (12, 2), "텃밭 수확 행사": (6, 10), "한글날 글짓기 대회": (10,), "운동회": (5, 9, 10)}
_HOLIDAYS = ((1, 1), (3, 1), (5, 5), (6, 6), (8, 15), (10, 3), (10, 9), (12, 25))  # no school, no session
_GIFT_MONTHS = {"김장 김치": (11, 12), "연탄": (11, 12, 1), "겨울 이불": (11, 12), "목도리": (12, 1)}


def _quoted_skies(month: int) -> tuple[tuple[str, str, tuple[int, int]], ...]:
    """(headline, sentence, range of the probability of rain) that can occur in a month."""
    skies = [
        ("대체로 맑음", "대체로 맑겠다", (0, 10)), ("구름 많음", "구름이 많이 끼겠다", (10, 30)), ("아침 안개", "아침에 안개가 짙게 끼었다가 낮부터 맑아지겠다", (0, 20)), ("흐리고 비", "흐리고 오후부터 비가 내리겠다", (60, 90)),
        ("가끔 구름", "맑다가 저녁부터 차차 흐려지겠다", (10, 30)), ("오전 비", "오전에 비가 오다가 오후에 그치겠다", (60, 80)),
    ]  # fmt: skip
    if month in (12, 1, 2):
        skies = [*skies[:3], ("오후 눈", "흐리고 오후 한때 눈이 내리겠다", (60, 80)), ("찬 바람", "맑지만 찬 바람이 불어 춥겠다", (0, 10))]
    if month in (7, 8):
        skies += [("소나기", "무덥고 곳에 따라 소나기가 내리겠다", (40, 70)), ("찜통더위", "한낮에는 찜통더위가 이어지겠다", (0, 20))]
    return tuple(skies)


_LOWS = {1: -7, 2: -4, 3: 1, 4: 7, 5: 12, 6: 17, 7: 22, 8: 22, 9: 16, 10: 9, 11: 3, 12: -4}


def _date(rng: random.Random, months: tuple[int, ...] | None) -> datetime.date:
    for _ in range(60):
        date = datetime.date.fromordinal(_FIRST_DAY + int(rng.random() * 1000))
        if months is None or date.month in months:
            return date
    return date.replace(month=months[0], day=min(date.day, 28))


def _months(values: dict) -> tuple[int, ...] | None:
    if "gift" in values and values["gift"] not in _GIFT_MONTHS:
        return (11, 12, 1, 2)
    for key, table in (("sport", _SPORT_MONTHS), ("cause", _CAUSE_MONTHS), ("reason", {"갑작스러운 추위": (12, 1, 2)}), ("what", _FESTIVAL_MONTHS), ("event", _EVENT_MONTHS), ("gift", _GIFT_MONTHS)):
        if values.get(key) in table:
            return table[values[key]]
    return None


def _name(rng: random.Random, world) -> str:
    return pick(rng, world.adults).name


def _slots(rng: random.Random, event: Event, world) -> dict:
    slots: dict = {key: pick(rng, choices) for key, choices in event.options.items()}
    if slots.get("crop") in ("고등어", "오징어", "달걀") and event.topic == "시장 물가":
        slots["cause"] = pick(rng, ("산지 출하 감소", "명절을 앞둔 수요 증가", "수요 증가", "사료 값 상승") if slots["crop"] == "달걀" else ("어획량 감소", "높은 수온", "출어 감소", "명절을 앞둔 수요 증가"))
    if event.topic == "생활 안전":
        slots["reason"] = pick(rng, _REASONS[slots["accident"]])
    months = _months(slots)
    if event.topic == "학교 소식" and months is None:
        months = (3, 4, 5, 6, 9, 10, 11)
    if event.topic == "농촌 소식":
        months = _HARVESTS[slots["crop"]]
    date = _date(rng, months)
    if slots.get("what") == "벚꽃축제":
        date = date.replace(day=1 + date.day % 12)
    if event.topic in ("학교 소식", "의회"):
        if date.weekday() > 4:
            date -= datetime.timedelta(days=2)
        if (date.month, date.day) in _HOLIDAYS:
            date += datetime.timedelta(days=7)
    weekday = f"({_WEEKDAYS[date.weekday()]})" if chance(rng, 0.35) else ""
    slots["day"] = f"{date.month}월 {date.day}일{weekday}"
    later = date + datetime.timedelta(days=rng.randint(5, 12))
    few, minutes, homes, tons, low = rng.randint(8, 60), rng.randint(8, 50), rng.randint(18, 240), rng.randint(12, 480), _LOWS[date.month] + rng.randint(-3, 3)
    yes, high = rng.randint(9, 18), low + rng.randint(6, 13)
    sky, weather, (driest, wettest) = pick(rng, _quoted_skies(date.month))
    percent, rain = rng.randint(12, 48), rng.randint(driest // 10, wettest // 10) * 10
    club, rival = rng.sample(places.CLUBS, 2)
    low_score, margin = _score(rng, slots.get("sport", ""))
    slots.update(
        city=(city := pick(rng, places.CITIES)), gov=city[-1], place=pick(rng, getattr(places, event.places)), quarter=pick(rng, places.QUARTERS), road=pick(rng, places.ROADS), hall=pick(rng, places.HALLS),
        later=f"{later.month}월 {later.day}일", span=pick(rng, ("사흘", "닷새", "이틀", "일주일", "열흘") if event.topic != "도로 공사" else ("보름", "한 달", "두 달", "석 달", "3주")),
        hour=pick(rng, ("오후 2시", "오후 3시", "오전 11시", "오후 1시 30분", "오후 4시")) if event.topic != "축제" else pick(rng, ("7시", "6시 30분", "7시 30분")),
        n=_crowd(rng, event.topic), m=rng.randint(6, 60) * 10, nth=rng.randint(3, 28), floors=rng.randint(2, 5), books=f"{rng.randint(2, 12)}만 {rng.randint(1, 9)}천", seats=rng.randint(5, 30) * 10,
        close=rng.randint(7, 10), loan=rng.randint(5, 10), few=few, few_text=f"{few}명", minutes=minutes, minutes_text=f"{minutes}분", homes=homes, homes_text=f"{homes}가구", homes_text2=f"{homes}농가",
        tons=tons, tons_text=f"{tons}톤", low=low, high=high, gap=max(high - low, 5) if event.topic == "날씨" else rng.randint(8, 24), low_text=f"{low}도", high_text=f"{high}도", sky=sky, weather=weather,
        rain=rain, rain_text=f"{rain}퍼센트", diff=rng.randint(1, 5), percent=percent, percent_text=f"{percent}퍼센트", drop=rng.randint(3, 15), club=club, rival=rival, score=f"{low_score + margin} 대 {low_score}",
        player=_name(rng, world), wins=rng.randint(3, 15), rank=rng.randint(1, 5), meters=rng.randint(12, 90) * 10, near=rng.randint(3, 15) * 10, grade=rng.randint(1, 3), pupil=pick(rng, world.young).name,
        yes=yes, yes_text=f"{yes}명", no=rng.randint(1, 7), member=_name(rng, world), years=rng.randint(3, 18), artist=_name(rng, world), months=pick(rng, ("두", "석", "넉", "여섯")), fee=f"{rng.randint(3, 15) * 1000:,}",
        seats_few=rng.randint(4, 12), village=pick(rng, _VILLAGES), box=(box := pick(rng, (2, 3, 5, 10))), price="",
    )  # fmt: skip
    slots.update(winter=date.month in (11, 12, 1, 2), autumn=date.month in (9, 10, 11), mild=date.month in (3, 4, 5, 9, 10, 11))
    lowest, highest, unit = _MONEY.get(event.topic, (1, 9, "억"))
    slots["money"] = f"{rng.randint(lowest, highest) * (10 if unit == '만' else 1):,}{unit} 원"
    if event.topic == "농촌 소식":
        cheap, dear = _KILOS[slots["crop"]]
        if slots["crop"] == "수박":
            slots["box"] = box = 10
        slots["price"] = f"{rng.randint(cheap * 10, dear * 10) * box * 100:,}"
    if event.topic == "운동 경기":
        slots["city"] = next(name for name in places.CITIES if name.startswith(club.split()[0]))
        slots["place"] = "종합운동장" if slots["sport"] in ("축구", "야구", "하키") else "체육관"
    if event.topic == "시장 물가":
        slots["unit"], cheap, dear = _UNITS[slots["crop"]]
        slots["price"] = f"{rng.randint(cheap, dear) * 100:,}"
        slots["other"] = pick(rng, tuple(name for name in _UNITS if name != slots["crop"]))
    return slots


def _crowd(rng: random.Random, topic: str) -> str:
    if topic == "축제":
        return f"{rng.randint(1, 30)}만"
    if topic == "학교 소식":
        return f"{rng.randint(12, 80) * 10}"
    return f"{rng.randint(200, 4800):,}" if topic == "운동 경기" else f"{rng.randint(5, 95) * 100:,}"


def _score(rng: random.Random, sport: str) -> tuple[int, int]:
    """(points of the loser, margin) as they occur in the sport."""
    if sport == "농구":
        return rng.randint(58, 88), rng.randint(1, 18)
    if sport == "배구":
        return rng.randint(0, 2), 0
    if sport == "핸드볼":
        return rng.randint(18, 28), rng.randint(1, 6)
    return (rng.randint(0, 7), rng.randint(1, 5)) if sport == "야구" else (rng.randint(0, 2), rng.randint(1, 3))


def _leader(rng: random.Random, event: Event, slots: dict, world) -> str:
    name, city = _name(rng, world), slots["city"]
    head = f"{name} {city}장" if city.endswith("시") else f"{name} {city}수"
    titles = {
        "도서관": (f"{name} {slots['place']} 관장", head), "운동 경기": (f"{name} {slots['club']} 감독",), "학교 소식": (f"{name} {slots['place']} 교장", f"{name} 교장"), "의회": (f"{slots['member']} 의원", f"{name} 의장"),
        "봉사와 나눔": (f"{name} {slots.get('group', '')} 회장",), "전시와 공연": (f"{slots['artist']} 씨", f"{name} {slots['place']} 관장"), "도로 공사": (f"{name} {city} 도로과장", head), "날씨": (f"{name} 예보관",),
        "생활 안전": (f"{name} {city} 소방서장", f"{name} {city} 안전과장"), "농촌 소식": (f"{name} 이장", f"{name} {city} 농업기술센터 소장"), "시장 물가": (f"{name} {city} 경제과장", head),
    }  # fmt: skip
    return pick(rng, titles.get(event.topic, (head, f"{name} {city} 문화관광과장")))


def _speaker(rng: random.Random, event: Event, voice: str, world, said: str) -> str:
    person = next(p for p in iter(lambda: pick(rng, world.adults), None) if p.name not in said)
    young, elder = pick(rng, world.young), pick(rng, world.elders)
    adult = f"{person.name} 씨({person.age})"
    if event.topic == "학교 소식":
        return f"학부모 {person.name} 씨" if "우리 아이" in voice else f"행사에 참여한 {young.name} 학생"
    if event.topic == "봉사와 나눔":
        return f"도움을 받은 {elder.polite}"
    if event.topic == "농촌 소식":
        return pick(rng, (f"농민 {adult}", f"이곳에서 농사를 짓는 {adult}"))
    if "손님이 줄어" in voice or "가게 앞" in voice or "밖으로 나왔다" in voice:
        return f"상인 {adult}"
    if event.topic == "시장 물가":
        return f"장을 보러 나온 {adult}"
    return pick(rng, (f"주민 {adult}", f"시민 {adult}", f"{adult}", f"{pick(rng, ('회사원', '주부', '자영업자', '직장인'))} {adult}"))


@lru_cache(maxsize=64)
def _endings(topic: str) -> tuple[str, ...]:
    future = ("고 밝혔다", "고 말했다", "고 설명했다", "고 전했다", "고 강조했다", "고 덧붙였다")
    return future if topic not in ("운동 경기", "봉사와 나눔") else ("고 말했다", "고 소감을 밝혔다", "며 웃었다", "고 전했다")


def _quotes(rng: random.Random, event: Event, slots: dict, world) -> list[str]:
    lines = []
    if chance(rng, 0.75):
        leader = _leader(rng, event, slots, world)
        quotes = [q for q in event.quotes if ("겨울철" not in q or (slots["winter"] and slots["accident"] == "작은 불")) and ("안개" not in q or "안개" in slots["weather"])]
        lines.append(f"{josa(leader, '은/는')} {_said(render(rng, pick(rng, quotes), slots), pick(rng, _endings(event.topic)))}.")
    if event.topic != "날씨" and chance(rng, 0.5):
        voice = pick(rng, [v for v in event.voices if "태풍" not in v or slots["autumn"]])
        text = render(rng, voice, slots)
        speaker = _speaker(rng, event, voice, world, " ".join(lines))
        ending = pick(rng, ("고 말했다", "고 했다", "고 전했다", "고 털어놓았다" if "걱정" in text or "힘들" in text else "고 이야기했다"))
        lines.append(f"{josa(speaker, '은/는')} {_said(text, ending)}.")
    return lines


def _can_be_told(detail: str, slots: dict) -> bool:
    """Whether a detail can be true of this event."""
    if slots.get("accident") == "승강기 멈춤 사고" and any(word in detail for word in ("재산 피해", "가구", "소방차")):
        return False
    if slots.get("accident") == "가스 누출 신고" and "재산 피해" in detail:
        return False
    if "공사 구간은" in detail and slots["work"] in ("육교 철거 공사", "횡단보도 개선 공사"):
        return False
    if "올해 안에" in detail and slots["day"].startswith(("11월", "12월")):
        return False
    if detail.startswith("바람은") and "바람" in slots["weather"]:
        return False
    if "말랭이" in detail and slots["crop"] not in ("사과", "배", "포도", "복숭아", "딸기", "블루베리"):
        return False
    if "알이 굵고" in detail and slots["crop"] in ("쌀", "표고버섯", "인삼"):
        return False
    return "밀렸지만" not in detail or not slots["score"].endswith(" 0")


def _can_close(closing: str, slots: dict, said: str) -> bool:
    """A closing may only go on with what has been told."""
    if closing.startswith("할인 행사"):
        return "할인 행사" in said
    if "신청은" in closing:
        return slots["program"] in said
    if closing.startswith("조례는"):
        return "조례" in slots["bill"]
    if closing.startswith("월요일") or "다음 무대" in closing:
        return slots["what"].endswith(("전시회", "사진전", "작품전", "서예전")) == closing.startswith("월요일")
    return True


def _said(text: str, ending: str) -> str:
    """The ending behind a quotation: 다행이다”라고, 기쁘다”고."""
    return f"“{text}”{'라' if text.endswith('이다') else ''}{ending}"


def compose_news(rng: random.Random, world) -> tuple[str, str, str, Event, dict]:
    """(headline, byline or "", body, event, slots): also the source of reading passages."""
    event = pick(rng, EVENTS)
    slots = _slots(rng, event, world)
    if event.topic == "운동 경기" and slots["sport"] == "배구":
        slots["score"] = f"3 대 {_score(rng, '배구')[0]}"
    if event.topic == "운동 경기" and slots["sport"] == "탁구":
        slots["score"] = f"3 대 {rng.randint(0, 2)}"
    points = [int(number) for number in slots["score"].split(" 대 ")]
    close = points[0] - points[1] <= _CLOSE.get(slots.get("sport", ""), 1)
    headlines = [h for h in event.headlines if close or "접전" not in h]
    leads = [x for x in event.leads if "대피" not in x or slots["accident"] != "승강기 멈춤 사고"]
    headline, lead = render(rng, pick(rng, headlines), slots), render(rng, pick(rng, leads), slots)
    told = [d for d in event.details if _can_be_told(d, slots)]
    told = [d for d in told if "감기" not in d or (slots["gap"] > 9 and slots["mild"])]
    told = [d for d in told if close or not any(word in d for word in _CLOSE_WORDS)]
    order = sorted(rng.sample(range(len(told)), min(len(told), weighted(rng, ((2, 2), (3, 4), (4, 4), (5, 2))))))
    details = [render(rng, told[i], slots) for i in order]
    if not any("기준으로" in detail for detail in details):
        details = [detail.replace("같은 기간", "반면") for detail in details]
    if event.topic == "축제" and not any(f"{slots['do']} 같은" in detail for detail in details):  # a workshop nobody has heard of
        details = [detail for detail in details if "신청하면" not in detail]
    quotes = _quotes(rng, event, slots, world)
    said = " ".join((lead, *details))
    closings = [c for c in event.closings if _can_close(c, slots, said)]
    closing = [render(rng, pick(rng, closings), slots)] if closings and chance(rng, 0.65) else []
    if chance(rng, 0.5) or event.topic == "날씨":
        parts = [lead, *details, *quotes, *closing]
    else:
        parts = [lead, *details[:2], *quotes[:1], *details[2:], *quotes[1:], *closing]
    breaks = {i for i in range(2, len(parts)) if chance(rng, 0.3)} if chance(rng, 0.6) else ()
    body = parts[0] + "".join(("\n" if i in breaks else " ") + parts[i] for i in range(1, len(parts)))
    byline = ""
    if chance(rng, 0.25):
        byline = pick(rng, (f"{_name(rng, world)} 기자", f"[달빛신문] {_name(rng, world)} 기자", f"({slots['city']}) {_name(rng, world)} 기자"))
    return headline.replace("쌀 값", "쌀값"), byline, body.replace("쌀 값", "쌀값"), event, slots


# a question about a slot needs this in the text as well
_ASKED_OF = {"show": "무대에 오른다", "program": "개관 기념", "room": "1층에는", "other": "내렸다"}


def questions(rng: random.Random, event: Event, slots: dict, body: str) -> list[dict[str, str]]:
    """Question and answer for every slot whose value stands in the body."""
    found = []
    for question, slot in event.questions:
        answer = str(slots.get(slot, ""))
        answer = answer.partition("(")[0] if slot == "day" else answer
        if slot == "n":
            answer += " 명" if event.topic == "축제" else "명"
        if slot == "books":
            answer += " 권"
        if answer and answer in body and _ASKED_OF.get(slot, "") in body:
            found.append({"question": question, "answer": answer})
    return found


def make_news(rng: random.Random, world) -> Draft:
    """A note of four to ten sentences."""
    headline, byline, body, event, slots = compose_news(rng, world)
    head = chance(rng, 0.8)
    text = "\n".join(part for part in (headline if head else "", byline, body) if part)
    where = slots["place"] if slots["place"] in body else slots["city"]
    when = slots["day"].partition("(")[0]
    facts = {slot: str(slots[slot]) for _, slot in event.questions if str(slots.get(slot, "")) in body}
    return Draft(text, {"topic": event.topic, "where": where, "when": when if when in body else "", "facts": facts, "qa": questions(rng, event, slots, body)})


KINDS = {"news": (make_news, 9.0)}
