from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from llm_workshop.corpora.sample.templates import Template, pick, render, sample

RNG = random.Random(0)


def test_slots_particles_and_verbs():
    person = SimpleNamespace(name="지훈", town=("강릉", "부산"))
    text = render(RNG, "{p.name:이/}는 {p.town.1:으로/로} {v~았다}. {n:이/가} {a~는} {=걷다~아서}", p=person, v="걷다", n=3, a="예쁘다")
    assert text == "지훈이는 부산으로 걸었다. 3이 예쁜 걸어서"


def test_honorific_slots_keep_the_class_of_the_word():
    assert render(RNG, "{v^~아요} {a^~는군요} {b^~는군요}", v="먹다", a="외롭다", b="화가 나다") == "드세요 외로우시군요 화가 나시는군요"


def test_choices_nest_and_take_slots():
    template = Template("[어제 |][{a:이/가}|[나|너]] 왔다\\[1\\]")
    seen = {template(random.Random(seed), a="형") for seed in range(200)}
    assert seen == {head + who + " 왔다[1]" for head in ("어제 ", "") for who in ("형이", "나", "너")}


@pytest.mark.parametrize("source", ["{a", "[a|b", "a]", "a}", "{a:은/가}", "{1x}"])
def test_bad_templates_fail_when_compiled(source):
    with pytest.raises(ValueError):
        Template(source)


def test_missing_slot_is_a_bug():
    with pytest.raises(KeyError):
        render(RNG, "{nothing}", {"a": 1})


def test_sampling_is_without_replacement():
    assert sorted(sample(random.Random(1), range(20), 20)) == list(range(20))
    assert {pick(random.Random(seed), "abc") for seed in range(50)} == set("abc")
