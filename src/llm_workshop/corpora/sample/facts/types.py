"""The record types of the knowledge tables. Every ``facts``/``clause`` text follows the convention of the package."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What all entries have: a name, what it is (a noun: "국물 요리"), and clauses about it."""

    name: str
    is_a: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Dish(Entry):
    """Korean home cooking. ``steps`` are clauses in order (dictionary forms: "무를 얇게 썰다")."""

    ingredients: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    tip: str = ""  # a clause: "멸치 육수를 쓰면 국물이 깊어지다"
    taste: str = ""  # a clause whose subject is the dish or its part: "국물이 얼큰하다"
    when: str = ""  # when it is eaten, an adverbial: "비 오는 날에"
    counter: str = "그릇"


@dataclass(frozen=True)
class Town(Entry):
    """A real city with general facts, or (``real=False``) one of the invented villages."""

    region: str = ""  # "강원도 동해안"
    foods: tuple[str, ...] = ()  # what people eat there
    places: tuple[str, ...] = ()  # what people see there
    activity: str = ""  # a clause: "바닷가에서 해돋이를 보다"
    season: str = ""  # best season: "여름"
    real: bool = True


@dataclass(frozen=True)
class Animal(Entry):
    food: str = ""  # noun phrase: "나뭇잎과 열매"
    home: str = ""  # "숲", "바다"
    sound: str = ""  # "멍멍", may be empty
    legs: int = 4
    baby: str = ""  # "강아지", may be empty
    counter: str = "마리"


@dataclass(frozen=True)
class Plant(Entry):
    """Flowers, trees, vegetables and fruit. ``season``: when it blooms or ripens."""

    season: str = ""
    color: str = ""  # modifier: "노란", "붉은"
    counter: str = "송이"
    edible: bool = False


@dataclass(frozen=True)
class Thing(Entry):
    """Everyday objects. ``use`` is a clause ("비를 막다"), ``place`` where it is kept."""

    use: str = ""
    place: str = ""
    care: str = ""  # a clause of advice: "쓰고 나서 잘 말려야 하다"
    counter: str = "개"


@dataclass(frozen=True)
class Job(Entry):
    """``does`` is a clause ("아픈 사람을 치료하다"), ``place`` where they work, ``needs`` a noun phrase (qualities)."""

    does: str = ""
    place: str = ""
    needs: str = ""
    tool: str = ""


@dataclass(frozen=True)
class Feeling(Entry):
    """``name`` is a noun (슬픔), ``predicate`` its adjective or verb (슬프다); ``causes`` clauses, ``advice`` clauses."""

    predicate: str = ""
    causes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    comfort: tuple[str, ...] = ()  # whole sentences in 해요체 that a friend says
    good: bool = False


@dataclass(frozen=True)
class Health(Entry):
    """``name`` of a complaint or a habit; ``complaint`` clause of the speaker ("목이 아프다"), ``advice`` clauses."""

    complaint: str = ""
    causes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    doctor: str = ""  # when to see a doctor, an adverbial clause: "열이 사흘 넘게 이어지면"


@dataclass(frozen=True)
class Day(Entry):
    """Holidays, seasons and months. ``date`` as said ("음력 8월 15일")."""

    date: str = ""
    foods: tuple[str, ...] = ()
    customs: tuple[str, ...] = ()  # clauses: "송편을 빚다"
    greeting: str = ""  # a whole sentence


@dataclass(frozen=True)
class Hobby(Entry):
    """``name`` is a noun (등산), ``doing`` a verb phrase ("산에 오르다"), ``tools`` nouns, ``benefit`` a clause."""

    doing: str = ""
    tools: tuple[str, ...] = ()
    benefit: str = ""
    beginner: str = ""  # a clause of advice for a beginner
    place: str = ""


@dataclass(frozen=True)
class Word(Entry):
    """A word with its meaning (``meaning``: a noun phrase that ends in 말/뜻-able form) and an example sentence (plain style)."""

    meaning: str = ""
    example: str = ""
    opposite: str = ""
