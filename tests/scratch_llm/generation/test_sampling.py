"""Sampling rules against transformers' logits processors, and the draw against the distribution."""

from __future__ import annotations

import pytest
import torch

from scratch_llm.generation import Sampler, SamplingConfig, processed_logits
from scratch_llm.generation.sampling import (
    apply_count_penalties,
    apply_repetition_penalty,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    likeliest,
    sample_rows,
)

PROMPTS = [[1, 2, 3, 3], [4, 5], [6]]


@pytest.fixture
def logits():
    return torch.randn(3, 211, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture(scope="module")
def processors():
    return pytest.importorskip("transformers.generation.logits_process")


@pytest.mark.parametrize("k", [1, 2, 50, 211, 1000])
def test_top_k(logits, processors, k):
    assert torch.equal(keep_top_k(logits, k), processors.TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("p", [0.001, 0.3, 0.9, 0.999])
def test_top_p(logits, processors, p):
    assert torch.equal(keep_top_p(logits, p), processors.TopPLogitsWarper(p)(None, logits))


@pytest.mark.parametrize("p", [0.01, 0.2, 0.9, 1.0])
def test_min_p(logits, processors, p):
    assert torch.equal(keep_min_p(logits, p), processors.MinPLogitsWarper(p)(None, logits))
    assert torch.equal(keep_min_p(logits, 0), logits)


@pytest.mark.parametrize("penalty", [0.7, 1.3])
def test_repetition_penalty(logits, processors, penalty):
    ids = torch.tensor([[1, 2, 3, 3], [4, 5, 5, 4], [6, 6, 6, 6]])
    seen = torch.zeros(3, 211, dtype=torch.bool).scatter(1, ids, True)
    expected = processors.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits)
    assert torch.equal(apply_repetition_penalty(logits, seen, penalty), expected)


def test_all_rules_in_the_order_of_transformers(logits, processors):
    ids = torch.tensor([[1, 2, 3, 3], [4, 5, 5, 4], [6, 6, 6, 6]])
    expected = processors.RepetitionPenaltyLogitsProcessor(1.2)(ids, logits)
    expected = processors.TemperatureLogitsWarper(0.7)(None, expected)
    expected = processors.TopKLogitsWarper(40)(None, expected)
    expected = processors.TopPLogitsWarper(0.9)(None, expected)
    expected = processors.MinPLogitsWarper(0.02)(None, expected)
    config = SamplingConfig(temperature=0.7, top_k=40, top_p=0.9, min_p=0.02, repetition_penalty=1.2)
    seen = torch.zeros(3, 211, dtype=torch.bool).scatter(1, ids, True)
    torch.testing.assert_close(processed_logits(logits, config, seen), expected)
    assert expected.isinf().any(-1).all()


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(temperature=0.7, top_k=9, seed=1),
        SamplingConfig(temperature=1.3, top_k=9, top_p=0.8, min_p=0.05, repetition_penalty=1.5, seed=1),
        SamplingConfig(temperature=1.0, top_p=0.7, seed=1),
        SamplingConfig(temperature=2.0, min_p=0.1, seed=1),
    ],
)
def test_draws_follow_the_distribution(logits, config):
    """20,000 draws against softmax of the processed logits: chi-squared, and nothing that was cut is drawn."""
    n = 20_000
    row = logits[:1]
    sampler = Sampler(config, [[1, 2, 3]], 211)
    seen = torch.zeros(1, 211, dtype=torch.bool)
    seen[0, 1:4] = True
    expected = processed_logits(row, config, seen).softmax(-1)[0] * n
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(2))
    sampler.uniform_BN = uniform[:, None]
    if sampler.seen_BV is not None:
        sampler.seen_BV = seen.expand(n, -1).clone()
    counts = torch.bincount(sampler(row.expand(n, -1)), minlength=211).float()
    assert counts[expected == 0].sum() == 0
    likely = expected > 5
    chi_squared = ((counts - expected)[likely].square() / expected[likely]).sum().item()
    degrees = int(likely.sum())
    assert chi_squared < degrees + 4 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("spread", [0.1, 3.0], ids=["full sort", "first 256 suffice"])
def test_top_p_of_a_large_vocabulary(spread):
    """The short cut and the full sort choose from the same tokens with the same probabilities, row by row."""
    logits = torch.randn(4, 2000, generator=torch.Generator().manual_seed(0)) * spread
    logits[0] *= 20
    config = SamplingConfig(temperature=1.0, top_p=0.8, seed=3)
    expected = processed_logits(logits, config).softmax(-1)
    values, shares, ids = likeliest(logits, 0.8)
    assert values.shape[1] == (2000 if spread < 1 else 256)
    torch.testing.assert_close(shares, logits.softmax(-1).gather(1, ids))
    together, alone = Sampler(config, [[1]] * 4, 2000), Sampler(config, [[1]], 2000)
    for _ in range(50):
        tokens = together(logits)
        assert (expected.gather(1, tokens[:, None]) > 0).all()
        # Row 0 needs few candidates, whatever the others need.
        assert tokens[:1].tolist() == alone(logits[:1]).tolist()


def test_draw_at_the_ends_never_picks_an_impossible_token():
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).expand(4, -1)
    uniform = torch.tensor([0.0, 0.2499, 0.25, 1 - 2**-24])
    assert draw(probabilities, uniform).tolist() == [1, 1, 3, 3]


