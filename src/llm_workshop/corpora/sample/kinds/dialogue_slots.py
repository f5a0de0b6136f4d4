"""Slots of the dialogue scripts, by subject."""

from __future__ import annotations

import random

from ..conjugation import adjective, conjugate, honorific, past
from ..korean import counter, money, sino
from ..phrases import comma_listed
from ..templates import pick
from ..world import World
from . import story_words as words

# In the order of the day, so that of two times the second is the later one.
_TIMES = ("열 시", "열 시 반", "열한 시", "한 시 반", "두 시", "세 시", "네 시", "다섯 시", "여섯 시 반", "일곱 시")
_EVENINGS = ("다섯 시 반", "여섯 시", "여섯 시 반", "일곱 시", "일곱 시 반")
_ILLNESSES = ("감기", "두통", "복통", "소화 불량", "기침", "목 통증", "콧물", "열", "불면", "눈의 피로", "어깨 결림", "허리 통증")
_MEETING_PLACES = ("도서관", "시장", "버스 정류장", "동네 책방", "빵집", "기차역", "공원", "미술관", "체육관", "영화관", "지하철역", "분수대")
_MEALS = ("국물 요리", "면 요리", "밥 요리", "고기 요리", "밀가루 음식", "분식", "보양식")
_PORTABLE = ("우산", "가방", "지갑", "장갑", "모자", "목도리", "공책", "필통", "물통", "수첩", "안경집", "이어폰", "손수건", "머리띠", "도시락통")
_LENDABLE = ("우산", "연필", "지우개", "가위", "책", "사진기", "장갑", "모자", "볼펜", "풀", "자", "충전기", "계산기", "공책", "색연필", "돗자리", "물감", "사전")
_GOOD_NEWS = ("시험에 합격하다", "대회에서 상을 받다", "원하던 학교에 붙다", "발표를 잘 마치다", "처음으로 일등을 하다", "오래 준비한 전시회를 열게 되다", "조카가 태어나다",
              "잃어버린 강아지를 찾다", "글짓기 대회에서 뽑히다", "노래 대회 본선에 나가게 되다", "할머니가 퇴원하시다", "새집으로 이사하게 되다", "달리기 기록을 깨다")  # fmt: skip
_DAYS = ("월요일", "화요일", "수요일", "목요일", "금요일", "토요일", "일요일")


def town(rng: random.Random, world: World) -> dict:
    entry = pick(rng, world.towns)
    facts = [fact for fact in entry.facts if not fact.endswith("이다")] or list(entry.facts)
    return {"t": entry.name, "spot": pick(rng, entry.places), "food": pick(rng, entry.foods), "act": entry.activity, "fact": pick(rng, facts),
            "region": entry.region, "season": entry.season}  # fmt: skip


def dish(rng: random.Random, world: World) -> dict:
    entry, other = rng.sample(world.dishes, 2)
    return {"d": entry.name, "d2": other.name, "taste": entry.taste, "taste2": other.taste, "ing": comma_listed(entry.ingredients[:3]), "i0": entry.ingredients[0],
            "s0": entry.steps[0], "s1": entry.steps[1], "last": entry.steps[-1], "tip": entry.tip, "when": entry.when}  # fmt: skip


def lunch(rng: random.Random, world: World) -> dict:
    """Two dishes that one orders or eats as a meal."""
    one, two = rng.sample([d for d in world.dishes if d.is_a in _MEALS], 2)
    return {"d": one.name, "d2": two.name, "taste": one.taste, "taste2": two.taste, "ing": comma_listed(one.ingredients[:3])}


def breakfast(rng: random.Random, world: World) -> dict:
    return {"d": pick(rng, [d for d in world.dishes if d.is_a in ("국", "밥 요리", "반찬", "국물 요리")]).name}


def hobby(rng: random.Random, world: World) -> dict:
    entry = pick(rng, world.hobbies)
    return {"h": entry.name, "doing": entry.doing, "benefit": entry.benefit, "begin": entry.beginner, "tool": entry.tools[0], "hplace": entry.place}


def illness(rng: random.Random, world: World) -> dict:
    """A complaint that is no injury: one asks whether the other has been overdoing it."""
    entry = world.entry(pick(rng, _ILLNESSES))
    done = entry.name == "감기"
    said = past(entry.complaint) if done else entry.complaint
    first, second = rng.sample([advice for advice in entry.advice if not advice.endswith("않다")], 2)
    lifted = honorific(entry.complaint)
    hint = "형" if adjective(entry.complaint) else "동"
    return {"c": said, "cq": past(lifted) if done else f"{lifted}/{hint}", "ad": first, "ad2": second, "doctor": entry.doctor,
            "since": pick(rng, ("어제", "며칠 전에", "지난 주말에") if done else ("어제부터", "오늘 아침부터", "며칠 전부터", "아까부터"))}  # fmt: skip


def feeling(rng: random.Random, world: World) -> dict:
    entry = pick(rng, [f for f in world.feelings if not f.good])
    first, second = rng.sample(entry.advice, 2)
    cause = pick(rng, entry.causes)
    return {"pred": entry.predicate, "cause_s": past(cause), "cause": past(cause), "why": conjugate(cause, "아서"), "ad": first, "ad2": second}


