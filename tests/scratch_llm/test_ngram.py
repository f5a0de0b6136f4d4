"""The character n-gram model against its definition, written a second time with dictionaries of strings."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratch_llm.ngram import CharacterNGramModel

START, END = "\x02", "\x03"
ALPHABET = 50


class ByDefinition:
    """Interpolated Kneser-Ney, one probability at a time."""

    def __init__(self, texts: list[str], order: int):
        marked = [START + text + END for text in texts]
        plain = {n: Counter(t[i : i + n] for t in marked for i in range(len(t) - n + 1)) for n in range(1, order + 1)}
        plain[1][START] = 0
        self.counts = {order: plain[order]}
        for n in range(order - 1, 0, -1):
            endings = Counter(gram[1:] for gram in self.counts[n + 1])
            self.counts[n] = Counter({gram: endings.get(gram, count) for gram, count in plain[n].items()})
        self.order, self.discounts = order, {}
        for n, counts in self.counts.items():
            once, twice = (sum(c == k for c in counts.values()) for k in (1, 2))
            self.discounts[n] = once / (once + 2 * twice) if once and twice else 0.5

    def probability(self, character: str, context: str) -> float:
        n = len(context) + 1
        shorter = self.probability(character, context[1:]) if n > 1 else 1 / ALPHABET
        after = [count for gram, count in self.counts[n].items() if gram[:-1] == context and count > 0]
        if not after:
            return shorter
        share = max(self.counts[n][context + character] - self.discounts[n], 0) / sum(after)
        return share + self.discounts[n] * len(after) / sum(after) * shorter

    def log2_probabilities(self, text: str) -> list[float]:
        marked = START + text + END
        return [np.log2(self.probability(marked[i], marked[max(0, i - self.order + 1) : i])) for i in range(1, len(marked))]


def fitted(texts: list[str], order: int) -> CharacterNGramModel:
    model = CharacterNGramModel(order, ALPHABET)
    model.fit(texts)
    return model


_TEXTS = st.lists(st.text("가나다라 ", max_size=12), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(_TEXTS, st.integers(1, 5), st.text("가나다라마 ", max_size=12))
def test_equal_to_the_definition(texts, order, text):
    expected = ByDefinition(texts, order).log2_probabilities(text)
    np.testing.assert_allclose(fitted(texts, order).log2_probabilities(text), expected, rtol=0, atol=2e-6)


def test_a_bigram_model_by_hand():
    """Texts "가나" and "가": bigrams ^가 twice, 가나, 나$, 가$ once. D2 = 3/(3+2*1) = 3/5. Lower order: 가 follows 1
    character, 나 follows 1, $ follows 2; D1 = 2/(2+2*1) = 1/2; p1(가) = (1-.5)/4 + .5*3/4/50 = .1325.
    p(가|^) = (2-.6)/2 + .6*1/2 * .1325 = .73975."""
    model = fitted(["가나", "가"], 2)
    assert 2 ** model.log2_probabilities("가")[0] == pytest.approx(0.73975, rel=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("context", ["", "가나", "힣힣"])
def test_probabilities_sum_to_one_over_the_alphabet(order, context):
    texts = ["가나다라", "가나가나", "다나다라마바"]
    model, seen = fitted(texts, order), sorted(set("".join(texts)))
    place = len(context)
    known = sum(2 ** model.log2_probabilities(context + c)[place] for c in seen) + 2 ** model.log2_probabilities(context)[place]
    unseen = (ALPHABET - len(seen) - 1) * 2 ** model.log2_probabilities(context + "쿝")[place]
    assert known + unseen == pytest.approx(1, abs=1e-6)


def test_seen_text_is_less_surprising_than_its_reverse():
    model = fitted(["오늘은 날씨가 맑아서 산책을 했다."] * 3, 3)
    assert model.bits_per_character("날씨가 맑아서") + 3 < model.bits_per_character("서아맑 가씨날")


def test_saved_and_loaded_it_says_the_same(tmp_path):
    model = fitted(["가나다라", "가나"], 3)
    model.facts = {"learnt": "두 문장"}
    model.save(tmp_path / "model.safetensors")
    loaded = CharacterNGramModel.load(tmp_path / "model.safetensors")
    assert loaded.facts == model.facts and [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    np.testing.assert_array_equal(loaded.log2_probabilities("가나마"), model.log2_probabilities("가나마"))


def test_bad_files_and_settings_are_named(tmp_path):
    with pytest.raises(ValueError, match="order = 0"):
        CharacterNGramModel(0)
    with pytest.raises(FileNotFoundError):
        CharacterNGramModel.load(tmp_path / "none.safetensors")
    for content in (b"", b"no safetensors", b"\x02\0\0\0\0\0\0\0{}"):
        (tmp_path / "bad.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="no n-gram model"):
            CharacterNGramModel.load(tmp_path / "bad.safetensors")


def test_empty_and_odd_texts():
    model = fitted([""], 3)
    assert model.log2_probabilities("").shape == (1,)
    assert np.isfinite(model.bits_per_character("\ud800\U0010ffff가"))