def test_greedy_takes_the_largest_and_needs_no_random_numbers(logits):
    state = torch.get_rng_state()
    sampler = Sampler(SamplingConfig(temperature=0), PROMPTS, 211)
    assert sampler(logits).tolist() == logits.argmax(-1).tolist()
    assert torch.equal(torch.get_rng_state(), state)


def test_greedy_with_repetition_penalty_counts_its_own_tokens():
    logits = torch.zeros(1, 5)
    logits[0, 3], logits[0, 1] = 2.0, 1.5
    sampler = Sampler(SamplingConfig(temperature=0, repetition_penalty=2.0), [[0]], 5)
    assert [int(sampler(logits)) for _ in range(3)] == [3, 1, 3]


def test_seed_repeats_and_rows_do_not_depend_on_each_other(logits):
    config = SamplingConfig(temperature=1.5, seed=11)
    together = Sampler(config, PROMPTS, 211)
    again = Sampler(config, PROMPTS, 211)
    first_alone = Sampler(config, PROMPTS[:1], 211)
    for _ in range(20):
        tokens = together(logits).tolist()
        assert tokens == again(logits).tolist()
        assert tokens[:1] == first_alone(logits[:1]).tolist()
    other = Sampler(SamplingConfig(temperature=1.5, seed=12), PROMPTS, 211)
    fresh = Sampler(config, PROMPTS, 211)
    assert [other(logits).tolist() for _ in range(20)] != [fresh(logits).tolist() for _ in range(20)]


def test_without_a_seed_torch_manual_seed_decides(logits):
    def draws():
        torch.manual_seed(5)
        sampler = Sampler(SamplingConfig(temperature=1.5), PROMPTS, 211)
        return [sampler(logits).tolist() for _ in range(10)]

    assert draws() == draws()


@pytest.mark.parametrize(
    "values, message",
    [
        ({"temperature": -0.1}, r"temperature is -0\.1: it must be 0 \(greedy\) or above"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0: it must be a whole number of at least 1"),
        ({"top_k": 2.5}, r"top_k is 2\.5"),
        ({"top_p": 0.0}, r"top_p is 0\.0: it must be above 0 and at most 1"),
        ({"top_p": 1.1}, r"top_p is 1\.1"),
        ({"min_p": -0.1}, r"min_p is -0\.1: it must be from 0 to 1"),
        ({"min_p": 1.5}, r"min_p is 1\.5"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty is 0\.0: it must be above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0: it must be a whole number of at least 1"),
        ({"max_new_tokens": 1.5}, r"max_new_tokens is 1\.5"),
        ({"seed": 1.5}, r"seed is 1\.5: it must be a whole number"),
        ({"stop": ("",)}, r"stop is \('',\): each stop text"),
        ({"stop": (3,)}, r"stop is \(3,\)"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        SamplingConfig(**values)
    assert "\n" not in str(caught.value)


def test_one_stop_text_may_be_given_as_it_is():
    assert SamplingConfig(stop="끝").stop == ("끝",)
    assert SamplingConfig(stop=None).stop == ()


def test_count_penalties_are_those_of_openai(logits):
    counts = torch.zeros(3, 211)
    counts[0, 5], counts[2, 7] = 3, 1
    expected = logits.clone()
    for row, token, count in ((0, 5, 3), (2, 7, 1)):
        expected[row, token] -= count * 0.6 + 0.4
    assert torch.allclose(apply_count_penalties(logits, counts, 0.6, 0.4), expected)


def test_count_penalties_count_the_answer_alone():
    """Equal logits: the penalty alone decides, so every token is taken once before any is taken twice."""
    flat = torch.zeros(1, 5)
    sampler = Sampler(SamplingConfig(20, temperature=0, frequency_penalty=0.1), [[0, 0, 0]], 5)
    tokens = [int(sampler(flat)) for _ in range(20)]
    assert all(sorted(tokens[i : i + 5]) == [0, 1, 2, 3, 4] for i in range(0, 20, 5)) and tokens[0] == 0
    sampler = Sampler(SamplingConfig(20, temperature=0, presence_penalty=0.1), [[0]], 5)
    tokens = [int(sampler(flat)) for _ in range(20)]
    assert sorted(tokens[:5]) == [0, 1, 2, 3, 4] and set(tokens[5:]) == {0}, "presence counts once"
    sampler = Sampler(SamplingConfig(8, temperature=0, presence_penalty=-1.0), [[3]], 5)
    assert {int(sampler(flat)) for _ in range(8)} == {0}, "a negative one asks for the same again"


def test_rows_with_different_count_penalties_are_sampled_as_alone(logits):
    configs = [
        SamplingConfig(30, 0.9, seed=1, frequency_penalty=1.5),
        SamplingConfig(30, 0.9, seed=2, frequency_penalty=1.5),
        SamplingConfig(30, 0, presence_penalty=2.0, repetition_penalty=1.2),
    ]
    together = [Sampler(config, [prompt], 211) for config, prompt in zip(configs, PROMPTS)]
    alone = [Sampler(config, [prompt], 211) for config, prompt in zip(configs, PROMPTS)]
    for _ in range(30):
        expected = [int(sampler(logits[row : row + 1])) for row, sampler in enumerate(alone)]
        assert sample_rows(together, logits).tolist() == expected


@pytest.mark.parametrize("name", ["frequency_penalty", "presence_penalty"])
def test_count_penalties_must_be_finite(name):
    with pytest.raises(ValueError, match=f"{name} is nan"):
        SamplingConfig(**{name: float("nan")})
