"""Chats that are not about one entry of the tables: greetings, weather, sums, clock, counters, rewriting, summaries,
little stories, reading a passage, lists, and what the assistant must decline or does not know."""

from __future__ import annotations

import random
from itertools import accumulate

from ..conjugation import conjugate
from ..facts.knowledge import KNOWLEDGE
from ..korean import counter, josa, money, native, sino
from ..phrases import comma_listed, listed
from ..templates import pick, pick_render, render
from ..world import World
from . import chat_lines as lines
from .chat_subjects import MAIN_DISHES

Turns = tuple[list[str], dict]


def _chat(question: str, answer: str, short: str = "", **truth) -> Turns:
    found = {"question": question, **truth}
    if short:
        found["answer"] = short
    return [question, answer], found


def greeting(rng: random.Random, world: World) -> Turns:
    asks, answers = pick(rng, lines.GREETINGS)
    return _chat(pick_render(rng, asks), pick_render(rng, answers), intent="greeting")


def identity(rng: random.Random, world: World) -> Turns:
    asks, answers = pick(rng, lines.IDENTITY)
    return _chat(pick_render(rng, asks), pick_render(rng, answers), intent="identity")


def knowledge(rng: random.Random, world: World) -> Turns:
    asks, answers, short = pick(rng, KNOWLEDGE)
    return _chat(pick_render(rng, asks), pick_render(rng, answers), short, intent="knowledge")


def small_talk(rng: random.Random, world: World) -> Turns:
    """Weather and everyday remarks, sometimes with a second turn."""
    asks, answers, follow = pick(rng, lines.SMALL_TALK)
    turns, truth = _chat(pick_render(rng, asks), pick_render(rng, answers), intent="small_talk")
    if follow and rng.random() < 0.4:
        reply_asks, reply_answers = follow
        turns += [pick_render(rng, reply_asks), pick_render(rng, reply_answers)]
        truth["question"] = turns[-2]
    return turns, truth


def refusal(rng: random.Random, world: World) -> Turns:
    asks, answers = pick(rng, lines.REFUSALS)
    question, answer = pick_render(rng, asks), pick_render(rng, answers)
    truth = {"harmful": True, "intent": "refusal"}
    if rng.random() < 0.5:
        truth |= {"chosen": answer, "rejected": pick(rng, lines.BAD_COMPLIANCE), "rejected_reason": "harmful"}
    return _chat(question, answer, **truth)


def unknown(rng: random.Random, world: World) -> Turns:
    person, town = pick(rng, world.people), pick(rng, world.towns)
    asks, answers = pick(rng, lines.UNKNOWN)
    slots = {"p": person, "town": town.name, "year": rng.randint(2031, 2090), "n": rng.randint(2, 9)}
    return _chat(pick_render(rng, asks, slots), pick_render(rng, answers, slots), intent="unknown", unanswerable=True)


def _number_words(rng: random.Random) -> tuple[int, int]:
    return (rng.randint(1, 9), rng.randint(1, 9)) if rng.random() < 0.5 else (rng.randint(2, 60), rng.randint(2, 40))


def arithmetic(rng: random.Random, world: World) -> Turns:
    a, b = _number_words(rng)
    operation = pick(rng, ("더하기", "빼기", "곱하기"))
    if operation == "빼기" and a < b:
        a, b = b, a
    if operation == "곱하기":
        a, b = rng.randint(2, 9), rng.randint(2, 9)
    result = {"더하기": a + b, "빼기": a - b, "곱하기": a * b}[operation]
    sign = {"더하기": "+", "빼기": "-", "곱하기": "×"}[operation]
    slots = {"a": str(a), "b": str(b), "op": operation, "sign": sign, "r": str(result)}
    question = pick_render(rng, lines.SUMS, slots)
    answer = pick_render(rng, ("{a} {op} {b:은/는} {r:이에요/예요}.", "답은 {r:이에요/예요}.", "{a} {sign} {b} = {r:이에요/예요}.", "{r:이에요/예요}. {a} {op} {b:을/를} 계산하면 {r:이/가} 나와요."), slots)
    return _chat(question, answer, str(result), intent="arithmetic")


