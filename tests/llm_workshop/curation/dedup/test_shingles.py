"""Shingles made for a whole batch at once are those of each text alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_workshop.curation.dedup.shingles import hash_texts, mix, shingles

TEXTS = st.lists(st.text(alphabet="가나 다\nab\ud800😀", max_size=30), max_size=12)


def sets_by_hand(text: str, unit: str, size: int) -> list[tuple]:
    """The shingles as tuples, by a loop."""
    units = list(text) if unit == "char" else text.split()
    if not units:
        return []
    return [tuple(units[i : i + size]) for i in range(max(1, len(units) - size + 1))]


@given(TEXTS, st.sampled_from(["char", "word"]), st.integers(1, 6))
def test_a_batch_has_the_shingles_of_each_text(texts, unit, size):
    found = shingles(texts, unit, size)
    names: dict[tuple, int] = {}
    for number, text in enumerate(texts):
        hashes = found.hashes[found.bounds[number] : found.bounds[number + 1]].tolist()
        expected = sets_by_hand(text, unit, size)
        assert len(hashes) == len(expected)
        for shingle, value in zip(expected, hashes):
            assert names.setdefault(shingle, value) == value  # the same shingle, the same hash, in whichever text
    assert len(set(names.values())) == len(names)  # and another shingle, another one


def test_the_five_characters_of_a_word():
    found = shingles(["대한민국 만세"], "char", 5)
    assert len(found.hashes) == 3 and found.bounds.tolist() == [0, 3]
    whole = shingles(["대한민국 ", "한민국 만", "민국 만세"], "char", 5)
    assert found.hashes.tolist() == whole.hashes.tolist()


def test_a_short_text_is_one_shingle_and_an_empty_one_has_none():
    found = shingles(["네", "", "네."], "char", 5)
    assert found.bounds.tolist() == [0, 1, 1, 2]
    assert found.hashes[0] != found.hashes[1]


def test_words_do_not_run_over_the_end_of_a_text():
    apart, together = shingles(["가 나", "다 라"], "word", 3), shingles(["가 나 다 라"], "word", 3)
    assert not set(apart.hashes.tolist()) & set(together.hashes.tolist())


def test_hash_texts_tells_lines_apart_and_knows_them_again():
    assert hash_texts([]).shape == (0,)
    first, second, third, empty = hash_texts(["가나다", "가나", "가나다", ""]).tolist()
    assert first == third and len({first, second, empty}) == 3
    assert hash_texts(["앞", "가나다"]).tolist()[1] == first  # wherever it stands in a batch


def test_mix_loses_nothing():
    values = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(mix(values))) == len(values)
    assert values[5] == 5  # and leaves its argument alone


@pytest.mark.parametrize(("unit", "size"), [("sentence", 5), ("char", 0)])
def test_wrong_shingles_are_refused(unit, size):
    with pytest.raises(ValueError, match="choose"):
        shingles(["가"], unit, size)
