"""What the chat's user may ask about each kind of entry, and how the assistant answers from the entry's facts.

An :class:`Intent` has ways of asking it cold (``asks``), ways of asking it as a follow-up, when the subject is already
known (``follows``), ways of answering, and a short answer for question-answer labs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ..conjugation import adjective, conjugate, honorific, past
from ..facts.types import Animal, Day, Dish, Entry, Feeling, Health, Hobby, Job, Plant, Thing, Town, Word
from ..korean import josa
from ..phrases import advise, comma_listed, listed, sentence, steps_polite
from ..templates import pick

Slots = dict[str, object]


@dataclass(frozen=True)
class Intent:
    asks: tuple[str, ...]
    answers: tuple[str, ...]
    follows: tuple[str, ...] = ()
    short: str = ""  # template of the short answer, may be empty
    needs: str = ""  # name of a slot that must not be empty


def _common(rng: random.Random, entry: Entry) -> Slots:
    facts = list(entry.facts)
    rng.shuffle(facts)
    # One fact may be all there is: the second slot then repeats nothing, templates use f1 only through ``more``.
    more = f" 또 {conjugate(facts[1], '아요')}." if len(facts) > 1 else ""
    fact = facts[0] if facts else ""
    kind_words = {word for word in entry.is_a.split() if len(word) > 1}
    movable = [clause for clause in facts if (not clause.endswith("이다") or clause.endswith(("보이다", "쓰이다"))) and not kind_words & _stems(clause)]
    *before, _ = entry.is_a.split()
    long = len(before) > 1 or any(word.endswith(("는", "인")) for word in before)  # 다리가 여덟 개인 바다 동물: enough for one noun
    as_modifier = conjugate(movable[0], "는") + " " if movable and not long else ""
    if as_modifier:  # what stands before the noun is not told again behind it
        rest = [clause for clause in facts if clause != movable[0]]
        more = f" 또 {conjugate(rest[0], '아요')}." if rest else ""
    if not as_modifier and facts:
        more = f" {conjugate(facts[0], '아요')}."
    return {"n": entry.name, "is": entry.is_a, "f": fact, "fm": as_modifier, "more": more, "both": _both(facts)}


def _stems(clause: str) -> set[str]:
    """The words of a clause, the last one as a modifier: so that 바람을 내는 바람을 내는 기계 is never said."""
    *words, last = clause.split()
    return {*words, conjugate(last, "는")}


def _both(facts: list[str]) -> str:
    if not facts:
        return ""
    if len(facts) == 1:
        return conjugate(facts[0], "아요")
    return f"{conjugate(facts[0], '고')}, {conjugate(facts[1], '아요')}"


_VERBS = {"송편": "빚다", "만두": "빚다", "국물 요리": "끓이다", "국": "끓이다", "죽": "끓이다", "라면": "끓이다", "칼국수": "끓이다", "수제비": "끓이다", "부침 요리": "부치다", "나물": "무치다",
          "배추김치": "담그다", "깍두기": "담그다", "김밥": "싸다/동", "계란찜": "찌다", "멸치볶음": "볶다", "제육볶음": "볶다", "볶음밥": "볶다", "고등어구이": "굽다", "호떡": "굽다", "삼계탕": "끓이다", "카레": "끓이다"}  # fmt: skip


MAIN_DISHES = ("국물 요리", "국", "보양식", "면 요리", "밥 요리", "고기 요리", "밀가루 음식", "분식", "생선 요리", "부침 요리")


def dish_slots(rng: random.Random, dish: Dish) -> Slots:
    slots = _common(rng, dish)
    slots |= {"ing": comma_listed(dish.ingredients), "i0": dish.ingredients[0], "i1": dish.ingredients[1], "taste": dish.taste,
              "tip": dish.tip, "when": dish.when, "recipe": steps_polite(rng, dish.steps), "step": dish.steps[0],
              "last": dish.steps[-1], "count": dish.counter, "main": dish.is_a in MAIN_DISHES, "v": _VERBS.get(dish.name) or _VERBS.get(dish.is_a, "만들다")}  # fmt: skip
    return slots


def town_slots(rng: random.Random, town: Town) -> Slots:
    slots = _common(rng, town)
    places, foods = rng.sample(town.places, len(town.places)), rng.sample(town.foods, len(town.foods))
    slots |= {"region": town.region, "places": listed(places[:2]), "p0": places[0], "foods": listed(foods[:2]), "food": foods[0],
              "act": town.activity, "act_try": conjugate(town.activity, "으세요" if town.activity.endswith(("보다", "즐기다")) else "아 보세요"), "season": town.season}  # fmt: skip
    return slots


def animal_slots(rng: random.Random, animal: Animal) -> Slots:
    slots = _common(rng, animal)
    legs = {0: "다리가 없어요", 2: "다리가 두 개예요", 4: "다리가 네 개예요", 6: "다리가 여섯 개예요", 8: "다리가 여덟 개예요"}
    slots |= {"food": animal.food, "home": animal.home, "sound": animal.sound, "sq": f"‘{animal.sound}’", "baby": animal.baby, "legs": legs[animal.legs]}
    return slots


def plant_slots(rng: random.Random, plant: Plant) -> Slots:
    slots = _common(rng, plant)
    colour_noun = plant.color if plant.color.endswith("색") else plant.color + " 빛깔"
    slots |= {"season": "일 년 내내" if plant.season == "사계절" else plant.season + "에",
              "colour": plant.color, "colour_n": colour_noun,
              "bloom": "나다" if plant.edible else "피다", "count": plant.counter}  # fmt: skip
    if plant.counter == "그루":
        slots["bloom"] = "푸르다" if plant.season in ("사계절", "여름") else "물들다"
    if plant.name == "선인장":
        slots["bloom"] = "자라다"
    return slots


_PORTABLE = ("우산", "연필", "지우개", "가위", "빗", "책", "공책", "가방", "지갑", "열쇠", "장갑", "모자", "목도리", "안경", "전화기", "사진기", "지도", "망치", "연")


def thing_slots(rng: random.Random, thing: Thing) -> Slots:
    return _common(rng, thing) | {"use": thing.use, "place": thing.place, "care": thing.care, "count": thing.counter,
                                    "portable": thing.name in _PORTABLE}  # fmt: skip


def job_slots(rng: random.Random, job: Job) -> Slots:
    return _common(rng, job) | {"does": job.does, "place": job.place, "needs": job.needs, "tool": job.tool}


def _say(rng: random.Random, clause: str) -> str:
    return sentence(advise(rng, clause))


def feeling_slots(rng: random.Random, feeling: Feeling) -> Slots:
    advice, cause = rng.sample(feeling.advice, 2), pick(rng, feeling.causes)
    return _common(rng, feeling) | {
        "pred": feeling.predicate, "cause": cause, "why": conjugate(cause, "아서"), "cause_past": past(cause),
        "comfort": pick(rng, feeling.comfort), "a_say": _say(rng, advice[0]), "b_": _say(rng, advice[1]), "a_": advice[0],
    }  # fmt: skip


_DONE = ("감기", "발목 부상", "가벼운 화상", "가벼운 상처", "더위 먹음")  # complaints that are said in the past: 감기에 걸렸어요


def health_slots(rng: random.Random, health: Health) -> Slots:
    advice, complaint = rng.sample(health.advice, 2), health.complaint
    done = health.name in _DONE
    said = past(complaint) if done else complaint
    return _common(rng, health) | {
        "c": complaint, "c_now": conjugate(said, "아요"), "c_bg": conjugate(said, "는데"), "c_when": conjugate(said, "을"),
        "c_quote": conjugate(said, "ㄴ다고"), "since": pick(rng, ("어제", "오늘 아침에", "방금") if done else ("어제부터", "아침부터", "며칠째", "오늘따라")),
        "c_so": conjugate(honorific(complaint), "았군요") if done else conjugate(f"{honorific(complaint)}/{'형' if adjective(complaint) else '동'}", "는군요"),
        "cause": pick(rng, health.causes), "a_say": _say(rng, advice[0]), "a": advise(rng, advice[0]), "b_": _say(rng, advice[1]),
        "doctor": health.doctor, "a_": advice[0], "why_ok": not done or health.name == "감기",
    }  # fmt: skip


def day_slots(rng: random.Random, day: Day) -> Slots:
    customs = rng.sample(day.customs, 2)
    season = day.is_a == "계절"
    return _common(rng, day) | {"date": day.date, "foods": listed(day.foods) if day.foods else "", "c0": customs[0], "c1": customs[1],
                                "greet": day.greeting, "season": season, "dw": "때" if season else "날", "when": "" if season else day.date}  # fmt: skip


def hobby_slots(rng: random.Random, hobby: Hobby) -> Slots:
    return _common(rng, hobby) | {"doing": hobby.doing, "tools": listed(hobby.tools), "benefit": hobby.benefit,
                                  "begin": hobby.beginner, "begin_say": _say(rng, hobby.beginner), "place": hobby.place}  # fmt: skip


def word_slots(rng: random.Random, word: Word) -> Slots:
    meaning = word.meaning
    meant = f"{meaning}이에요" if meaning.endswith("뜻") else f"{josa(meaning, '을/를')} 뜻해요"
    if word.name == "시나브로":
        meant = "‘모르는 사이에 조금씩’이라는 뜻이에요"
    elif word.name == "다솜":
        meant = "‘사랑’을 뜻하는 옛말이에요"
    return {"n": word.name, "is": word.is_a, "meant": meant, "example": word.example, "opposite": word.opposite, "oq": f"‘{word.opposite}’", "meaning": word.meaning,
            "quoted": f"‘{word.name}’"}  # fmt: skip


@dataclass(frozen=True)
class Topic:
    table: str  # attribute of World
    slots: Callable[[random.Random, Entry], Slots]
    intents: tuple[Intent, ...]
    weight: float


def topics() -> tuple[Topic, ...]:
    """All subject topics; the intents are in :mod:`.chat_intents` and :mod:`.chat_intents_life`."""
    from . import chat_intents as i
    from . import chat_intents_life as j

    return (
        Topic("dishes", dish_slots, i.DISH, 16),
        Topic("towns", town_slots, i.TOWN, 13),
        Topic("animals", animal_slots, i.ANIMAL, 11),
        Topic("plants", plant_slots, i.PLANT, 7),
        Topic("things", thing_slots, j.THING, 8),
        Topic("jobs", job_slots, j.JOB, 8),
        Topic("feelings", feeling_slots, j.FEELING, 10),
        Topic("health", health_slots, j.HEALTH, 10),
        Topic("days", day_slots, j.DAY, 7),
        Topic("hobbies", hobby_slots, j.HOBBY, 9),
        Topic("words", word_slots, j.WORD, 9),
    )