def word_problem(rng: random.Random, world: World) -> Turns:
    """Counting things in a little scene, with native numbers and counters."""
    person, friend = rng.sample(world.young, 2)
    thing, unit = pick(rng, lines.COUNTED)
    a, b = rng.randint(2, 12), rng.randint(1, 9)
    slots = {"p": person, "q": friend, "t": thing, "a": counter(a, unit), "unit": unit}
    if rng.random() < 0.5:
        slots["b"], total = counter(b, unit), a + b
        question = pick_render(rng, lines.PROBLEMS_MORE, slots)
        answer = render(rng, "{a}에 {b:을/를} 더하면 {r}예요. [그래서 답은 {r}예요.|모두 {r}네요.|]", slots, r=counter(total, unit))
    else:
        b = rng.randint(1, a - 1)
        slots["b"], total = counter(b, unit), a - b
        question = pick_render(rng, lines.PROBLEMS_LESS, slots)
        answer = render(rng, "{a}에서 {b:을/를} 빼면 {r}[가|] 남아요. [그래서 답은 {r}예요.|]", slots, r=counter(total, unit))
    short = counter(total, unit)
    answer = answer.replace(f"{short}예요", josa(short, "이에요/예요")).replace(f"{short}네요", josa(short, "이네요/네요")).replace(f"{short}가 남", josa(short, "이/가") + " 남")
    return _chat(question, answer.strip(), short, intent="word_problem")


def clock(rng: random.Random, world: World) -> Turns:
    hour, minute, later = rng.randint(1, 11), pick(rng, (0, 10, 15, 20, 30, 40, 45)), pick(rng, (1, 2, 3))
    def spoken(h: int, m: int) -> str:
        h = (h - 1) % 12 + 1
        base = counter(h, "시")
        return base if not m else f"{base} 반" if m == 30 and rng.random() < 0.5 else f"{base} {sino(m)} 분"
    now, then = spoken(hour, minute), spoken(hour + later, minute)
    slots = {"now": now, "later": counter(later, "시간"), "then": then}
    question = pick_render(rng, lines.CLOCK, slots)
    answer = pick_render(rng, ("{now}에서 {later}이 지나면 {then:이에요/예요}.", "{later} 뒤에는 {then:이에요/예요}.", "그러면 {then:이/가} 돼요."), slots)
    return _chat(question, answer, then, intent="clock")


_WEEK = ("월요일", "화요일", "수요일", "목요일", "금요일", "토요일", "일요일")


def weekday(rng: random.Random, world: World) -> Turns:
    today = rng.randrange(7)
    word, step = pick(rng, (("내일", 1), ("모레", 2), ("어제", -1), ("사흘 뒤", 3), ("일주일 뒤", 7)))
    day, result = _WEEK[today], _WEEK[(today + step) % 7]
    verb = "이었어요" if step < 0 else "이에요"
    past_question = "이었어요" if step < 0 else "이에요"
    question = render(rng, "오늘이 {d}이면 {w:은/는} 무슨 요일{v}?" if rng.random() < 0.6 else "오늘은 {d}이에요. {w:은/는} 무슨 요일{v}?", d=day, w=word, v=past_question)
    answer = render(rng, pick(rng, ("오늘이 {d}이면 {w:은/는} {r}{v}.", "{w:은/는} {r}{v}.")), d=day, w=word, r=result, v=verb)
    return _chat(question, answer, result, intent="weekday")


def shopping(rng: random.Random, world: World) -> Turns:
    thing, unit, low, high = pick(rng, lines.PRICED)
    price, count = 500 * rng.randint(low, high), rng.randint(2, 6)
    slots = {"t": thing, "one": counter(1, unit), "many": counter(count, unit), "price": money(price), "total": money(price * count)}
    question = pick_render(rng, lines.SHOPPING, slots)
    answer = pick_render(rng, ("{t} {many}면 모두 {total:이에요/예요}.", "{price}에 {t} {many:을/를} 사면 {total:이에요/예요}.", "모두 {total:을/를} 내면 돼요."), slots)
    answer = answer.replace(f"{slots['many']}면", josa(str(slots["many"]), "이면/면"))
    return _chat(question, answer, str(slots["total"]), intent="shopping")


