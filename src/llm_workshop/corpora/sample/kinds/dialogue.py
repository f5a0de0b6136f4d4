"""Everyday talk between two people, with speaker names; one script serves several speech levels.

In a script ``<verb:X>`` is a predicate in the level of its speaker, ``@나는`` a word that has a polite form:

====  =============================  =====================================
X     반말                            해요체 (to an elder or a stranger)
====  =============================  =====================================
S     statement 가                    가요
P     past 갔어                       갔어요
Q     question to the other 가(?)     가세요(?)
PQ    past question 갔어(?)           가셨어요(?)
F     I will 갈게                     갈게요
L     let us 가자                     가요
R     it will 갈 거야                 갈 거예요
N     seeing 가네                     가네요
I     do 가                           가세요
W     will you 갈래(?)                가실래요(?)
K     shall we 갈까(?)                갈까요(?)
D     reason 가거든                   가거든요
B     background 가는데               가는데요
====  =============================  =====================================
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from ..draft import Draft
from ..people import Person
from ..templates import pick, render
from ..world import World
from . import dialogue_scripts as scripts
from .dialogue_slots import SLOTS

_CASUAL = {"S": "아", "P": "았어", "Q": "아", "PQ": "았어", "F": "을게", "L": "자", "R": "을 거야", "N": "네", "I": "아", "W": "을래",
           "K": "을까", "D": "거든", "B": "는데"}  # fmt: skip
_POLITE = {"S": "아요", "P": "았어요", "Q": "^아요", "PQ": "^았어요", "F": "을게요", "L": "아요", "R": "을 거예요", "N": "네요",
           "I": "으세요", "W": "^을래요", "K": "을까요", "D": "거든요", "B": "는데요"}  # fmt: skip
_WORDS = (
    ("나는", "저는"), ("내가", "제가"), ("나도", "저도"), ("나한테", "저한테"), ("나를", "저를"), ("내", "제"), ("응", "네"), ("아니", "아니요"), ("고마워", "고마워요"),
    ("미안해", "죄송해요"), ("안녕", "안녕하세요"), ("그래", "그래요"), ("맞아", "맞아요"), ("정말", "정말요"), ("괜찮아", "괜찮아요"), ("좋아", "좋아요"),
    ("뭐야", "뭐예요"), ("어때", "어때요"), ("그렇구나", "그렇군요"), ("글쎄", "글쎄요"), ("당연하지", "당연하죠"), ("진짜", "진짜요"), ("왜", "왜요"), ("우리", "우리"),
    ("다행이다", "다행이에요"), ("몰라", "모르겠어요"), ("어디야", "어디예요"), ("언제야", "언제예요"), ("수고했어", "수고하셨어요"), ("잘 가", "조심히 가세요"), ("축하해", "축하해요"),
    ("그럼", "그럼요"), ("아니야", "아니에요"), ("야", "저기요"), ("너는", "그쪽은"), ("걱정이다", "걱정이에요"), ("그다음에는", "그다음에는요"), ("그래서", "그래서요"),
)  # fmt: skip
_MARK = re.compile(r"<([^:>]+):([A-Z]+)>")
_ECHO = re.compile(r"\{(\w+)\}@요")  # asking back: 등산? - 등산이요?
_AT = re.compile(r"@\(([^)]+)\)")
_POLITE_WORDS = dict(_WORDS)


@lru_cache(maxsize=1 << 14)
def spoken(source: str, polite: bool) -> str:
    """The line as a template in the speaker's level."""
    endings = _POLITE if polite else _CASUAL

    def verb(match: re.Match[str]) -> str:
        predicate, ending = match.group(1), endings[match.group(2)]
        lifted = "^" if ending.startswith("^") else ""
        if lifted and predicate == "있다":  # having is 있으시다, being somewhere 계시다: 시간 있으세요?
            lifted, predicate = "", "있으시다"
        name = predicate[1:-1] if predicate.startswith("{") else "=" + predicate
        return f"{{{name}{lifted}~{ending.lstrip('^')}}}"

    source = _ECHO.sub(r"{\1:이요/요}" if polite else r"{\1}", source)
    text = _MARK.sub(verb, source)
    return _AT.sub(lambda match: _POLITE_WORDS[match.group(1)] if polite else match.group(1), text)


@dataclass(frozen=True)
class Pair:
    """Two speakers: labels, how each is called by the other, and whether each speaks politely."""

    label_a: str
    label_b: str
    call_a: str  # what B calls A, with a comma after it: "지훈아", "할머니"
    call_b: str
    polite_a: bool
    polite_b: bool
    young: bool = False  # pupils: no office scenes; grown-ups: no school scenes


