"""Sentence templates, compiled once into Python code, then filled in about a microsecond per slot.

    render(rng, "{p.name:은/는} [오늘|어제] {place:으로/로} {verb~았다}.", p=person, place="시장", verb="걷다")

==============  =====================================================================================
``{x}``         the slot ``x``; ``{x.name}`` an attribute of it (any depth), ``{x.0}`` an element of a tuple
``{x:은/는}``   the slot with the right particle (any pair of :mod:`.korean`); ``{x:이/}는`` gives 지훈이는, 민아는
``{x~았다}``    the slot, a dictionary form or a phrase that ends in one, conjugated (endings: :mod:`.conjugation`)
``{x^~았다}``   the same with the honorific -시-: 가셨다, 드셨다
``{x~는}``      also modifiers: 걷는, 예쁜, 학생인
``{=걷다~아서}`` a literal predicate, for the rare case where you do not want to write 걸어서 yourself
``[a|b|c]``     one of them at random; ``[a |]`` optional (put the space inside); may be nested and hold slots
``\\[ \\{``       literal brackets
==============  =====================================================================================

Slots come as keyword arguments or as one mapping (``template(rng, slots)``). A missing slot is a KeyError: a bug of
ours, found by the tests, never of the user. Values that are not str are turned into str.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from .conjugation import adjective, conjugate, honorific
from .korean import particle

_MAX_CACHED = 24  # longer values (whole clauses) are worked out anew, so the tables stay small


class _ParticleTable(dict):
    """word -> word + particle."""

    def __init__(self, pair: str):
        particle("가", pair)  # an unknown pair is told when the template is compiled
        self.pair = pair

    def __missing__(self, word) -> str:
        text = word if type(word) is str else str(word)
        result = text + particle(text, self.pair)
        if len(text) <= _MAX_CACHED:
            self[word] = result
        return result


class _EndingTable(dict):
    """predicate -> conjugated form."""

    def __init__(self, ending: str, polite: bool):
        conjugate("가다", ending)
        self.ending, self.polite = ending, polite

    def __missing__(self, predicate: str) -> str:
        if self.polite:  # a polite adjective is still an adjective: 외로우시군요, not 외로우시는군요
            used = honorific(predicate) + ("/형" if adjective(predicate) and not predicate.endswith("있다") else "/동")
        else:
            used = predicate
        result = conjugate(used, self.ending)
        if len(predicate) <= _MAX_CACHED:
            self[predicate] = result
        return result


_TABLES: dict[tuple, dict] = {}


def _table(kind: str, *arguments) -> dict:
    key = (kind, *arguments)
    if key not in _TABLES:
        _TABLES[key] = _ParticleTable(*arguments) if kind == "particle" else _EndingTable(*arguments)
    return _TABLES[key]


class _Compiler:
    """Recursive descent over the template; every node becomes a Python expression of ``s`` (slots) and ``r`` (random)."""

    def __init__(self, source: str):
        self.source, self.position = source, 0
        self.namespace: dict = {"str": str, "int": int}

    def fail(self, why: str):
        raise ValueError(f"template {self.source!r}, character {self.position}: {why}")

    def sequence(self, stops: str) -> str:
        parts, literal = [], []

        def flush():
            if literal:
                parts.append(repr("".join(literal)))
                literal.clear()

        while self.position < len(self.source) and self.source[self.position] not in stops:
            character = self.source[self.position]
            self.position += 1
            if character == "\\" and self.position < len(self.source):
                literal.append(self.source[self.position])
                self.position += 1
            elif character == "{":
                flush()
                parts.append(self.slot())
            elif character == "[":
                flush()
                parts.append(self.choice())
            elif character in "}]":
                self.fail(f"{character!r} without its opening bracket")
            else:
                literal.append(character)
        flush()
        return "+".join(parts) or "''"

    def choice(self) -> str:
        options = [self.sequence("|]")]
        while self.position < len(self.source) and self.source[self.position] == "|":
            self.position += 1
            options.append(self.sequence("|]"))
        if self.position >= len(self.source):
            self.fail("'[' is never closed")
        self.position += 1
        if all(option[0] in "'\"" and "+" not in option for option in options):
            return f"{self.constant(tuple(eval(option) for option in options))}[int(r()*{len(options)})]"
        lambdas = ",".join(f"lambda s,r:{option}" for option in options)
        name = f"c{len(self.namespace)}"
        self.namespace[name] = eval(f"({lambdas},)", self.namespace)
        return f"{name}[int(r()*{len(options)})](s,r)"

    def constant(self, value) -> str:
        name = f"c{len(self.namespace)}"
        self.namespace[name] = value
        return name

    def slot(self) -> str:
        end = self.source.find("}", self.position)
        if end < 0:
            self.fail("'{' is never closed")
        inside = self.source[self.position : end]
        self.position = end + 1
        name, tilde, ending = inside.partition("~")
        if tilde:
            polite = name.endswith("^")
            return f"{self.constant(_table('ending', ending, polite))}[{self.value(name.removesuffix('^'))}]"
        name, colon, pair = inside.partition(":")
        if colon:
            return f"{self.constant(_table('particle', pair))}[{self.value(name)}]"
        return f"str({self.value(name)})"

    def value(self, name: str) -> str:
        if name.startswith("="):
            return repr(name[1:])
        first, *path = name.strip().split(".")
        if not first.isidentifier():
            self.fail(f"{name!r} is not a slot name")
        expression = f"s[{first!r}]"
        for step in path:
            expression += f"[{int(step)}]" if step.isdigit() else f".{step}"
        return expression


class Template:
    """A compiled template: ``template(rng, slots_or_nothing, **slots) -> str``."""

    __slots__ = ("_run", "source")

    def __init__(self, source: str):
        compiler = _Compiler(source)
        expression = compiler.sequence("")
        self.source = source
        self._run = eval(f"lambda s,r:{expression}", compiler.namespace)

    def __call__(self, rng: random.Random, slots: Mapping | None = None, **more) -> str:
        return self._run({**slots, **more} if slots and more else slots or more, rng.random)


_COMPILED: dict[str, Template] = {}


def template(source: str) -> Template:
    """The compiled template for ``source``, compiled at most once."""
    compiled = _COMPILED.get(source)
    if compiled is None:
        compiled = _COMPILED[source] = Template(source)
    return compiled


def render(rng: random.Random, source: str, slots: Mapping | None = None, **more) -> str:
    """Fill ``source`` once; see the module's table for the syntax."""
    compiled = _COMPILED.get(source) or template(source)
    return compiled._run({**slots, **more} if slots and more else slots or more, rng.random)


def pick(rng: random.Random, items):
    """``rng.choice`` without its overhead; ``items`` is a non-empty sequence."""
    return items[int(rng.random() * len(items))]


def pick_render(rng: random.Random, sources, slots: Mapping | None = None, **more) -> str:
    """One of several templates, filled."""
    return render(rng, sources[int(rng.random() * len(sources))], slots, **more)


def sample(rng: random.Random, items, count: int) -> list:
    """``count`` different elements in random order."""
    return rng.sample(items, count) if len(items) < 12 else _sample_large(rng, items, count)


def _sample_large(rng: random.Random, items, count: int) -> list:
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen[int(rng.random() * len(items))] = None
    return [items[index] for index in chosen]


def chance(rng: random.Random, probability: float) -> bool:
    return rng.random() < probability