def counting(rng: random.Random, world: World) -> Turns:
    """Which counter, how to read a number."""
    if rng.random() < 0.5:
        thing, unit = pick(rng, lines.COUNTERS)
        question = pick_render(rng, ("{t:을/를} 셀 때는 어떤 말을 써요?", "{t:은/는} 어떻게 세?", "{t:을/를} 세는 단위가 뭐예요?", "{t} 세는 말 알려 줘"), t=thing)
        example = f"{thing} {counter(rng.randint(2, 6), unit)}"
        answer = pick_render(rng, ("{t:은/는} ‘{u}’{r} 세요. 예를 들어 ‘{e}’처럼 말해요.", "{t:을/를} 셀 때는 ‘{u}’{o} 써요. ‘{e}’처럼 말하면 돼요."), t=thing, u=unit, e=example,
                             r=josa(unit, "으로/로")[len(unit):], o=josa(unit, "을/를")[len(unit):])  # fmt: skip
        return _chat(question, answer, unit, intent="counter")
    number = rng.randint(2, 99)
    words = native(number)
    question = pick_render(rng, ("{n:을/를} 우리말로 어떻게 읽어요?", "숫자 {n:을/를} 순우리말로 하면?", "{n}, 순우리말로 뭐라고 해?"), n=str(number))
    answer = render(rng, "{n:은/는} 순우리말로 ‘{w}’[이라고|라고] 해요. 한자어로는 ‘{s}’{i} 읽어요.", n=str(number), w=words, s=sino(number), i=josa(sino(number), "이라고/라고")[len(sino(number)):])
    answer = answer.replace(f"‘{words}’라고", f"‘{words}’이라고") if josa(words, "이/가").endswith("이") else answer.replace(f"‘{words}’이라고", f"‘{words}’라고")
    return _chat(question, answer, words, intent="number")


def rewrite(rng: random.Random, world: World) -> Turns:
    """반말 to 존댓말 and back: the same clause conjugated twice."""
    subject, clauses = pick(rng, lines.CLAUSES)
    clause = pick(rng, clauses)
    tense = pick(rng, (("ㄴ다", "ㅂ니다", "아요"), ("았다", "았습니다", "았어요"), ("을 거다", "을 것입니다", "을 거예요")))
    plain, formal, polite = (f"{subject} {conjugate(clause, ending)}." for ending in tense)
    want, target = pick(rng, (("존댓말", polite), ("높임말", polite), ("격식 있는 말투", formal), ("해요체", polite), ("습니다체", formal)))
    question = pick_render(rng, lines.REWRITE, s=plain, w=want)
    answer = pick_render(rng, ("“{t}”", "{w:으로/로} 바꾸면 “{t}”가 돼요.", "“{t}” 이렇게 쓰면 돼요."), t=target, w=want)
    return _chat(question, answer, target, intent="rewrite")


def passage(rng: random.Random, world: World) -> Turns:
    """A few sentences about a person, then a question about one of them."""
    person = pick(rng, world.young)
    dish = world.entry(person.food)
    lines_and_answers = [
        (render(rng, "{p.nick:은/는} {t}에 살아요.", p=person, t=person.town), render(rng, "{p.nick:은/는} 어디에 살아요?", p=person), person.town, "{p.nick:은/는} {a}에 살아요."),
        (render(rng, "{p.nick:은/는} 올해 {a}이에요.", p=person, a=counter(person.age, "살")), render(rng, "{p.nick:은/는} 몇 살이에요?", p=person), counter(person.age, "살"), "{p.nick:은/는} {a}이에요."),
        (render(rng, "가장 좋아하는 음식은 {f:이에요/예요}.", f=dish.name), render(rng, "{p.nick:이/가} 가장 좋아하는 음식은 뭐예요?", p=person), dish.name, "{p.nick:이/가} 가장 좋아하는 음식은 {a:이에요/예요}."),
        (render(rng, "취미는 {h:이에요/예요}.", h=person.hobby), render(rng, "{p.nick}의 취미는 뭐예요?" , p=person), person.hobby, "{p.nick}의 취미는 {a:이에요/예요}."),
        (render(rng, "나중에 {d:이/가} 되고 싶어 해요.", d=person.dream), render(rng, "{p.nick:은/는} 나중에 뭐가 되고 싶어 해요?", p=person), person.dream, "{p.nick:은/는} {a:이/가} 되고 싶어 해요."),
    ]  # fmt: skip
    if person.pet_name:
        lines_and_answers.append((render(rng, "집에서 {a} {n:을/를} 키워요.", a=person.pet, n=person.pet_name), render(rng, "{p.nick}네 {a} 이름은 뭐예요?", p=person, a=person.pet), person.pet_name, "이름은 {a:이에요/예요}."))
    chosen = [lines_and_answers[0], *rng.sample(lines_and_answers[1:], rng.randint(2, 3))]
    text = " ".join(line for line, *_ in chosen)
    first = pick(rng, chosen)
    turns = [pick_render(rng, lines.PASSAGE, text=text, q=first[1]), render(rng, first[3], p=person, a=first[2])]
    truth = {"question": first[1], "answer": first[2], "context": text, "intent": "passage"}
    if rng.random() < 0.3:
        second = pick(rng, [line for line in chosen if line is not first])
        turns += [second[1], render(rng, second[3], p=person, a=second[2])]
        truth |= {"question": second[1], "answer": second[2]}
    return turns, truth