def good(rng: random.Random, world: World) -> dict:
    cause = pick(rng, _GOOD_NEWS)
    return {"pred": pick(rng, ("기쁘다", "행복하다", "뿌듯하다", "신나다", "기분이 좋다")), "cause_s": past(cause), "why": conjugate(cause, "아서")}


def thing(rng: random.Random, world: World) -> dict:
    name = pick(rng, _PORTABLE)
    place, other = rng.sample(words.PLACES, 2)
    colour = pick(rng, ("검은색", "파란색", "빨간색", "초록색", "하얀색", "노란색", "회색", "갈색"))
    return {"thing": name, "thing_is": f"{colour} {name}이다", "lent": pick(rng, _LENDABLE), "place": place, "place2": other, "colour": colour}


def time(rng: random.Random, world: World) -> dict:
    day, day2 = rng.sample(_DAYS, 2)
    first = rng.randrange(len(_TIMES) - 2)
    second = first + rng.randint(1, 2)
    evening, later = sorted(rng.sample(range(len(_EVENINGS)), 2))
    return {"day": day, "day2": day2, "time": _TIMES[first], "time2": _TIMES[second], "evening": _EVENINGS[evening], "evening2": _EVENINGS[later], "mplace": pick(rng, _MEETING_PLACES), "min": f"{sino(5 * rng.randint(1, 6))} 분"}