def _two(rng: random.Random, people: list[Person], limit: int) -> tuple[Person, Person]:
    first = pick(rng, people)
    while True:
        second = pick(rng, people)
        if second.given != first.given and abs(second.age - first.age) <= limit:
            return first, second


def friends(rng: random.Random, world: World) -> Pair:
    a, b = _two(rng, world.young, 1)
    return Pair(a.given, b.given, a.voc, b.voc, False, False, True)


def grown_friends(rng: random.Random, world: World) -> Pair:
    a, b = _two(rng, world.adults, 2)
    return Pair(a.given, b.given, a.voc, b.voc, False, False)


def colleagues(rng: random.Random, world: World) -> Pair:
    a, b = _two(rng, world.adults, 15)
    return Pair(a.name, b.name, f"{a.given} 씨", f"{b.given} 씨", True, True)


def child_and_relative(rng: random.Random, world: World) -> Pair:
    child, kin = pick(rng, world.young), pick(rng, ("할머니", "할아버지", "이모", "삼촌", "큰아버지", "고모"))
    return Pair(child.given, kin, child.voc, kin, True, False)


_KIN = (("할머니", "여"), ("할아버지", "남"), ("엄마", "여"), ("아빠", "남"), ("이모", "여"), ("삼촌", "남"))


def child_and_elder(rng: random.Random, world: World) -> Pair:
    child, (kin, _) = pick(rng, world.young), pick(rng, _KIN)
    return Pair(child.given, kin, child.voc, kin, True, False)


def elder_and_child(rng: random.Random, world: World) -> Pair:
    child, (kin, _) = pick(rng, world.young), pick(rng, _KIN)
    return Pair(kin, child.given, kin, child.voc, False, True)


def pupil_and_teacher(rng: random.Random, world: World) -> Pair:
    child = pick(rng, world.young)
    return Pair(child.given, "선생님", child.voc, "선생님", True, False)


_ANY = ((friends, 6), (grown_friends, 3), (colleagues, 4), (child_and_elder, 2), (elder_and_child, 2))
_EQUAL = ((friends, 5), (grown_friends, 3), (colleagues, 3))
_FAMILIES = {"any": _ANY, "equal": _EQUAL, "friends": ((friends, 1),), "kin": ((child_and_relative, 1),), "kin2": ((elder_and_child, 1),), "school": ((pupil_and_teacher, 1),)}


def _labels(rng: random.Random, world: World, script: scripts.Script) -> Pair:
    if script.roles:
        role_a, role_b = script.roles
        return Pair(role_a, role_b, role_a, role_b, True, True)
    makers = _FAMILIES[script.people]
    maker = rng.choices([maker for maker, _ in makers], [weight for _, weight in makers])[0]
    return maker(rng, world)


@lru_cache(maxsize=1)
def _weights() -> list[float]:
    return list(accumulate(script.weight for script in scripts.SCRIPTS))


_SCHOOL_SCENES = ("방과 후", "교실", "쉬는 시간", "하굣길", "학교 앞", "학교 앞 문구점", "복도")
_GROWN_SCENES = ("사무실", "퇴근길", "회의가 끝난 뒤", "카페", "백화점")


def make(rng: random.Random, world: World) -> Draft:
    script = rng.choices(scripts.SCRIPTS, cum_weights=_weights())[0]
    pair = _labels(rng, world, script)
    slots = {"A": pair.call_a, "B": pair.call_b, "a": pair.label_a, "b": pair.label_b}
    for name in script.slots:
        slots |= SLOTS[name](rng, world)
    lines, last = [], ""
    scenes = script.scenes if script.roles else tuple(s for s in script.scenes if s not in (_GROWN_SCENES if pair.young else _SCHOOL_SCENES))
    if scenes and rng.random() < 0.25:
        lines.append(f"({pick(rng, scenes)})")
    for beat in script.beats:
        for line in pick(rng, beat):
            who, text = line[0], line[3:]
            polite, label = (pair.polite_a, pair.label_a) if who == "A" else (pair.polite_b, pair.label_b)
            said = render(rng, spoken(text, polite), slots)
            if who == last:
                lines[-1] += " " + said
            else:
                lines.append(f"{label}: {said}")
            last = who
    return Draft("\n".join(lines), truth={"speakers": [pair.label_a, pair.label_b], "topic": script.topic})


KINDS = {"dialogue": (make, 14.0)}
