"""Short stories: a hero with a want, an event, a turn, an ending; fourteen plots, three ways of telling."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import lru_cache

from ..conjugation import conjugate
from ..draft import Draft
from ..korean import counter, particle
from ..people import Person
from ..templates import pick, render
from ..world import PET_NAMES, World
from . import story_plots as plots
from . import story_words as words

Slots = dict[str, object]
# "_" asks for the uncontracted forms of written Korean: 주었다, 되었다, 보았다
_STYLES = (("_았다", 0.55), ("았어요", 0.25), ("_았습니다", 0.2))
_VERB = re.compile(r"<([^>]+)>")


@lru_cache(maxsize=1 << 14)
def told(source: str, ending: str) -> str:
    """The template with its <verbs> in the past of the style: "<가다>." -> "{=가다~았다}."."""

    def verb(match: re.Match[str]) -> str:
        inside = match.group(1)
        if inside == "이다":  # behind a noun: 날<이다> -> 날이었다
            return "\0"
        return f"{{{inside[1:-1]}~{ending}}}" if inside.startswith("{") else f"{{={inside}~{ending}}}"

    text = _VERB.sub(verb, source)
    copula = {"_았다": "이었다/였다", "았어요": "이었어요/였어요", "_았습니다": "이었습니다/였습니다"}[ending]
    # A slot before the copula takes the pair itself, a plain noun is decided now.
    text = re.sub(r"\{([\w.]+)\}\0", lambda m: f"{{{m.group(1)}:{copula}}}", text)
    return re.sub(r"(\S)\0", lambda m: m.group(1) + particle(m.group(1), copula), text)


def tell(rng: random.Random, beats, slots: Slots, ending: str) -> list[str]:
    """One alternative of each beat, filled."""
    return [render(rng, told(pick(rng, beat), ending), slots) for beat in beats]


def _elder(rng: random.Random) -> str:
    return pick(rng, ("할머니", "할아버지", "어머니", "아버지", "이모", "삼촌"))


def base_slots(rng: random.Random, world: World, hero: Person) -> Slots:
    """What every story may speak of; all names differ."""
    friends = [p for p in (pick(rng, world.young) for _ in range(6)) if p.given != hero.given and abs(p.age - hero.age) <= 3]
    friend = friends[0] if friends else next(p for p in world.young if p.given != hero.given)
    home, away = rng.sample(world.towns, 2)
    season = pick(rng, ("봄", "여름", "가을", "겨울"))
    weather, noun, fact = pick(rng, words.WEATHER[season])
    dish = pick(rng, world.dishes)
    while dish.name in words.NOT_COOKED_BY_CHILDREN:
        dish = pick(rng, world.dishes)
    hobby = world.entry(hero.hobby)
    return {
        "p": hero, "q": friend, "town": home.name, "town2": away.name, "region": away.region, "spot": away.places[0], "food": away.foods[0],
        "act": away.activity, "townmod": _modifier(away.facts), "season": season, "weather": weather, "weather_noun": noun, "weather_fact": fact,
        "time": pick(rng, words.TIMES[season]), "who": "아이" if hero.age <= 12 else "학생", "trait": "", "hobby": hobby.name, "hobby_tool": pick(rng, hobby.tools),
        "place": pick(rng, words.PLACES), "thing": pick(rng, words.TREASURES), "snack": pick(rng, words.SNACKS), "drink": pick(rng, words.DRINKS),
        "elder": _elder(rng), "giver": _elder(rng), "helper": pick(rng, words.HELPERS), "neighbor": pick(rng, words.NEIGHBORS),
        "fruit": pick(rng, words.FRUITS), "dish": dish.name, "i0": dish.ingredients[0], "i1": next(item for item in dish.ingredients[1:] if item not in ("물", "소금", "설탕", "밥")), "step0": dish.steps[0],
        "step1": dish.steps[1], "last": dish.steps[-1], "tip": dish.tip, "count": dish.counter, "rival": pick(rng, words.RIVALS),
        "fragile": pick(rng, words.FRAGILE), "smallchild": pick(rng, words.SMALL_CHILDREN), "when2": pick(rng, words.SOON), "when3": pick(rng, words.SCHOOL_TRIPS), "near": pick(rng, ("공원", "놀이터", "시장", "학교", "강가", "뒷산", "도서관", "약수터")), "outside": pick(rng, words.OUTSIDE), "hobbyplace": hobby.place,
        "thelper": pick(rng, words.TOWN_HELPERS),
    }  # fmt: skip


def _modifier(facts) -> str:
    movable = [clause for clause in facts if not clause.endswith("이다") or clause.endswith("보이다")]
    return conjugate(movable[0], "는") + " " if movable else "이름난 "


def _plain(beats) -> Callable[[random.Random, World, Slots, str], list[str]]:
    return lambda rng, world, slots, ending: tell(rng, beats, slots, ending)


def _honesty(rng: random.Random, world: World, slots: Slots, ending: str) -> list[str]:
    beat = int(rng.random() * 3)
    first = plots.HONESTY[0][beat]
    slots["owner"] = slots["neighbor"] if beat == 2 else slots["elder"]
    middle = plots.HONESTY[2] if beat != 2 else plots.HONESTY[2][1:]
    fears = plots.HONESTY[1] if beat != 2 else plots.HONESTY[1][:1]
    confession = plots.HONESTY[3] if beat != 2 else plots.HONESTY[3][:1]
    last = plots.HONESTY[5] if beat != 2 else (plots.HONESTY[5][0], *plots.HONESTY[5][2:])
    return tell(rng, ((first,), fears, middle, confession, plots.HONESTY[4], last), slots, ending)


def _stray(rng: random.Random, world: World, slots: Slots, ending: str) -> list[str]:
    slots["pet"] = pick(rng, ("강아지", "고양이"))
    slots["colour"] = pick(rng, ("하얀", "까만", "갈색", "얼룩무늬", "누런", "회색"))
    name = pick(rng, [n for n in PET_NAMES if n != "바둑이" or slots["pet"] == "강아지"])
    slots["petname"], slots["petname_quote"] = name, particle(name, "이라는/라는")
    beats = list(plots.STRAY)
    found = rng.random() < 0.5
    beats[4] = beats[4] if found else beats[4][2:]
    beats[5] = beats[5][:2] if found else beats[5][2:]
    return tell(rng, (*beats, plots.STRAY_ENDINGS[found]), slots, ending)


def _planting(rng: random.Random, world: World, slots: Slots, ending: str) -> list[str]:
    name, season, result = pick(rng, words.SEEDS)
    slots |= {"plant": name, "plantseason": season, "seeds": counter(rng.randint(3, 9), "알")}
    slots["plantresult"] = conjugate(result, ending)
    return tell(rng, plots.PLANTING, slots, ending)


def _brave(rng: random.Random, world: World, slots: Slots, ending: str) -> list[str]:
    slots["fear"], slots["fearplace"] = pick(rng, words.FEARS)
    beats = list(plots.BRAVE)
    if slots["fearplace"] in ("친구네 시골집", "이모네 시골집"):  # no place for a whole class
        beats[1] = beats[1][:1]
    return tell(rng, beats, slots, ending)


def _sharing(rng: random.Random, world: World, slots: Slots, ending: str) -> list[str]:
    beats = list(plots.SHARING)
    if rng.random() < 0.4:
        for number, beat in plots.SHARING_WITH_CHILD.items():
            beats[number] = beat
    return tell(rng, beats, slots, ending)


def _practice(rng: random.Random, world: World, slots: Slots, ending: str) -> list[str]:
    if slots["hobby"] not in words.CONTESTS:
        hobby = world.entry(pick(rng, words.CONTESTS))
        slots |= {"hobby": hobby.name, "hobbyplace": hobby.place}
    return tell(rng, plots.PRACTICE, slots, ending)


def _workday(rng: random.Random, world: World, slots: Slots, ending: str) -> list[str]:
    adult = pick(rng, world.adults)
    while world.entry(adult.job).place in words.NO_OFFICE:
        adult = pick(rng, world.adults)
    job = world.entry(adult.job)
    trouble, visitor = pick(rng, words.TROUBLES)
    slots |= {"a": adult.polite, "job": job.name, "jobplace": job.place, "jobdoes": job.does, "tool": job.tool, "visitor": visitor, "trouble": trouble,
              "years": counter(rng.randint(2, 25), "년"), "jobfact": f"늘 {conjugate(pick(rng, job.facts), ending)}."}  # fmt: skip
    return tell(rng, plots.WORKDAY, slots, ending)


def _fable(rng: random.Random, world: World, slots: Slots, ending: str) -> list[str]:
    one, two = rng.sample(words.FABLE_ANIMALS, 2)
    if one[0] in words.FLYING:  # who flies does not fall into a pit
        one, two = next(animal for animal in words.FABLE_ANIMALS if animal[0] not in words.FLYING and animal is not two), one
    slots |= {"x": one[0], "xtrait": one[1], "xmod": conjugate(one[1], "는"), "y": two[0], "ymod": conjugate(two[1], "는"), "habitat": pick(rng, ("숲", "산골", "골짜기"))}
    beats = list(plots.FABLE)
    if one[0] in words.SWIMMERS:  # a flood is no danger to them
        beats[3] = beats[3][1:]
    if two[0] in words.FLYING or two[0] in words.TINY:  # too light to pull anyone out alone
        beats[4] = beats[4][1:]
    return tell(rng, beats, slots, ending)


# (teller, weight, whether an opening about the hero comes first)
_PLOTS = (
    (_plain(plots.LOST), 10, True), (_plain(plots.NEW_FRIEND), 8, False), (_plain(plots.QUARREL), 9, False), (_plain(plots.COOKING), 10, True),
    (_practice, 9, True), (_stray, 9, False), (_plain(plots.TRIP), 9, False), (_honesty, 8, True), (_planting, 7, False),
    (_brave, 8, True), (_sharing, 7, False), (_plain(plots.SURPRISE), 8, False), (_workday, 7, False), (_fable, 8, False),
)  # fmt: skip
_WEIGHTS = [weight for _, weight, _ in _PLOTS]


def _opening(rng: random.Random, slots: Slots, ending: str) -> str:
    hero: Person = slots["p"]  # type: ignore[assignment]
    slots["trait"] = render(rng, pick(rng, ("{n:은/는} {t}.", "{n:은/는} {t2} 소문이 나 있었{rest}.")), n=hero.nick, t=conjugate(hero.trait, ending),
                            t2=conjugate(hero.trait + "/형", "ㄴ다고"), rest={"_았다": "다", "았어요": "어요", "_았습니다": "습니다"}[ending])  # fmt: skip
    slots["weather_fact"] = conjugate(str(slots["weather_fact"]), ending) + "."
    return render(rng, told(pick(rng, plots.OPENING), ending), slots)


def make(rng: random.Random, world: World) -> Draft:
    hero = pick(rng, world.young)
    slots = base_slots(rng, world, hero)
    ending = rng.choices([style for style, _ in _STYLES], [weight for _, weight in _STYLES])[0]
    teller, _, wants_opening = rng.choices(_PLOTS, _WEIGHTS)[0]
    sentences = [_opening(rng, slots, ending)] if wants_opening else []
    sentences += teller(rng, world, slots, ending)
    breaks = {1 + len(sentences) // 3, 1 + 2 * len(sentences) // 3} if len(sentences) > 5 and rng.random() < 0.7 else set()
    parts = []
    for number, sentence in enumerate(sentences):
        parts.append(("\n" if number in breaks else " " if number else "") + sentence)
    return Draft("".join(parts))


def short_story(rng: random.Random, world: World, hero: Person) -> tuple[bool, str, str]:
    """(about an animal, its subject, a story of a few sentences in 해요체) for the chat; the subject is an animal, or the hero's name."""
    slots = base_slots(rng, world, hero)
    if rng.random() < 0.6:
        one, two = rng.sample(words.FABLE_ANIMALS, 2)
        slots |= {"x": one[0], "xmod": conjugate(one[1], "는"), "y": two[0], "ymod": conjugate(two[1], "는"), "habitat": pick(rng, ("숲", "산골", "골짜기"))}
        return True, one[0], " ".join(tell(rng, words.TINY_FABLE, slots, "았어요"))
    return False, hero.nick, " ".join(tell(rng, words.TINY_STORY, slots, "았어요"))


KINDS = {"story": (make, 14.0)}
