"""Figures of a classifier, by hand and against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
import torch

from scratch_llm.finetuning.metrics import (
    accuracy,
    calibration_error,
    class_weights,
    confusion_matrix,
    f1_scores,
    fit_temperature,
    macro_f1,
    reliability,
)

LABELS, PREDICTIONS = [0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 2, 2]


def test_by_hand():
    assert confusion_matrix(LABELS, PREDICTIONS, 3).tolist() == [[3, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert accuracy(LABELS, PREDICTIONS) == pytest.approx(5 / 7)
    assert f1_scores(LABELS, PREDICTIONS, 3) == pytest.approx([6 / 7, 1 / 2, 2 / 3])
    assert macro_f1(LABELS, PREDICTIONS, 3) == pytest.approx((6 / 7 + 1 / 2 + 2 / 3) / 3)


def test_a_class_that_is_neither_there_nor_predicted_has_f1_0():
    assert f1_scores([0, 1], [0, 1], 3).tolist() == [1, 1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_as_scikit_learn(seed):
    random = np.random.default_rng(seed)
    labels, predictions = random.integers(0, 5, (2, 300))
    assert (confusion_matrix(labels, predictions, 5) == sklearn.metrics.confusion_matrix(labels, predictions, labels=range(5))).all()
    assert macro_f1(labels, predictions, 5) == pytest.approx(sklearn.metrics.f1_score(labels, predictions, average="macro"))


def test_calibration_by_hand():
    # Two texts at 0.9, one right; two at 0.6, both right: |0.9 - 0.5| / 2 + |0.6 - 1| / 2.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])
    assert reliability(probabilities, labels) == [(pytest.approx(0.6), 1.0, 2), (pytest.approx(0.9), 0.5, 2)]
    assert calibration_error(probabilities, labels) == pytest.approx(0.4)


def test_a_confidence_at_a_border_belongs_to_the_lower_bin():
    # 0.5 is in (0.4, 0.5], 0.51 in (0.5, 0.6]; and 1 in the last bin.
    probabilities = np.array([[0.5, 0.5], [0.51, 0.49], [1.0, 0.0]])
    assert [count for _, _, count in reliability(probabilities, np.array([0, 0, 0]))] == [1, 1, 1]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 7.0])
def test_the_temperature_is_found_again(temperature):
    """Labels drawn from softmax(logits): whoever multiplies the logits by T has to divide by T."""
    torch.manual_seed(0)
    logits = torch.randn(20_000, 4) * 2
    labels = torch.multinomial(logits.softmax(1), 1)[:, 0]
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_less_loss():
    torch.manual_seed(1)
    logits, labels = torch.randn(200, 3) * 3, torch.randint(0, 3, (200,))
    best = fit_temperature(logits, labels)
    loss = lambda t: torch.nn.functional.cross_entropy(logits.double() / t, labels).item()  # noqa: E731
    assert all(loss(best) <= loss(t) + 1e-9 for t in np.geomspace(0.06, 19, 60))


def test_where_all_is_right_the_temperature_has_a_bound():
    assert fit_temperature(torch.tensor([[5.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 1])) == pytest.approx(0.05, rel=1e-3)


def test_weights_make_classes_count_alike():
    weights = class_weights([0] * 6 + [1] * 2, 2)
    assert weights == pytest.approx([8 / 12, 2.0])
    assert np.mean([weights[label] for label in [0] * 6 + [1] * 2]) == pytest.approx(1)
    with pytest.raises(ValueError, match="class 1 has no text"):
        class_weights([0, 2], 3)


@pytest.mark.parametrize(("labels", "predictions", "message"), [
    ([], [], "not empty"), ([0], [0, 1], "same length"), ([3], [0], "label 3 is not one of 0..2"), ([0], [-1], "prediction -1"),
])  # fmt: skip
def test_mistakes_are_named(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(labels, dtype=int), np.array(predictions, dtype=int), 3)
