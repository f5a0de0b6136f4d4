"""The small world that all documents speak of: its people (made from a seed) and its knowledge tables (always true).

``World(seed)`` is cheap to keep and is shared by all kinds: a fact that a story uses is the fact that an article states
and a chat answers. Tables are tuples of the records in :mod:`.facts.types`; :meth:`World.entry` finds any by its name.
"""

from __future__ import annotations

import random
from functools import cached_property

from .facts import animals, calendar, dishes, feelings, health, hobbies, jobs, plants, things, towns, words
from .facts.types import Entry
from .people import Person, make_people

PET_ANIMALS = ("강아지", "고양이", "토끼", "햄스터", "거북이", "앵무새")
PET_NAMES = ("초코 보리 콩이 두부 구름이 별이 나비 까미 하양이 망고 호두 밤이 복실이 뭉치 라떼 감자 단추 몽이 쿠키 해피 달이 "
             "모카 참깨 쌀이 봄이 땅콩 치즈 순돌이 누렁이 바둑이").split()  # fmt: skip
OLD_JOBS = ("농부", "은퇴한 교사", "텃밭을 가꾸는 노인", "시장 상인", "은퇴한 목수", "동네 책방 주인")


class World:
    """People by seed and tables of knowledge.

    Attributes: ``people`` (list of :class:`Person`), ``dishes``, ``towns``, ``animals``, ``plants``, ``things``, ``jobs``,
    ``feelings``, ``health``, ``days``, ``hobbies``, ``words`` (tuples of records), ``children``, ``students``, ``adults``,
    ``elders`` (people by age).
    """

    def __init__(self, seed: int = 0, families: int = 110):
        self.seed = seed
        self.dishes, self.towns, self.animals, self.plants = dishes.DISHES, towns.TOWNS, animals.ANIMALS, plants.PLANTS
        self.things, self.jobs, self.feelings = things.THINGS, jobs.JOBS, feelings.FEELINGS
        self.health, self.days, self.hobbies, self.words = health.HEALTH, calendar.DAYS, hobbies.HOBBIES, words.WORDS
        tables = {
            "towns": tuple(town.name for town in self.towns),
            "jobs": tuple(job.name for job in self.jobs),
            "old_jobs": OLD_JOBS,
            "hobbies": tuple(hobby.name for hobby in self.hobbies),
            "foods": tuple(dish.name for dish in self.dishes),
            "pets": PET_ANIMALS,
            "pet_names": tuple(PET_NAMES),
        }
        self.people = make_people(random.Random(f"world/{seed}"), families, tables)
        self.children = [p for p in self.people if p.stage == "아이"]
        self.students = [p for p in self.people if p.stage == "학생"]
        self.adults = [p for p in self.people if p.stage == "어른"]
        self.elders = [p for p in self.people if p.stage == "노인"]
        self.young = self.children + self.students

    def relation(self, person: Person, word: str) -> Person | None:
        """The person who is ``word`` (아버지, 어머니, 형, 누나, 친구, 선생님...) to ``person``, or None."""
        index = person.relations.get(word)
        return None if index is None else self.people[index]

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        tables = (self.dishes, self.towns, self.animals, self.plants, self.things, self.jobs, self.feelings, self.health,
                  self.days, self.hobbies, self.words)  # fmt: skip
        return {entry.name: entry for table in reversed(tables) for entry in table}

    def entry(self, name: str) -> Entry:
        """The record called ``name``; KeyError if there is none."""
        return self._entries[name]
