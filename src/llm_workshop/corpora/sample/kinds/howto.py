"""How-to texts: recipes with amounts, and housework, gardening, first aid, devices, study, travel.

Truth: ``task``, ``steps`` (exact sentences in order), ``needs``, and for recipes ``servings``, ``minutes`` and
``ingredients`` as written.
"""

from __future__ import annotations

import random
from math import ceil

from ..content.chores import HOWTOS
from ..content.chores_more import MORE
from ..content.recipes import RECIPES as FIRST_RECIPES
from ..content.recipes_more import MORE as MORE_RECIPES
from ..draft import Draft
from ..korean import josa
from .phrases import chance, pick, say, shuffled, weighted

_HOWTOS = HOWTOS + MORE
RECIPES = FIRST_RECIPES + MORE_RECIPES
_WHOLE = frozenset(("장", "마리", "줄기", "포기", "쪽", "공기"))
_FRACTIONS = {0.25: "1/4", 0.5: "1/2", 0.75: "3/4"}
_LEVELS = (("해요", 3), ("합쇼", 3), ("해라", 3), ("세요", 2))

_RECIPE_OPENINGS = (
    "[오늘은|이번에는|오늘 저녁에는] 집에서 {dish:을/를} 만드는 [방법을|법을] <소개하다>", "{minutes}분이면 {dish:을/를} [집에서도|누구나] 만들 수 <있다>",
    "{dish:은/는} [재료만 있으면|차례만 알면|어렵게 보여도] 생각보다 만들기 <쉽다>", "집에 {first:이/가} 있다면 {dish:을/를} 만들어 볼 <만하다/형>",
    "[입맛이 없을 때|무엇을 해 먹을지 고민될 때|주말 점심에]는 {dish:이/가} <좋다>", "할머니께 배운 {dish} 만드는 [차례를|법을] <적어 두다>",
    "{dish} {n}인분을 만드는 <방법이다>", "처음 만드는 사람도 따라 할 수 있게 {dish} [만드는 법을|조리법을] <정리하다+>",
)  # fmt: skip
_LOOSE_OPENINGS = (*(o for o in _RECIPE_OPENINGS if "{minutes}" not in o and "{n}" not in o), "{teacher}에게서 배운 {dish} 만드는 법<이다>", "{teacher}의 {dish:은/는} 이렇게 <만들다>")
_RECIPE_OPENINGS += ("{teacher}에게서 배운 {dish} 만드는 법<이다>", "{teacher:이/가} 알려 준 대로 {dish:을/를} 만들어 <보다>")
_DETAILED = frozenset(recipe.name for recipe in RECIPES)
_RECIPE_CLOSINGS = (
    "[따뜻할 때|갓 만들었을 때] 먹어야 <맛있다>", "[식구들과|가족과|친구와] 함께 먹으면 더 <맛있다>", "남으면 [통에 담아|식힌 뒤] 냉장고에 두었다가 [다음 날|이틀 안에] 먹으면 <되다>",
    "[이렇게 하면|이제] {dish:이/가} <완성되다>", "걸리는 시간은 [모두 |]{minutes}분쯤<이다>", "한 번 만들어 보면 다음부터는 훨씬 <쉽다>", "[밥과 함께|밥을 곁들여] 내면 한 끼로 <충분하다>",
)  # fmt: skip
_LOOSE_CLOSINGS = tuple(c for c in _RECIPE_CLOSINGS if "{minutes}" not in c)
_HOWTO_OPENINGS = (
    "{goal}, 차례만 알면 <어렵지 않다>", "[처음 하면|혼자 하려면] 막막한 {goal}, [이렇게 하면|순서를 알면] <되다>", "{task~는} [방법을|차례를] <정리하다+>", "[이번에는|오늘은] {task~는} [방법을|법을] <알아보다>",
    "{task~으려면} [몇 가지만|다음 차례만] 지키면 <되다>", "{goal}, 어떻게 [해야 할지|시작할지] [고민하는|망설이는] 사람이 <많다>", "{teacher}에게 {task~는} 법을 <물어보다+>", "{teacher:이/가} 알려 준, {task~는} <방법이다>", "[필요할 때 바로 볼 수 있게|잊지 않도록] {task~는} 법을 <적어 두다>",
)  # fmt: skip
_HOWTO_CLOSINGS = (
    "[처음에는|한두 번은] 서툴러도 금방 손에 <익다>", "[차례대로|순서대로] 하면 실수가 <적다>", "미리 준비물을 챙겨 두면 시간을 줄일 수 <있다>", "서두르지 않는 것이 무엇보다 <중요하다>",
    "[한번 익혀 두면|알아 두면] 두고두고 쓸모가 <있다>", "모르는 것이 있으면 [잘 아는 사람에게|주변에] 물어보는 것도 <좋다>",
)  # fmt: skip
_ORDER = (
    ("먼저", "우선", "맨 먼저", "가장 먼저"), ("그다음", "이어서", "그런 다음", "그러고 나서", "이제", "다음으로"), ("마지막으로", "끝으로", "마무리로"),
)  # fmt: skip
_STEP_HEADS = ("만드는 법", "만들기", "조리 순서", "차례")
_HOWTO_HEADS = ("방법", "차례", "이렇게 합니다", "하는 법")
_TIP_HEADS = ("도움말", "알아 두기", "참고", "한 가지 더", "주의할 점")