def summary(rng: random.Random, world: World) -> Turns:
    """A short note and its one-sentence summary."""
    person, town, dish = pick(rng, world.people), pick(rng, world.towns), pick(rng, [dish for dish in world.dishes if dish.is_a in MAIN_DISHES])
    when = pick(rng, ("지난 주말에", "어제", "지난 토요일에", "방학 첫날에", "휴가 때"))
    if when == "방학 첫날에" and person.stage in ("어른", "노인"):
        when = "휴가 첫날에"
    with_whom = pick(rng, ("가족과", "친구와", "혼자", {"어른": "동료들과", "노인": "동네 친구들과"}.get(person.stage, "반 친구들과")))
    name = person.nick if person.age <= 18 else person.polite
    slots = {"n": name, "t": town.name, "when": when, "who": with_whom, "p": town.places[0], "act": town.activity, "d": town.foods[0], "w": pick(rng, lines.WEATHERS)}
    if rng.random() < 0.35:
        slots |= {"d": dish.name, "act": "시장을 구경하다"}
    text = render(rng, "{n:은/는} {when} {who} {t}에 다녀왔다. {w} {p:을/를} 둘러보고 {act~았다}. [점심|저녁]으로는 {d:을/를} 먹었다. [집에 오는 길에 벌써 또 가고 싶어졌다.|돌아올 때는 모두 피곤했지만 즐거웠다.|사진도 많이 찍었다.]", slots)
    forms = ("{n:은/는} {when} {who} {t}에 다녀와서 {d:을/를} 먹었어요.", "{n:은/는} {when} {t}에 가서 {act~고} {d:을/를} 먹었어요.")
    short = pick_render(rng, forms, slots)
    question = pick_render(rng, ("다음 글을 한 문장으로 요약해 주세요. {x}", "이 글 요약해 줘. {x}", "{x} 이 글을 짧게 줄여 주세요.", "아래 내용을 한 줄로 정리해 줄래요? {x}"), x=text)
    return _chat(question, short, short, intent="summary")


def little_story(rng: random.Random, world: World) -> Turns:
    from .story import short_story

    person = pick(rng, world.young)
    about_animal, subject, text = short_story(rng, world, person)
    question = pick_render(rng, lines.ANIMAL_STORY_ASKS if about_animal else lines.PERSON_STORY_ASKS, s=subject, p=person)
    return _chat(question, text, intent="story")


def listing(rng: random.Random, world: World) -> Turns:
    """Name three of a kind."""
    table = pick(rng, lines.lists(world))
    what, items = table
    count = pick(rng, (2, 3, 3, 3, 4))
    chosen = rng.sample(items, count)
    slots = {"w": what, "c": counter(count, "가지"), "items": comma_listed(chosen), "l": listed(chosen)}
    question = pick_render(rng, lines.LIST_ASKS, slots)
    answer = pick_render(rng, ("{w:으로/로}는 {items:이/가} 있어요.", "{items:이/가} 있어요.", "{w} {c:을/를} 말해 볼게요. {items:이에요/예요}.", "{l:을/를} 들 수 있어요."), slots)
    return _chat(question, answer, comma_listed(chosen), intent="list")