def shop(rng: random.Random, world: World) -> dict:
    from .chat_lines import PRICED

    name, unit, low, high = pick(rng, PRICED)
    price, count = 500 * rng.randint(low, high), rng.randint(2, 6)
    given = (price * count // 10000 + 1) * 10000
    return {"g": name, "one": counter(1, unit), "n": counter(count, unit), "price": money(price), "total": money(price * count), "given": money(given),
            "change": money(given - price * count)}  # fmt: skip


def pet(rng: random.Random, world: World) -> dict:
    from ..world import PET_NAMES

    kind = pick(rng, ("강아지", "고양이", "토끼", "햄스터", "거북이", "앵무새"))
    name = pick(rng, PET_NAMES)
    return {"pet": kind, "petname": name, "petname_is": name + "이다", "months": counter(rng.randint(2, 11), "달"), "petfood": world.entry(kind).food, "petfact": pick(rng, world.entry(kind).facts)}


def way(rng: random.Random, world: World) -> dict:
    goal, mark, mark2 = rng.sample(("우체국", "도서관", "병원", "약국", "시장", "기차역", "버스 터미널", "은행", "초등학교", "시청", "박물관", "수영장", "경찰서", "빵집", "편의점", "꽃집", "서점", "공원"), 3)
    return {"goal": goal, "mark": mark, "mark2": mark2, "walk": f"{sino(pick(rng, (10, 15, 20, 25)))} 분", "side": pick(rng, ("오른쪽", "왼쪽")), "bus": str(rng.randint(1, 900)), "stops": counter(rng.randint(2, 7), "정거장")}


def job(rng: random.Random, world: World) -> dict:
    entry = pick(rng, world.jobs)
    return {"job": entry.name, "does": entry.does, "needs": entry.needs, "jobplace": entry.place}


def weather(rng: random.Random, world: World) -> dict:
    kind, wear, plan = pick(rng, (
        ("비가 오다", "우산을 챙기다", "집에서 영화를 보다"), ("눈이 오다", "장갑을 끼다", "눈사람을 만들다"), ("춥다", "목도리를 두르다", "따뜻한 국을 끓이다"),
        ("덥다", "모자를 쓰다", "계곡에 가다"), ("바람이 많이 불다", "겉옷을 입다", "연을 날리다"), ("날이 맑다", "얇은 옷을 입다", "공원을 걷다"), ("먼지가 심하다", "마스크를 쓰다", "집에서 쉬다"), ("안개가 짙다", "밝은 옷을 입다", "집에서 책을 읽다"),
    ))  # fmt: skip
    return {"w": kind, "wear": wear, "plan": plan}


def gift(rng: random.Random, world: World) -> dict:
    first, second = rng.sample(("책", "목도리", "화분", "손수건", "장갑", "찻잔", "스카프", "머그잔", "필통", "모자", "양말", "사진첩", "향초", "보온병", "일기장"), 2)
    who = pick(rng, ("사촌", "이모", "동생", "어머니", "아버지", "할머니", "친구", "선생님", "옆집 아주머니"))
    elder = who not in ("사촌", "동생", "친구")
    return {"g1": first, "g2": second, "who": who, "bday": "생신" if elder else "생일", "like": "좋아하시다" if elder else "좋아하다", "joy": "기뻐하시다" if elder else "기뻐하다"}


def moving(rng: random.Random, world: World) -> dict:
    return {"since": pick(rng, ("그저께", "지난 토요일에", "엊그제", "사흘 전에")), "present": pick(rng, ("시루떡", "백설기", "귤", "사과", "꿀떡", "찹쌀떡", "딸기")), "day": pick(rng, _DAYS),
            "errand": pick(rng, ("열쇠 복사", "구두 수선", "사진 인화", "옷 수선", "강아지 미용", "컴퓨터 수리")), "mark": pick(rng, ("약국", "우체국", "놀이터", "꽃집", "편의점", "은행"))}  # fmt: skip


def parcel(rng: random.Random, world: World) -> dict:
    item, fault = pick(rng, (
        ("찻잔 세트", "손잡이가 떨어져 있어요"), ("운동화", "크기가 서로 달라요"), ("책장", "나사가 두 개나 모자라요"), ("스웨터", "소매 끝 올이 풀려 있어요"), ("전기 주전자", "불이 들어오지 않아요"), ("벽시계", "유리에 금이 갔어요"),
        ("이불", "주문한 것과 무늬가 달라요"), ("화분", "받침이 깨져 있어요"), ("손전등", "건전지가 들어 있지 않아요"), ("블록 장난감", "설명서가 빠져 있어요"),
    ))  # fmt: skip
    return {"item": item, "fault": fault, "number": f"{rng.randint(2, 9)}{rng.randint(100, 999)}-{rng.randint(1000, 9998)}", "hub": f"{pick(rng, [t for t in world.towns if t.real]).name} 물류 창고"}


def haircut(rng: random.Random, world: World) -> dict:
    return {"wait": f"{sino(pick(rng, (5, 10, 15, 20)))} 분", "clock": pick(rng, _TIMES), "style": pick(rng, (
        "전체적으로 조금만 다듬어 주세요", "귀가 보이게 짧게 잘라 주세요", "어깨에 닿을 만큼만 남겨 주세요", "앞머리를 눈썹 위로 잘라 주세요", "굵게 물결치는 파마를 하고 싶어요", "갈색으로 물들이고 싶어요", "손질하기 편하게 해 주세요", "여름이니까 시원하게 쳐 주세요"))}  # fmt: skip


def repair(rng: random.Random, world: World) -> dict:
    fault, cause = pick(rng, (
        ("바퀴가 자꾸 삐걱거려요", "축에 모래가 잔뜩 끼었네요"), ("브레이크가 잘 안 잡혀요", "고무가 다 닳았네요"), ("페달을 밟으면 헛돌아요", "사슬이 늘어났네요"), ("앞바퀴에 바람이 금방 빠져요", "작은 못이 박혀 있네요"),
        ("안장이 흔들려요", "조임 나사가 헐거워졌네요"), ("변속이 안 돼요", "줄이 녹슬었네요"), ("손잡이가 비뚤어졌어요", "고정쇠가 돌아갔네요"), ("뒤에서 덜그럭 소리가 나요", "흙받기가 빠질락 말락 하네요"),
    ))  # fmt: skip
    return {"fault": fault, "cause": cause, "since": pick(rng, ("어제", "그저께", "지난주", "사흘 전")), "wait": f"{sino(pick(rng, (10, 20, 30)))} 분", "price": money(1000 * rng.randint(5, 25))}


def subject(rng: random.Random, world: World) -> dict:
    name, topic = pick(rng, (
        ("수학", "분수의 나눗셈"), ("수학", "도형의 넓이"), ("과학", "물의 순환"), ("과학", "전기 회로"), ("과학", "소화 기관"), ("역사", "삼국의 전성기"), ("역사", "조선의 과학 기술"), ("국어", "높임법"), ("국어", "띄어쓰기"), ("영어", "불규칙 동사"),
        ("사회", "선거의 원칙"), ("사회", "지도의 축척"), ("음악", "장단의 종류"), ("과학", "달의 모양 변화"), ("국어", "속담의 뜻"), ("사회", "인구 이동"),
    ))  # fmt: skip
    return {"s": name, "topic": topic}


def chore(rng: random.Random, world: World) -> dict:
    first, second = rng.sample(("설거지", "빨래", "걸레질", "욕실 청소", "창문 닦기", "분리배출", "이불 털기", "신발장 정리", "화분 물 주기", "냉장고 정리"), 2)
    return {"c1": first, "c2": second}


def dream(rng: random.Random, world: World) -> dict:
    return {"place": pick(rng, ("운동장", "바닷속", "구름 위", "초콜릿 공장", "달나라", "옛날 궁궐", "거대한 도서관", "눈 덮인 사막")), "creature": pick(rng, ("커다란 고래", "말하는 부엉이", "날개 달린 토끼", "황금 잉어", "보라색 코끼리", "불을 뿜는 용", "집채만 한 거북이", "춤추는 문어")),
            "said": pick(rng, ("“오늘은 수업이 없단다!”", "“너희를 오래 기다렸어.”", "“떡볶이 좀 나눠 줄래?”", "“이 열쇠를 잃어버리면 안 돼.”", "“비밀을 하나 알려 주마.”", "“내 이름을 맞혀 보렴.”"))}  # fmt: skip


SLOTS = {f.__name__: f for f in (town, dish, lunch, breakfast, hobby, illness, feeling, good, thing, time, shop, pet, way, job, weather, gift, moving, parcel, haircut, repair, subject, chore, dream)}