def _amount(value: float, unit: str, servings: int, name: str = "") -> str:
    scaled = value * servings / 2
    if unit in ("g", "ml"):
        return f"{round(scaled / 10) * 10 or 5:,}{unit}"
    scaled = ceil(scaled) if (unit in _WHOLE or name == "달걀") and value >= 1 else ceil(scaled * 4) / 4 if scaled < 1 else ceil(scaled * 2) / 2
    whole, part = int(scaled), scaled - int(scaled)
    if not part:
        return f"{whole}{unit}"
    return f"{josa(str(whole), '과/와')} {_FRACTIONS[part]}{unit}" if whole else f"{_FRACTIONS[part]}{unit}"


def _prose(rng: random.Random, steps: list[str]) -> list[str]:
    """Steps as sentences with words of order, never twice the same in a row."""
    lines, last = [], ""
    for i, step in enumerate(steps):
        words = _ORDER[0] if i == 0 else _ORDER[2] if i == len(steps) - 1 else _ORDER[1]
        word = pick(rng, [w for w in words if w != "마무리로"] if "마무리" in step else words)
        if (i not in (0, len(steps) - 1) and chance(rng, 0.45)) or word == last or ("먼저" in step and i == 0):
            lines.append(f"{step}.")
        else:
            lines.append(f"{word} {step}.")
            last = word
    return lines


def _lay_out(rng: random.Random, title: str, opening: str, needs: str, steps: list[str], tips: list[str], closing: str, heads) -> str:
    style = weighted(rng, (("list", 5), ("prose", 4), ("dashes", 1)))
    if style == "prose":
        lines = [title] if chance(rng, 0.4) or not opening else []
        lines += [needs] if needs and chance(rng, 0.7) else []
        body = [opening and f"{opening}.", *_prose(rng, steps), *(f"{tip}." for tip in tips), closing and f"{closing}."]
        return "\n".join([*lines, " ".join(part for part in body if part)])
    mark = (lambda i: f"{i}. ") if style == "list" else (lambda i: "- ")
    lines = [title, *([f"{opening}."] if opening else []), *([needs] if needs else []), *([pick(rng, heads)] if chance(rng, 0.5) else [])]
    lines += [f"{mark(i)}{step}." for i, step in enumerate(steps, 1)]
    if tips:
        lines.append(f"{pick(rng, _TIP_HEADS)}: " + " ".join(f"{tip}." for tip in tips))
    if closing:
        lines.append(f"{closing}.")
    return "\n".join(lines)


_COLD = ("오이냉국", "무생채", "식혜", "수정과", "콩국수", "냉면", "화채", "샌드위치", "깍두기", "김치", "겉절이", "무침", "나물", "샐러드", "빙수", "막국수")
_WITH_RICE = ("찌개", "국", "조림", "구이", "불고기", "볶음", "나물", "무침", "말이", "탕", "전", "찜", "깍두기", "겉절이")
_DRINKS = ("식혜", "수정과", "호떡", "화채", "송편", "깍두기", "배추김치", "유자차", "대추차", "생강차", "단호박라테", "오이냉국")
_SPOILS = ("국수", "면", "떡국", "수제비", "떡볶이", "비빔밥", "김밥", "쫄면")


def _closes(closing: str, dish: str) -> bool:
    """Whether a closing suits the dish: nothing warm for cold dishes, no rice with noodles, no leftovers of noodles."""
    if "따뜻할 때" in closing:
        return not dish.endswith(_COLD)
    if "밥과" in closing:
        return dish.endswith(_WITH_RICE) and not dish.endswith((*_SPOILS, "감자전", "김치전", "파전", "호박전", "삼계탕"))
    return "남으면" not in closing or not dish.endswith(_SPOILS)


def _suits(closing: str, item) -> bool:
    """Whether a closing suits the subject: no talk of practice in an emergency, no tools where hardly any are needed."""
    if "준비물" in closing:
        return len(item.needs) > 2 and item.topic != "응급 처치"
    return item.topic not in ("응급 처치", "건강") or not any(word in closing for word in ("서툴러도", "서두르지", "실수"))


