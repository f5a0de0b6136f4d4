"""What stands behind the attention lab: its sentence, its model of one layer, its measurements and its pictures."""

import pytest
import torch

from llm_workshop.architectures import attention_plots as plots
from llm_workshop.architectures import multi_head_trial as trial
from llm_workshop.architectures.cache_kinds import built_bytes, cache_rows
from llm_workshop.architectures.examples import neighbours, plain_sentence
from llm_workshop.architectures.one_layer import OneLayer, describe_heads, fit, head_weights
from scratch_llm.layers.multi_head_kernels import MULTI_HEAD_VARIANTS
from scratch_llm.tokenizers import ByteLevelBPE

SKIP = ("FlexAttention",)  # compiles a kernel


@pytest.fixture(scope="module")
def measured():
    return {T: trial.costs(trial.family(16, 2, T, SKIP), torch.randn(1, T, 16), budget=0.0) for T in (8, 16)}


def test_the_sentence_is_plain():
    tokenizer = ByteLevelBPE.train(["나무가 자란다. 나무가 큰다."] * 50, vocab_size=275, pattern="korean")
    texts = ['그는 "나무"라 했다.', "나무가 3그루 자란다.", "짧다. 나무가 자란다. 나무가 큰다."]
    assert plain_sentence(texts, tokenizer, fewest=2, most=8) == "나무가 자란다."
    assert plain_sentence(texts, tokenizer, fewest=90, most=99) is None


def test_neighbours_are_common_and_not_the_token_itself():
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.1], [1.0, 1.0], [-1.0, 0.0], [3.0, 0.0]])
    common = torch.tensor([True, True, True, True, False])
    assert neighbours(vectors, 0, common, most=2) == [1, 2]


class _Counting:
    """Windows in which each token is followed by the next number."""

    def batch(self, number):
        tokens = (torch.arange(33) + number) % 12
        return tokens[None, :-1].repeat(4, 1), tokens[None, 1:].repeat(4, 1)


def test_one_layer_learns_and_its_heads_are_read():
    torch.manual_seed(0)
    model = OneLayer(torch.randn(12, 16), n_heads=2, context_length=32)
    losses = fit(model, _Counting(), steps=40)
    assert len(losses) == 40 and losses[-1] < 0.9 * losses[0]
    tokens, _ = _Counting().batch(0)
    weights = head_weights(model, tokens)
    assert len(weights) == 2 and all(w.shape == (4, 32, 32) and torch.allclose(w.sum(-1), torch.ones(4, 32)) for w in weights)
    assert [row["머리"] for row in describe_heads(model, tokens)] == [1, 2]


def test_all_implementations_agree_and_have_names():
    assert set(trial.KOREAN) == set(MULTI_HEAD_VARIANTS)
    found = trial.differences(trial.family(20, 5, 9, SKIP), torch.randn(2, 9, 20))
    assert set(found) == set(MULTI_HEAD_VARIANTS) - set(SKIP)
    assert all(difference.output < 1e-5 and difference.gradient < 1e-5 for difference in found.values())


def test_a_wrong_implementation_is_found():
    layers = trial.family(20, 5, 9, SKIP)
    with torch.no_grad():
        next(layers["einsum"].parameters()).mul_(1.5)
    assert trial.differences(layers, torch.randn(2, 9, 20))["einsum"].output > 1e-3


def test_costs_and_their_tables(measured):
    rows = trial.cost_rows(measured)
    assert len(rows) == len(MULTI_HEAD_VARIANTS) - 1 and rows[0]["구현"] == "머리를 하나씩 쌓기"
    assert set(rows[0]) == {"구현"} | {f"{what} (T={T})" for what in ("순전파 ms", "학습 ms", "간직 MB") for T in (8, 16)}
    untrainable = {"stacked heads": trial.Cost(1.0, None, None)}
    assert trial.growth_rows(untrainable, untrainable) == [] and len(trial.growth_rows(measured[8], measured[16])) == len(rows)
    assert trial.cost_rows({8: untrainable})[0]["학습 ms (T=8)"] is None


def test_caches_are_as_large_as_the_formulas():
    mha, gqa, mqa, window, mla = built_bytes(2, 4, 2, 8, 16, 24, 4, 64)
    assert (mha, gqa, mqa, mla) == tuple(2 * 64 * n for n in (2 * 2 * 4 * 8, 2 * 2 * 2 * 8, 2 * 2 * 8, 2 * (24 + 4)))
    assert 2 * 16 * 2 * 2 * 2 * 8 <= window < gqa
    assert cache_rows(["MHA"], lambda kind, n: n * 256, [mha], 64)[0]["우리 캐시 / 식"] == 1.0
    with pytest.raises(ValueError, match="shorter"):
        cache_rows(["MHA", "GQA"], lambda kind, n: n, [1], 64)


def test_the_pictures(measured):
    weights = torch.eye(3)
    assert len(plots.weights_plot({"하나": weights}, "가나다").axes) == 1
    assert plots.weights_plot({"왼쪽": weights, "오른쪽": weights}, "가나다").axes[0].get_ylabel() == "묻는 토큰"
    assert len(plots.implementations_plot(measured[16], 16).axes) == 3
    turning = plots.turning_plot({"빠름": 1.0, "느림": 0.1}, n_positions=4)
    assert [text.get_text() for text in turning.axes[1].texts if text.get_text()] == ["0", "1", "2", "3"]


def test_the_cache_plot_keeps_words_and_grid_apart():
    figure = plots.cache_plot([256, 512], {"MHA": [1.0, 2.0], "GQA + 창 256": [0.5, 0.5]}, 7.45, "자리")
    [axes] = figure.axes
    [label] = [text for text in axes.texts if text.get_text() == "자리"]
    assert label.get_bbox_patch().get_facecolor() == (1, 1, 1, 1)
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--", ":"]


def test_distances_are_smoothed_and_named():
    assert plots.mean_over_octave(torch.full((50,), 2.0)) == [2.0] * 50
    figure = plots.distance_plot({"θ = 100": torch.linspace(1, 0, 40)}, torch.eye(5))
    assert [text.get_text() for text in figure.axes[0].texts] == ["θ = 100"]