def opposite(rng: random.Random, world: World) -> Turns:
    a, b = pick(rng, lines.OPPOSITES)
    if rng.random() < 0.5:
        a, b = b, a
    question = pick_render(rng, ("‘{a}’의 반대말은 뭐예요?", "‘{a}’ 반대말이 뭐야?", "‘{a}’의 반대말을 알려 주세요.", "{a} 반대말"), a=a)
    answer = pick_render(rng, ("‘{a}’의 반대말은 ‘{b}’예요.", "‘{b}’예요.", "반대말은 ‘{b}’예요. {ea} 것의 반대는 {eb} 것이에요."), a=a, b=b, ea=conjugate(a, "는"), eb=conjugate(b, "는"))
    return _chat(question, answer, b, intent="opposite")


def compare(rng: random.Random, world: World) -> Turns:
    """Which of two is it, from the facts: sea or mountain town, season of a plant, dish from an ingredient."""
    table = pick(rng, ("animals", "plants", "jobs", "dishes"))
    one, two = rng.sample(getattr(world, table), 2)
    if table == "animals":
        if one.food == two.food:
            return listing(rng, world)
        clue = f"{josa(one.food, '을/를')} 먹는 동물"
    elif table == "plants":
        if one.season == two.season:
            return listing(rng, world)
        clue = f"{'일 년 내내' if one.season == '사계절' else one.season + '에'} 볼 수 있는 것"
    elif table == "jobs":
        clue = f"{conjugate(one.does, '는')} 사람"
    else:
        own = [item for item in one.ingredients if item not in two.ingredients]
        if not own:
            return listing(rng, world)
        clue = f"{josa(own[0], '이/가')} 들어가는 음식"
    first, second = (one.name, two.name) if rng.random() < 0.5 else (two.name, one.name)
    what = "누구" if table == "jobs" else "뭐"
    question = pick_render(rng, ("{a:과/와} {b} 중에서 {c:은/는} 어느 쪽이에요?", "{a:이랑/랑} {b} 중에 {c:은/는} {w:이야/야}?", "{c:은/는} 어느 쪽인가요? {a}, {b}"), a=first, b=second, c=clue, w=what)
    answer = pick_render(rng, ("{r:이에요/예요}.", "{c:은/는} {r:이에요/예요}.", "둘 가운데 {c:은/는} {r:이에요/예요}."), r=one.name, c=clue)
    return _chat(question, answer, one.name, intent="compare")


def naming(rng: random.Random, world: World) -> Turns:
    from ..world import PET_ANIMALS, PET_NAMES

    pet, names = pick(rng, PET_ANIMALS), rng.sample(PET_NAMES, 3)
    colour = pick(rng, ("하얀", "까만", "갈색", "얼룩무늬", "작은", "통통한", "귀여운", "씩씩한"))
    question = pick_render(rng, ("{c} {p} 이름을 지어 주세요.", "{c} {p:을/를} 키우게 됐어요. 이름 추천해 주세요.", "우리 {p} 이름 뭐로 할까?", "{p} 이름 추천 좀"), c=colour, p=pet)
    answer = pick_render(rng, ("‘{a}’ 어때요? ‘{b}’도 귀여워요.", "{p} 이름으로 ‘{a}’, ‘{b}’, ‘{d}’를 추천해요.", "저는 ‘{a}’가 좋을 것 같아요. {p}에게 잘 어울려요."), a=names[0], b=names[1], d=names[2], p=pet)
    for name in names:
        answer = answer.replace(f"‘{name}’가", f"‘{name}’{josa(name, '이/가')[len(name):]}").replace(f"‘{name}’를", f"‘{name}’{josa(name, '을/를')[len(name):]}")
    return _chat(question, answer, intent="naming")


_MAKERS = (
    (greeting, 10), (identity, 8), (small_talk, 16), (knowledge, 26), (refusal, 7), (unknown, 7), (arithmetic, 7), (word_problem, 5), (clock, 4),
    (weekday, 3), (shopping, 3), (counting, 5), (rewrite, 8), (passage, 10), (summary, 6), (little_story, 9), (listing, 8),
    (opposite, 4), (compare, 6), (naming, 3),
)  # fmt: skip
_FUNCTIONS = [maker for maker, _ in _MAKERS]
_CUMULATIVE = list(accumulate(weight for _, weight in _MAKERS))


def make_turns(rng: random.Random, world: World) -> Turns:
    """One conversation and its truth."""
    return rng.choices(_FUNCTIONS, cum_weights=_CUMULATIVE)[0](rng, world)
