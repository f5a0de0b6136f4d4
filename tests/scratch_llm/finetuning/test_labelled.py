"""Batches of labelled texts: each once an epoch, like lengths together, the same at each call."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from scratch_llm.finetuning import PAD, LabelledTexts, predict
from scratch_llm.finetuning.classification import Classifier
from scratch_llm.models import LlamaConfig, build_model
from scratch_llm.training import TrainingConfig, train

RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.integers(1, 30, 200).tolist()
# The text's number stands in each of its tokens, so that rows can be told apart.
TEXTS = [[number] * length for number, length in enumerate(LENGTHS)]
LABELS = [number % 3 for number in range(200)]


def windows(**options):
    return LabelledTexts(TEXTS, LABELS, 8, n_classes=3, **options)


def epoch(part, number=0):
    return [part.batch(number * part.n_batches + i) for i in range(part.n_batches)]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(1, 9), st.sampled_from(["grouped", "longest", "fixed"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_each_text_comes_once_an_epoch_with_its_label(lengths, batch_size, padding, shuffle):
    texts = [[number] * length for number, length in enumerate(lengths)]
    part = LabelledTexts(texts, [n % 2 for n in range(len(texts))], batch_size, n_classes=2, padding=padding, shuffle=shuffle)
    for number in (0, 3):
        rows = [(row[row != PAD].tolist(), label) for inputs, labels in epoch(part, number) for row, label in zip(inputs, labels.tolist())]
        assert sorted(rows) == sorted((text, text[0] % 2) for text in texts)


def test_a_batch_is_a_function_of_the_step():
    one, other = windows(seed=3), windows(seed=3)
    assert torch.equal(one.batch(60)[0], other.batch(60)[0])
    other.batch(1)
    assert torch.equal(one.batch(60)[0], other.batch(60)[0])
    assert not torch.equal(one.batch(0)[0][:, 0], one.batch(one.n_batches)[0][:, 0]), "another epoch, another order"
    assert not torch.equal(windows(seed=4).batch(0)[0][:, 0], one.batch(0)[0][:, 0])


def test_padding_stands_behind_and_grouping_leaves_little_of_it():
    for inputs, _ in epoch(windows()):
        real = inputs != PAD
        assert real[:, 0].all() and not (real[:, 1:] & ~real[:, :-1]).any()
    shares = {padding: windows(padding=padding).padding_share for padding in ("fixed", "longest", "grouped")}
    assert shares["fixed"] > shares["longest"] > 3 * shares["grouped"]
    computed = sum(inputs.numel() for inputs, _ in epoch(windows()))
    assert windows().mean_tokens * windows().n_batches == pytest.approx(computed)
    assert shares["grouped"] == pytest.approx(1 - sum(LENGTHS) / computed)


def test_grouping_does_not_begin_with_the_short_ones():
    widths = [inputs.shape[1] for inputs, _ in epoch(windows())]
    assert widths != sorted(widths) and all(inputs.shape[1] == max(LENGTHS) for inputs, _ in epoch(windows(padding="fixed")))


def test_long_texts_lose_their_end_and_are_counted():
    part = LabelledTexts([[1, 2, 3, 4], [5]], [0, 1], 2, n_classes=2, max_length=3, shuffle=False)
    inputs, labels = part.batch(0)
    assert inputs.tolist() == [[5, PAD, PAD], [1, 2, 3]] and labels.tolist() == [1, 0]
    assert part.n_cut == 1 and part.context_length == 3


def test_the_digest_is_of_texts_and_labels():
    same = LabelledTexts(TEXTS, LABELS, 4, n_classes=3, seed=9)
    assert same.sha256 == windows().sha256
    assert LabelledTexts(TEXTS, LABELS[1:] + LABELS[:1], 8, n_classes=3).sha256 != same.sha256
    assert LabelledTexts([[7], *TEXTS[1:]], LABELS, 8, n_classes=3).sha256 != same.sha256


@pytest.mark.parametrize(("texts", "labels", "options", "message"), [
    ([], [], {}, "at least one"), ([[1]], [0, 1], {}, "1 texts and 2 labels"), ([[1], []], [0, 1], {}, "text 1 has no token"),
    ([[1], [2]], [0, 2], {}, "text 1 has class 2, which is not one of 0..1"), ([[1], [2]], [-1, 0], {}, "text 0 has class -1"),
    ([[1, PAD]], [0], {}, "token id below 0"), ([[1]], [0], {"padding": "none"}, "choose one of grouped"), ([[1]], [0], {"max_length": 0}, "max_length 0"),
])  # fmt: skip
def test_mistakes_are_named(texts, labels, options, message):
    with pytest.raises(ValueError, match=message):
        LabelledTexts(texts, labels, 4, n_classes=2, **options)


def small():
    torch.manual_seed(0)
    return Classifier(build_model(LlamaConfig(vocab_size=200, context_length=32, n_layers=1, n_heads=2, d_model=16, d_ff=16), seed=0), 3)


def test_predictions_come_in_the_order_given():
    model = small()
    logits = predict(model, TEXTS, batch_size=7)
    assert model.training, "the mode is as it was"
    alone = torch.cat([model.eval()(torch.tensor([text])) for text in TEXTS[:20]])
    torch.testing.assert_close(logits[:20], alone.detach(), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="no token"):
        predict(model, [[1], []])


def test_the_training_loop_learns_and_resumes_the_same_bits(tmp_path):
    config = TrainingConfig(steps=40, batch_size=8, learning_rate=1e-2, compile="off", precision="float32", save_every=10, eval_every=20)
    whole, broken = small(), small()
    result = train(whole, windows(), windows(shuffle=False), config, tmp_path / "whole", log=lambda line: None)
    assert result.loss < 1.0 < 1.0986, "below ln 3, the loss of guessing"
    stop = {"left": 25}

    def interrupt(line):
        stop["left"] -= line.startswith("step")
        if stop["left"] == 0:
            raise RuntimeError("killed")

    every = {"log": interrupt}
    with pytest.raises(RuntimeError):
        train(broken, windows(), windows(shuffle=False), TrainingConfig(**{**config.__dict__, "log_every": 1}), tmp_path / "b", **every)
    again = small()
    train(again, windows(), windows(shuffle=False), config, tmp_path / "b", log=lambda line: None)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))
    with pytest.raises(ValueError, match="training text"):
        train(small(), LabelledTexts(TEXTS[:-1], LABELS[:-1], 8, n_classes=3), windows(), config, tmp_path / "b", log=lambda line: None)
    other = small()
    other.pooling = "mean"
    with pytest.raises(ValueError, match="pooling was last and is mean"):
        train(other, windows(), windows(), config, tmp_path / "b", log=lambda line: None)
