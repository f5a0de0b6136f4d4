"""Short articles about what is in the world: animals, plants, dishes, towns, jobs, things, days, hobbies, nature, people.

All facts come from the tables of the world (and ``content/nature.py``), so articles and chats agree.
Truth: ``subject``, ``facts`` [(subject, relation, object)] and ``qa`` pairs whose answers stand in the text.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from ..content.nature import PHENOMENA
from ..draft import Draft
from ..korean import conjugate, has_final
from .phrases import chance, pick, say, shuffled, weighted

_LEVELS = (("해라", 6), ("합쇼", 3), ("해요", 2))


class Line(NamedTuple):
    """Wordings of one field; ``relation`` and ``question`` name it; ``slot`` is the field and must not be empty."""

    slot: str
    relation: str
    question: str
    wordings: tuple[str, ...]


class Sheet(NamedTuple):
    table: str
    openings: tuple[str, ...]
    lines: tuple[Line, ...]


_DEFINITION = ("{name:은/는} <=is_a>", "{name:이란/란} {is_a:을/를} <말하다>")

SHEETS: tuple[Sheet, ...] = (
    Sheet("animals", ("{name:은/는} <=is_a>", "{name:은/는} {home}에서 [볼 수 있는|사는] <=is_a>"), (
        Line("food", "먹이", "{name:은/는} 무엇을 먹나요?", ("[주로 |]{food:을/를} <먹다>", "{name:이/가} [먹는 것은|좋아하는 먹이는] <=food>", "먹이는 [주로 |]<=food>")),
        Line("home", "사는 곳", "{name:은/는} 어디에서 사나요?", ("{name:은/는} {home}에서 <살다>", "사는 곳은 [주로 |]<=home>", "[대개 |]{home}에서 <지내다>")),
        Line("sound", "울음소리", "{name:은/는} 어떻게 우나요?", ("‘{sound}’ 하고 <울다>", "울음소리는 <=sound_text>")),
        Line("legs_text", "다리", "{name:은/는} 다리가 몇 개인가요?", ("다리는 <=legs_text>",)),
        Line("baby", "새끼", "{name}의 새끼를 무엇이라고 하나요?", ("새끼는 {baby:이라고/라고} <하다>", "어린 {name:은/는} {baby:이라고/라고} <부르다>")),
    )),
    Sheet("plants", ("{name:은/는} <=is_a>", "{name:은/는} 우리 주변에서 흔히 볼 수 있는 <=is_a>"), (
        Line("season", "철", "{name:은/는} 어느 계절의 식물인가요?", ("제철은 <=season>", "{season:이/가} 되면 {where} 볼 수 <있다>")),
        Line("color", "빛깔", "{name:은/는} 무슨 빛깔인가요?", ("[빛깔은|색은] [대개 |]<=color_text>", "{color_text:을/를} <띠다>")),
        Line("edible_text", "쓰임", "{name:은/는} 먹을 수 있나요?", ("<@edible_text>",)),
    )),
    Sheet("dishes", ("{name:은/는} <=is_a>", "{name:은/는} 우리나라 사람들이 즐겨 먹는 <=is_a>", "{name:은/는} {first:을/를} 넣어 만드는 <=is_a>"), (
        Line("ingredients_text", "재료", "{name}에는 무엇이 들어가나요?", ("[재료로는|재료로] {ingredients_text} [등을|같은 것을] <쓰다>", "{ingredients_text:이/가} <들어가다>", "만들 때에는 {ingredients_text:이/가} <필요하다>")),
        Line("taste", "맛", "{name}의 맛은 어떤가요?", ("<@taste>", "[잘 만든 것은 |]<@taste>")),
        Line("when", "먹는 때", "{name:은/는} 언제 먹나요?", ("[흔히 |]{when} <먹다>", "{when} [생각나는|찾는] <음식이다>")),
        Line("steps_text", "만드는 법", "", ("<@steps_text>",)),
        Line("tip", "도움말", "", ("<@tip>",)),
        Line("counter_text", "세는 말", "{name:은/는} 어떻게 세나요?", ("셀 때는 {counter_text:이라고/라고} <하다>",)),
    )),
    Sheet("towns", ("{name:은/는} <=is_a>", "{name:은/는} {region}에 있는 <=is_a>", "{region}에 {name:이라는/라는} {is_a:이/가} <있다>"), (
        Line("region", "위치", "{name:은/는} 어디에 있나요?", ("위치는 <=region>", "{region}에 자리 잡고 <있다>")),
        Line("foods_text", "먹을거리", "{name}에서 이름난 음식은 무엇인가요?", ("[이름난|유명한] 먹을거리로는 {foods_text:이/가} <있다>", "{name}에 가면 {foods_text:을/를} [많이|흔히] <먹다>", "{foods_text:이/가} 맛있기로 <유명하다>")),
        Line("places_text", "볼거리", "{name}에서 가 볼 만한 곳은 어디인가요?", ("[볼거리로는|가 볼 만한 곳으로는] {places_text:이/가} <있다>", "사람들은 {places_text:을/를} [많이|즐겨] <찾다>")),
        Line("activity", "할 일", "", ("[여행 온 사람들은|찾아온 사람들은] [흔히|즐겨] <@activity>",)),
        Line("season", "좋은 계절", "{name:은/는} 어느 계절에 가면 좋은가요?", ("여행하기에는 {season:이/가} 가장 <좋다>", "[특히 |]{season}에 찾는 사람이 <많다>")),
    )),
    Sheet("jobs", ("{name:은/는} <=is_a>", "{name:은/는} {place}에서 일하는 <사람이다>"), (
        Line("does", "하는 일", "{name:은/는} 무슨 일을 하나요?", ("[주로 |]<@does>", "하는 일은 {does~는} <일이다>")),
        Line("place", "일터", "{name:은/는} 어디에서 일하나요?", ("일터는 [주로 |]<=place>", "[흔히 |]{place}에서 <일하다>")),
        Line("needs", "필요한 것", "{name}에게는 무엇이 필요한가요?", ("[이 일에는|이 일을 하려면] {needs:이/가} <필요하다>", "{needs:을/를} 갖춘 사람에게 <알맞다>")),
        Line("tool", "도구", "{name:이/가} 쓰는 도구는 무엇인가요?", ("[자주|흔히] 쓰는 도구는 <=tool>", "일할 때 {tool:을/를} <쓰다>")),
    )),
    Sheet("things", ("{name:은/는} <=is_a>", "{name:은/는} {use~을} 때 쓰는 <물건이다>", "{name:은/는} {use~는} 데 쓰는 <물건이다>"), (
        Line("use", "쓰임", "{name:은/는} 어디에 쓰나요?", ("{use~을} 때 <쓰다>", "{use~는} 데 <쓰이다>")),
        Line("place", "두는 곳", "{name:은/는} 어디에 두나요?", ("[흔히|보통] {place}에 <두다>", "두는 곳은 [대개 |]<=place>")),
        Line("care", "손질", "", ("<@care>", "{keep}<@care>")),
        Line("counter_text", "세는 말", "{name:을/를} 셀 때 무엇이라고 하나요?", ("셀 때는 {counter_text:이라고/라고} <하다>",)),
    )),
    Sheet("days", ("{name:은/는} <=is_a>", "{name:은/는} 우리나라의 <=is_a>"), (
        Line("date", "날짜", "{name:은/는} 언제인가요?", ("[날짜는|때는] <=date>", "{name:은/는} <=date>")),
        Line("foods_text", "음식", "{name}에는 무엇을 먹나요?", ("{name}에는 [흔히 |]{foods_text:을/를} <먹다>", "이때 먹는 음식으로는 {foods_text:이/가} <있다>")),
        Line("custom", "풍습", "", ("사람들은 <@custom>", "{custom~는} 풍습이 <있다>")),
        Line("custom2", "풍습", "", ("[또|그리고] <@custom2>", "{custom2~기도} <하다>")),
        Line("greeting_text", "인사", "{name}에 하는 인사말은 무엇인가요?", ("인사말로는 ‘{greeting_text}’ 하고 <말하다>",)),
    )),
    Sheet("hobbies", ("{name:은/는} <=is_a>", "{name:은/는} {doing~는} <취미이다>"), (
        Line("tools_text", "준비물", "{name}에는 무엇이 필요한가요?", ("{tools_text:이/가} <필요하다>", "준비물로는 {tools_text:이/가} <있다>")),
        Line("place", "하는 곳", "{name:은/는} 어디에서 하나요?", ("[주로|흔히] {place}에서 <하다>",)),
        Line("benefit", "좋은 점", "", ("꾸준히 하면 <@benefit>", "[이 취미를 가지면|오래 즐기면] <@benefit>")),
        Line("beginner", "처음 하는 사람", "", ("처음 하는 사람은 {beginner~는} 것이 <좋다>", "[초보자라면|처음이라면] {beginner~는} 편이 <낫다>")),
    )),
    Sheet("health", ("{name:은/는} <=is_a>", "{name:은/는} 누구나 겪을 수 있는 <=is_a>"), (
        Line("cause", "원인", "", ("{cause~으면} 생기기 <쉽다>",)),
        Line("advice_text", "다스리는 법", "", ("[이럴 때는|이때는] {advice_text~는} 것이 <좋다>", "{advice_text~으면} 도움이 <되다>")),
        Line("advice2", "다스리는 법", "", ("{advice2~는} 것도 도움이 <되다>", "또 {advice2~는} 것이 <좋다>")),
        Line("doctor", "진료", "", ("{doctor} 병원에 가야 <하다>", "{doctor} 의사에게 보이는 것이 <좋다>")),
    )),
    Sheet("words", ("‘{name}’의 뜻은 <=meaning>", "‘{name}’{topic} {meaning:을/를} <뜻하다>", "‘{name}’{topic} [바로 |]<=meaning>"), (
        Line("meaning", "뜻", "‘{name}’의 뜻은 무엇인가요?", ("[쉽게 말하면|다시 말해] <=meaning>",)),
        Line("example_text", "보기", "", ("“{example_text}”처럼 <쓰다>", "[보기를 들면|예를 들어] “{example_text}”와 같이 <쓰다>")),
        Line("opposite", "반대말", "‘{name}’의 반대말은 무엇인가요?", ("반대말은 <=opposite>", "뜻이 반대인 말은 <=opposite>")),
    )),
)  # fmt: skip

_FACT = ("<@fact>", "<@fact>", "<@fact>", "{name:은/는} <@fact>")
_NEXT_FACT = ("<@fact>", "<@fact>", "또 <@fact>", "그리고 <@fact>")


def _amount_word(counter: str) -> str:
    return f"한 {counter}, 두 {counter}"


def _slots(rng: random.Random, table: str, entry) -> dict:
    """The fields of an entry as slots; lists become enumerations of a random part."""
    slots = {name: getattr(entry, name) for name in entry.__dataclass_fields__}
    for name in ("ingredients", "foods", "places", "tools"):
        values = slots.get(name)
        if values:
            part = [values[0], *shuffled(rng, values[1:])[: rng.randint(1, 3)]]  # the chief one is always told
            slots[f"{name}_text"] = ", ".join(part)
            slots["first"] = values[0]
    if table == "animals":
        slots["legs_text"] = {0: "", 2: "두 개", 4: "네 개", 6: "여섯 개", 8: "여덟 개", 10: "열 개"}.get(entry.legs, f"{entry.legs}개")
        slots["sound_text"] = f"‘{entry.sound}’"
    if table == "plants":
        slots["color"] = slots["color_text"] = entry.color if entry.color.endswith("색") else f"{entry.color}빛"
        food = any(word in entry.is_a for word in ("과일", "채소", "열매", "곡식", "나물", "버섯"))
        slots["where"] = "시장에서" if food else pick(rng, ("산과 들에서", "곳곳에서", "마을 둘레에서"))
        slots["edible_text"] = "먹을 수 있다" if entry.edible and not food else ""
    if table == "things":
        slots["keep"] = "오래 쓰려면 " if entry.care.endswith("야 하다") else ""
    if table == "dishes" and entry.steps:
        slots["steps_text"] = _joined(entry.steps)
    if entry.__dataclass_fields__.get("counter") and table in ("dishes", "things"):
        slots["counter_text"] = _amount_word(entry.counter)
    if table == "days":
        customs = shuffled(rng, entry.customs)
        slots.update(custom=customs[0] if customs else "", custom2=customs[1] if len(customs) > 1 else "", greeting_text=entry.greeting.rstrip("."))
    if table == "health":
        advice = shuffled(rng, entry.advice)
        slots.update(cause=pick(rng, entry.causes) if entry.causes else "", advice_text=advice[0] if advice else "", advice2=advice[1] if len(advice) > 1 else "")
    if table == "words":
        slots.update(example_text=entry.example.rstrip("."), topic="은" if has_final(entry.name) else "는")
    return slots


def _joined(steps: tuple[str, ...]) -> str:
    """Clauses in order as one clause: "무를 썰고 물을 붓고 끓이다"."""
    return " ".join([*(f"{conjugate(step, '고')}," if len(steps) > 2 else conjugate(step, "고") for step in steps[:-1]), steps[-1]])


_EQUAL_OPENINGS = {"home": "{home}에서", "season": "{season}에 만나는", "region": "{region}에", "place": "{place}에서 일하는", "use": "{use~", "meaning": "meaning"}


def compose_article(rng: random.Random, world) -> tuple[str, str, str, list, list]:
    """(subject, level, body, facts, qa)."""
    kind = rng.random()
    if kind < 0.10:
        return _phenomenon(rng)
    if kind < 0.22:
        return _person(rng, world)
    sheet = pick(rng, SHEETS)
    entry = pick(rng, getattr(world, sheet.table))
    level, slots = weighted(rng, _LEVELS), _slots(rng, sheet.table, entry)
    opening = "{name:은/는} 사계절 가운데 <하나이다>" if entry.is_a == "계절" else sheet.openings[-1] if sheet.table == "words" and entry.meaning.endswith("뜻") else pick(rng, sheet.openings)
    facts, qa = [(entry.name, "종류", entry.is_a)] if "is_a" in opening else [], []
    told = {slot for slot, part in _EQUAL_OPENINGS.items() if part in opening}
    if any(word in opening and slots.get(field, "-") in given for word, field, given in (("{home}", "home", entry.is_a), ("{first}", "first", entry.name), ("{region}에 있는", "region", entry.is_a)) if "is_a" in opening or word == "{first}"):
        opening = sheet.openings[0]
    sentences = [say(rng, opening, level, slots)]
    if sheet.table == "jobs" and "is_a" in opening:
        told.add("does")  # what a job is says what one does
    lines = [line for line in sheet.lines if slots.get(line.slot) and line.slot not in told]
    keep = max(2, len(lines) - (chance(rng, 0.5) + chance(rng, 0.3)))
    kept = sorted(rng.sample(range(len(lines)), min(keep, len(lines))))
    tellings: list[tuple[str, Line | None]] = [(say(rng, pick(rng, lines[i].wordings), level, slots), lines[i]) for i in kept]
    known = [str(slots[lines[i].slot])[:5] for i in kept if lines[i].slot in ("when", "use", "benefit", "activity")]
    new = [fact for fact in shuffled(rng, entry.facts) if not any(start in fact for start in known)]
    about = [(say(rng, pick(rng, _NEXT_FACT if i else _FACT), level, {**slots, "fact": fact}), None) for i, fact in enumerate(new)]
    # the facts stay together, as the words that join them ask for it
    place = int(rng.random() * (len(tellings) + 1))
    tellings = tellings[:place] + about + tellings[place:]
    for sentence, line in tellings:
        sentences.append(sentence)
        if line is not None and line.slot not in ("steps_text", "tip"):
            value = str(slots[line.slot])
            facts.append((entry.name, line.relation, value))
            if line.question and value in sentence:
                qa.append({"question": say(rng, line.question, level, slots), "answer": value})
    return entry.name, level, ". ".join(sentences) + ".", facts, qa


def _phenomenon(rng: random.Random):
    item, level = pick(rng, PHENOMENA), weighted(rng, _LEVELS)
    slots = {"name": item.name, "is_a": item.is_a, "cause": item.cause, "when": item.when}
    sentences = [say(rng, pick(rng, _DEFINITION), level, slots)]
    middle = [say(rng, pick(rng, ("{name:이/가} [생기는|나타나는] 까닭은 {cause~기} <때문이다>", "이것은 {cause~기} <때문이다>")), level, slots)]
    if chance(rng, 0.7):
        middle.append(say(rng, pick(rng, ("[주로 |]{when} 볼 수 <있다>", "{when} [잘|흔히] <나타나다>") if "주로" not in item.when else ("{when} <나타나다>",)), level, slots) if item.name not in ("메아리", "지진", "계절", "가뭄", "철새의 이동", "천둥", "낮과 밤", "밀물과 썰물") else say(rng, "{when} <일어나다>" if item.name not in ("계절", "낮과 밤", "밀물과 썰물") else "{when} <바뀌다>", level, slots))
    middle += [say(rng, pick(rng, ("<@fact>", "<@fact>", "또 <@fact>") if i == 1 else ("<@fact>",)), level, {"fact": fact}) for i, fact in enumerate(shuffled(rng, item.facts)[: rng.randint(1, 3)])]
    facts = [(item.name, "뜻", item.is_a), (item.name, "까닭", item.cause), (item.name, "때", item.when)]
    body = ". ".join([*sentences, *middle]) + "."
    particle = "은" if has_final(item.name) else "는"
    qa = [{"question": f"{item.name}{particle} 무엇인가요?", "answer": item.is_a}]
    if item.when in body:
        qa.append({"question": f"{item.name}{particle} 언제 나타나나요?", "answer": item.when})
    return item.name, level, body, facts, qa


_PERSON_LINES = (
    ("town", "사는 곳", "{name:은/는} 어디에 사나요?", ("{town}에 <살다>", "사는 곳은 <=town>", "{town}에서 살고 <있다>")),
    ("hobby", "취미", "{name}의 취미는 무엇인가요?", ("취미는 <=hobby>", "[쉬는 날에는|틈이 나면] {hobby:을/를} <즐기다>")),
    ("food", "좋아하는 음식", "{name:이/가} 좋아하는 음식은 무엇인가요?", ("좋아하는 음식은 <=food>", "음식 중에서는 {food:을/를} 가장 <좋아하다>")),
    ("disliked", "싫어하는 음식", "{name:이/가} 싫어하는 음식은 무엇인가요?", ("{disliked:은/는} [잘|별로] 먹지 <않다>", "싫어하는 음식은 <=disliked>")),
    ("dream", "꿈", "{name}의 꿈은 무엇인가요?", ("꿈은 {dream:이/가} 되는 <것이다>", "[커서|나중에] {dream:이/가} 되고 싶어 <하다>")),
    ("pet_text", "반려동물", "{name:이/가} 기르는 동물의 이름은 무엇인가요?", ("{pet_name:이라는/라는} {pet:을/를} <기르다>", "집에는 {pet_name:이라는/라는} {pet:이/가} <있다>")),
    ("trait", "성격", "", ("성격은 {trait~은} <편이다>", "[주변 사람들은|이웃들은] {trait~ㄴ다고} <말하다>")),
)  # fmt: skip


def _person(rng: random.Random, world):
    person, level = pick(rng, world.people), weighted(rng, _LEVELS)
    slots = {key: getattr(person, key) for key in ("name", "age", "town", "job", "hobby", "food", "disliked", "dream", "pet", "pet_name", "trait")}
    slots["pet_text"] = person.pet_name if person.pet else ""
    slots["years"] = f"{person.age}{'세' if person.age > 18 else '살'}"
    opening = pick(rng, ("{name:은/는} {years} <=job>", "{name:은/는} 올해 {years}인 <=job>", "{name:은/는} {town}에 사는 <=job>", "{town}에 사는 {name:은/는} {years} <=job>"))
    if person.age > 64:
        opening = "{name:은/는} {town}에 사는 <=job>"
    sentences = [say(rng, opening, level, slots)]
    if person.age > 64 and chance(rng, 0.6):
        opening += "{years}"
        sentences.append(say(rng, "[올해 |]나이는 <=years>", level, slots))
    facts, qa = [(person.name, "하는 일", person.job)], [{"question": say(rng, "{name:은/는} 무슨 일을 하나요?", level, slots), "answer": person.job}]
    if "{years}" in opening:
        facts.append((person.name, "나이", slots["years"]))
        qa.append({"question": say(rng, "{name:은/는} 나이가 어떻게 되나요?", level, slots), "answer": slots["years"]})
    lines = [line for line in _PERSON_LINES if slots.get(line[0]) and not (line[0] == "town" and "{town}" in opening)]
    for slot, relation, question, wordings in shuffled(rng, lines)[: rng.randint(3, 6)]:
        sentences.append(say(rng, pick(rng, wordings), level, slots))
        facts.append((person.name, relation, slots[slot]))
        if question:
            qa.append({"question": say(rng, question, level, slots), "answer": slots[slot]})
    for word, index in shuffled(rng, list(person.relations.items()))[: rng.randint(0, 2)]:
        other = world.people[index]
        sentences.append(say(rng, "[{word:은/는} <=other>|{word}의 이름은 <=other>]", level, {"word": word, "other": other.name}))
        facts.append((person.name, word, other.name))
        qa.append({"question": say(rng, "{name}의 {word:은/는} 누구인가요?", level, {**slots, "word": word}), "answer": other.name})
    return person.name, level, ". ".join(sentences) + ".", facts, qa


def make_encyclopedia(rng: random.Random, world) -> Draft:
    """One article of four to nine sentences."""
    subject, _, body, facts, qa = compose_article(rng, world)
    style = rng.random()
    title = f"{subject}\n" if style < 0.5 else f"■ {subject}\n" if style < 0.6 else f"{subject}: " if style < 0.7 else ""
    return Draft(title + body, {"subject": subject, "facts": [list(fact) for fact in facts], "qa": qa})


KINDS = {"encyclopedia": (make_encyclopedia, 9.0)}
