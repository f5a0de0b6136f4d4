"""The people of the world: names, ages, jobs, families and friends, how they are addressed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .korean import has_final

FAMILY_NAMES = ("김 이 박 최 정 강 조 윤 장 임 한 오 서 신 권 황 안 송 전 홍 유 고 문 양 손 배 백 허 남 심 노 하 곽 성 차 주 우 구 민 류 나 진 지 엄 채 원 천 방 공 현").split()  # fmt: skip
_WEIGHTS = [20, 14, 8, 5, 5, 3, 3, 3, 3, 3] + [1] * (len(FAMILY_NAMES) - 10)
BOYS = ("민준 서준 도윤 예준 시우 하준 주원 지호 지후 준서 준우 현우 도현 지훈 건우 우진 선우 서진 연우 유준 정우 승우 승현 시윤 준혁 은우 지환 승민 지우 유찬 윤우 민재 현준 동현 한결 태윤 재윤 시온 민성 로운 태현 은찬 이준 성민 찬영 규민 진우 태민 하람 영민 상현 준호 수호 가온 다온").split()
GIRLS = ("서연 서윤 지우 서현 하은 하윤 민서 지유 윤서 채원 수아 지민 지아 지윤 은서 다은 예은 수빈 소율 예린 지안 소윤 하린 예원 수연 시은 유진 채은 윤아 유나 가은 서영 민지 예진 수민 다인 시아 아린 나은 주아 연우 유주 세은 소은 다연 은채 보민 해인 슬아 새봄 나래 아라 보람 혜원 다솜").split()
MEN = ("성호 재현 상훈 정훈 동욱 진호 영수 민호 성진 태호 경수 현석 승환 재석 병철 기훈 종현 용준 창민 대현 상우 진수 광호 정민 원석 형준 인호 세훈 명수 재호 석진 동진 우성 철민 홍석 규호 선호 윤호 정환 충현").split()
WOMEN = ("지영 은정 미영 현정 은주 수진 혜진 미경 선영 정은 유미 은영 지현 혜영 소영 윤정 미선 정아 경미 수정 지은 나영 보영 민정 희정 선희 주연 은희 혜경 유정 세영 진희 하영 승희 정희 연주 은경 효진 미란 수경").split()
OLD_MEN = "영철 종수 기영 춘식 병수 만수 태식 상철 정식 광수 용식 재만 덕수 길수 순철 동수 창수 봉수 홍식 경식".split()
OLD_WOMEN = "영숙 순자 말순 정자 옥순 복순 춘자 명자 금순 경자 영자 점순 미자 순옥 정숙 명숙 옥자 분이 순덕 귀순".split()

TRAITS = (
    "조용하다", "활발하다", "다정하다", "꼼꼼하다", "느긋하다", "씩씩하다", "수줍음이 많다", "호기심이 많다", "겁이 많다", "웃음이 많다",
    "눈물이 많다", "욕심이 없다", "정이 많다", "참을성이 많다", "성실하다", "부지런하다", "솔직하다", "착하다", "차분하다", "엉뚱하다",
    "명랑하다", "고집이 세다", "말수가 적다", "장난기가 많다", "배려심이 깊다", "상상력이 풍부하다", "책임감이 강하다", "인사성이 밝다",
    "기억력이 좋다", "손재주가 좋다",
)  # fmt: skip


@dataclass
class Person:
    """One inhabitant. ``nick`` is the name as friends say it in a sentence (지훈이, 민아), ``voc`` as they call it (지훈아)."""

    index: int
    family: str
    given: str
    gender: str  # "남" or "여"
    age: int
    town: str = ""
    job: str = ""
    hobby: str = ""
    food: str = ""
    disliked: str = ""
    pet: str = ""
    pet_name: str = ""
    trait: str = ""
    dream: str = ""
    relations: dict[str, int] = field(default_factory=dict)  # "아버지" -> index of a person, "친구" -> ...

    @property
    def name(self) -> str:
        return self.family + self.given

    @property
    def nick(self) -> str:
        return self.given + ("이" if has_final(self.given) else "")

    @property
    def voc(self) -> str:
        return self.given + ("아" if has_final(self.given) else "야")

    @property
    def stage(self) -> str:
        """아이 (to 12), 학생 (to 18), 어른 (to 64), 노인."""
        return "아이" if self.age <= 12 else "학생" if self.age <= 18 else "어른" if self.age <= 64 else "노인"

    @property
    def polite(self) -> str:
        """How a younger person speaks of them: 김영숙 할머니, 박 씨 is avoided; 이지영 씨 among adults."""
        if self.age >= 65:
            return self.name + (" 할아버지" if self.gender == "남" else " 할머니")
        return self.name + " 씨" if self.age > 18 else self.name


def make_people(rng: random.Random, families: int, tables: dict[str, tuple]) -> list[Person]:
    """Families of three generations and their friendships; ``tables`` holds names of towns, jobs, hobbies, foods, pets."""
    people: list[Person] = []

    def add(family: str, names: list[str], gender: str, age: int, town: str) -> Person:
        person = Person(len(people), family, rng.choice(names), gender, age, town)
        person.hobby, person.trait = rng.choice(tables["hobbies"]), rng.choice(TRAITS)
        person.food, person.disliked = rng.sample(tables["foods"], 2)
        if person.stage == "어른":
            person.job = rng.choice(tables["jobs"])
        elif person.stage == "노인":
            person.job = rng.choice(tables["old_jobs"])
        else:
            person.job = _school(age)
            person.dream = rng.choice(tables["jobs"])
        people.append(person)
        return person

    for _ in range(families):
        town = rng.choice(tables["towns"])
        surname = rng.choices(FAMILY_NAMES, _WEIGHTS)[0]
        father = add(surname, MEN, "남", rng.randint(36, 52), town)
        mother = add(rng.choices(FAMILY_NAMES, _WEIGHTS)[0], WOMEN, "여", father.age - rng.randint(-2, 5), town)
        father.relations["아내"], mother.relations["남편"] = mother.index, father.index
        children = [
            add(surname, BOYS, "남", rng.randint(8, 18), town)
            if rng.random() < 0.5
            else add(surname, GIRLS, "여", rng.randint(8, 18), town)
            for _ in range(rng.choice((1, 1, 2, 2, 3)))
        ]
        grandmother = add(rng.choices(FAMILY_NAMES, _WEIGHTS)[0], OLD_WOMEN, "여", father.age + rng.randint(24, 32), town)
        grandfather = add(surname, OLD_MEN, "남", grandmother.age + rng.randint(0, 5), rng.choice((town, rng.choice(tables["towns"]))))
        pet, pet_name = (rng.choice(tables["pets"]), rng.choice(tables["pet_names"])) if rng.random() < 0.6 else ("", "")
        for person in (father, mother, *children):
            person.pet, person.pet_name = pet, pet_name
        for child in children:
            child.relations.update(아버지=father.index, 어머니=mother.index, 할머니=grandmother.index, 할아버지=grandfather.index)
        _name_siblings(people, children)
    _befriend(rng, people)
    return people


def _school(age: int) -> str:
    return "초등학생" if age <= 12 else "중학생" if age <= 15 else "고등학생"


def _name_siblings(people: list[Person], children: list[Person]) -> None:
    used: set[str] = set()
    for position, child in enumerate(children):
        child.age = max(8, min(18, child.age + (0 if position == 0 else -position)))
        child.job = _school(child.age)
        if child.given in used:
            names = BOYS if child.gender == "남" else GIRLS
            child.given = next(name for name in names if name not in used)
        used.add(child.given)
    for child in children:
        for other in children:
            if other is child or other.age == child.age:
                continue
            if other.age > child.age:
                word = {"남남": "형", "남여": "누나", "여남": "오빠", "여여": "언니"}[child.gender + other.gender]
            else:
                word = "남동생" if other.gender == "남" else "여동생"
            child.relations.setdefault(word, other.index)


def _befriend(rng: random.Random, people: list[Person]) -> None:
    """Friends are of nearly the same age and stage, with another given name."""
    stages: dict[str, list[Person]] = {}
    for person in people:
        stages.setdefault(person.stage, []).append(person)
    for person in people:
        limit = 1 if person.age <= 18 else 4
        peers = [p for p in stages[person.stage] if p.index != person.index and abs(p.age - person.age) <= limit and p.given != person.given]
        if peers:
            person.relations["친구"] = rng.choice(peers).index
        if person.age <= 18:
            family = set(person.relations.values())
            teachers = [p for p in stages["어른"] if p.job == "교사" and p.index not in family] or stages["어른"]
            person.relations["선생님"] = rng.choice(teachers).index