def _teacher(rng: random.Random, world) -> str:
    person = pick(rng, pick(rng, (world.adults, world.elders)))
    return f"{person.town}에 사는 {person.polite}" if chance(rng, 0.6) else person.polite


def _finish_recipe(rng: random.Random, world, name: str, needs: list[str], given_steps, given_tips, minutes: int, servings: int) -> Draft:
    """``given_steps`` and ``given_tips`` are (source, slots) pairs."""
    level = weighted(rng, _LEVELS)
    talk = "해요" if level == "세요" else level
    slots = {"dish": name, "minutes": minutes, "n": servings, "first": needs[0].split(" ")[0] if servings else needs[0], "teacher": _teacher(rng, world)}
    steps = [say(rng, source, level, more) for source, more in given_steps]
    tips = [say(rng, source, talk, more) for source, more in shuffled(rng, given_tips)[: pick(rng, (0, 1, 1, 2, 2))]]
    openings = _RECIPE_OPENINGS if servings else _LOOSE_OPENINGS
    if name in _DRINKS:
        openings = [o for o in openings if "해 먹을지" not in o and "입맛" not in o and "주말 점심" not in o]
    opening = say(rng, pick(rng, openings), talk, slots) if chance(rng, 0.75) else ""
    closings = _RECIPE_CLOSINGS if servings else _LOOSE_CLOSINGS
    closing = say(rng, pick(rng, [c for c in closings if _closes(c, name)]), talk, slots) if chance(rng, 0.55) else ""
    title = pick(rng, (f"{name} 만들기", f"{name} 만드는 법", f"집에서 만드는 {name}", name))
    title += f" ({servings}인분)" if servings and chance(rng, 0.6) else ""
    head = "재료" if not servings or chance(rng, 0.7) else f"재료({servings}인분)"
    text = _lay_out(rng, title, opening, f"{head}: {', '.join(needs)}", steps, tips, closing, _STEP_HEADS)
    truth: dict = {"task": f"{name} 만들기", "topic": "요리", "steps": steps, "needs": needs}
    if servings:
        truth.update(minutes=minutes, servings=servings)
    return Draft(text, truth)


def _recipe(rng: random.Random, world) -> Draft:
    recipe, servings = pick(rng, RECIPES), pick(rng, (1, 2, 2, 2, 3, 4))
    needs = [f"{name} {_amount(value, unit, servings, name)}" for name, value, unit in recipe.ingredients]
    return _finish_recipe(rng, world, recipe.name, needs, [(s, None) for s in recipe.steps], [(t, None) for t in recipe.tips], recipe.minutes, servings)


def _loose_recipe(rng: random.Random, world) -> Draft:
    """A dish of the world's table, without amounts."""
    dishes = _loose_dishes(world)
    dish = pick(rng, dishes)
    steps = [("<@step>", {"step": step}) for step in dish.steps]
    tips = [("<@tip>", {"tip": dish.tip})] if dish.tip else []
    return _finish_recipe(rng, world, dish.name, list(dish.ingredients), steps, tips, 0, 0)


def _loose_dishes(world) -> tuple:
    return tuple(dish for dish in world.dishes if len(dish.steps) >= 3 and dish.name not in _DETAILED)


def _howto(rng: random.Random, world) -> Draft:
    item, level = pick(rng, _HOWTOS), weighted(rng, _LEVELS)
    talk = "해요" if level == "세요" else level
    slots = {"goal": item.goal, "task": item.task, "teacher": _teacher(rng, world)}
    steps = [say(rng, step, level) for step in item.steps]
    tips = [say(rng, tip, talk) for tip in shuffled(rng, item.tips)[: pick(rng, (0, 1, 1, 2, 2))]]
    openings = [o for o in _HOWTO_OPENINGS if "막막한" not in o or not any(mark in item.goal for mark in ("을 ", "를 ", "때 "))]
    opening = say(rng, pick(rng, openings), talk, slots) if chance(rng, 0.75) else ""
    closing = say(rng, pick(rng, [c for c in _HOWTO_CLOSINGS if _suits(c, item)]), talk, slots) if chance(rng, 0.5) else ""
    title = pick(rng, (item.goal, item.goal, f"[{item.topic}] {item.goal}"))
    needs = f"준비물: {', '.join(shuffled(rng, item.needs))}" if chance(rng, 0.7) else ""
    return Draft(_lay_out(rng, title, opening, needs, steps, tips, closing, _HOWTO_HEADS), {"task": item.goal, "topic": item.topic, "steps": steps, "needs": list(item.needs)})


def make_howto(rng: random.Random, world) -> Draft:
    """A recipe (half of them) or another how-to text."""
    which = rng.random()
    return _recipe(rng, world) if which < 0.3 else _loose_recipe(rng, world) if which < 0.5 else _howto(rng, world)


KINDS = {"howto": (make_howto, 7.0)}
