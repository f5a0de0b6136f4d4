"""Sentence pairs for natural-language inference: does the second sentence follow from the first?

Truth: ``premise``, ``hypothesis``, ``label`` (entailment, neutral, contradiction).
"""

from __future__ import annotations

import random

from ..content import places
from ..content.pairs import FRAMES
from ..draft import Draft
from ..templates import render
from .diary import DISHES, SEA_TOWNS
from .phrases import chance, pick

LABELS = ("entailment", "neutral", "contradiction")
_KOREAN = {"entailment": ("함의", "참", "맞다"), "neutral": ("중립", "알 수 없음", "알 수 없다"), "contradiction": ("모순", "거짓", "틀렸다")}
_WHY = {
    "entailment": ("첫 문장이 참이면 둘째 문장도 [반드시|언제나] 참이다.", "첫 문장에서 둘째 문장을 이끌어 낼 수 있다.", "첫 문장의 내용에 둘째 문장의 내용이 들어 있다."),
    "neutral": ("첫 문장만으로는 둘째 문장이 맞는지 알 수 없다.", "둘째 문장은 맞을 수도 있고 틀릴 수도 있다.", "첫 문장에는 그런 내용이 [없다|나오지 않는다]."),
    "contradiction": ("두 문장은 함께 참일 수 없다.", "첫 문장이 참이면 둘째 문장은 거짓이다.", "둘째 문장은 첫 문장과 어긋난다."),
}
THINGS = ("우산", "자전거", "가방", "모자", "시계", "장갑", "의자", "냄비", "공책", "연필", "책상", "이불", "신발", "목도리", "배낭", "화분", "거울", "수첩", "라디오", "카메라", "기타", "돗자리", "텐트", "안경", "지갑", "손전등", "컵", "빗자루", "사다리", "망치")
ANIMALS = ("고양이", "토끼", "닭", "오리", "염소", "양", "소", "돼지", "거위", "사슴", "다람쥐", "칠면조")
_FARMS = ("솔밭농장", "달빛목장", "샘골농장", "한들목장", "강변농장", "꽃뫼농장", "양지목장", "너른들농장", "물레방아농장", "하늘목장")
_COLORS = ("빨간", "파란", "노란", "하얀", "검은", "초록", "보라", "분홍", "갈", "회")
_WEEKDAYS = "월화수목금토일"
_SEASONS = ("봄", "여름", "가을", "겨울")


def pair_slots(rng: random.Random, world) -> dict:
    """Everything a frame may ask for, all different where they must be."""
    first, second = pick(rng, world.people), pick(rng, world.people)
    while second.name == first.name or second.age == first.age:
        second = pick(rng, world.people)
    older, younger = (first, second) if first.age > second.age else (second, first)
    worker, worker2 = pick(rng, world.adults), pick(rng, world.adults)
    while worker2.job == worker.job or worker2.name == worker.name:
        worker2 = pick(rng, world.adults)
    n, hour = rng.randint(12, 60), rng.randint(6, 9)
    food, food2 = rng.sample(DISHES, 2)
    thing, thing2 = rng.sample(THINGS, 2)
    hobby2 = pick(rng, world.hobbies).name
    while hobby2 == first.hobby:
        hobby2 = pick(rng, world.hobbies).name
    pages = rng.randint(120, 480)
    color, color2 = rng.sample(_COLORS, 2)
    day, day2 = rng.sample(_WEEKDAYS, 2)
    return {
        "a": first.name, "b": second.name, "place": pick(rng, pick(rng, (places.PARKS, places.LIBRARIES, places.MARKETS, places.HALLS, places.SCHOOLS))), "town": first.town, "snow_town": pick(rng, SEA_TOWNS + places.INVENTED_TOWNS), "park": pick(rng, places.PARKS), "hall": pick(rng, places.LIBRARIES + places.HALLS), "market": pick(rng, places.MARKETS), "farm": pick(rng, _FARMS),
        "older": older.name, "younger": younger.name, "gap": older.age - younger.age, "w1": worker.name, "w2": worker2.name, "avoid": first.disliked, "liked": first.food, "pages": pages, "more_pages": pages + rng.randint(20, 150),

        "food": food, "food2": food2, "thing": thing, "thing2": thing2, "animal": pick(rng, ANIMALS), "job": worker.job, "job2": worker2.job, "hobby": first.hobby, "hobby2": hobby2, "day": day, "day2": day2, "hour": hour,
        "hour2": hour + rng.randint(1, 3), "evening": rng.randint(6, 9), "n": n, "more": n + rng.randint(2, 20), "less": n - rng.randint(2, 10), "few": pick(rng, ("두", "세", "네", "다섯")),
        "price": f"{rng.randint(6, 14) * 1000:,}", "season": pick(rng, _SEASONS), "color": color, "color2": color2,
    }  # fmt: skip


def compose_pair(rng: random.Random, world) -> tuple[str, str, str]:
    """(premise, hypothesis, label); the labels are equally likely."""
    frame, slots, label = pick(rng, FRAMES), pair_slots(rng, world), pick(rng, LABELS)
    hypotheses = {"entailment": frame.entailed, "neutral": frame.neutral, "contradiction": frame.contradicted}[label]
    return render(rng, pick(rng, frame.premises), slots), render(rng, pick(rng, hypotheses), slots), label


def make_sentence_pair(rng: random.Random, world) -> Draft:
    """One pair in one of several layouts, most with the label, some with a reason."""
    premise, hypothesis, label = compose_pair(rng, world)
    names, style = _KOREAN[label], rng.random()
    why = " " + render(rng, pick(rng, _WHY[label])) if chance(rng, 0.5) else ""
    if style < 0.45:
        text = f"전제: {premise}\n가설: {hypothesis}\n관계: {names[0]}" + (f"\n까닭:{why}" if why else "")
    elif style < 0.65:
        text = f"다음 두 문장을 읽고 둘째 문장이 맞는지 답하시오.\n(1) {premise}\n(2) {hypothesis}\n답: {names[1]}" + (f".{why}" if why else "")
    elif style < 0.85:
        text = f"문장 1: {premise}\n문장 2: {hypothesis}\n판단: {names[0]}({names[1]})" + (f"\n설명:{why}" if why else "")
    else:
        text = f"“{premise}” 이 말이 사실일 때 “{hypothesis}”라는 말은 {names[2]}." + why
    return Draft(text, {"premise": premise, "hypothesis": hypothesis, "label": label})


KINDS = {"sentence_pair": (make_sentence_pair, 6.0)}
