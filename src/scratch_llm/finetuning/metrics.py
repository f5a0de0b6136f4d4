"""How good a classifier is, and how well it knows it.  Written out; the tests compare with scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts (true class, predicted class), int64 (C, C).  ValueError for a class out of range."""
    labels, predictions = _checked(labels, predictions, n_classes)
    return np.bincount(labels * n_classes + predictions, minlength=n_classes**2).reshape(n_classes, n_classes)


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of texts whose class is right."""
    return float(np.mean(np.asarray(labels) == np.asarray(predictions)))


def f1_scores(labels: np.ndarray, predictions: np.ndarray, n_classes: int) -> np.ndarray:
    """F1 of each class, (C,): harmonic mean of precision and recall, ``2 TP / (2 TP + FP + FN)``; 0 where a class neither
    comes nor is predicted."""
    matrix = confusion_matrix(labels, predictions, n_classes)
    right, both = np.diag(matrix), matrix.sum(0) + matrix.sum(1)
    return np.divide(2 * right, both, out=np.zeros(n_classes), where=both > 0)


def macro_f1(labels: np.ndarray, predictions: np.ndarray, n_classes: int) -> float:
    """Mean of the classes' F1, each as important as the other, however rare."""
    return float(f1_scores(labels, predictions, n_classes).mean())


def reliability(probabilities: np.ndarray, labels: np.ndarray, n_bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, texts) of each bin of confidence that has texts.

    Confidence is the probability of the predicted class; bins are (0, 1/n], (1/n, 2/n], ... (Guo et al. 2017, section 2).
    """
    confidence, predictions = probabilities.max(1), probabilities.argmax(1)
    right = predictions == np.asarray(labels)
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    return [(float(confidence[bins == b].mean()), float(right[bins == b].mean()), int((bins == b).sum()))
            for b in range(n_bins) if (bins == b).any()]


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, n_bins: int = 10) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over the bins, by their size."""
    bins = reliability(probabilities, labels, n_bins)
    total = sum(count for _, _, count in bins)
    return sum(abs(confidence - right) * count for confidence, right, count in bins) / total


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T above 0 for which ``softmax(logits / T)`` has the least cross-entropy (Guo et al. 2017, section 4.2).

    Choose it on validation texts.  The cross-entropy is convex in 1 / T, so halving an interval of its derivative's sign
    finds the least one; where every text is right by any margin there is none, and the bound 0.05 is returned.
    """
    low, high = 1 / 20.0, 20.0  # of 1 / T
    logits = logits.double()
    right = logits.gather(1, labels[:, None])[:, 0]
    for _ in range(60):
        scale = (low * high) ** 0.5
        expected = (F.softmax(logits * scale, dim=1) * logits).sum(1)
        slope = (expected - right).mean()  # d(cross-entropy) / d(scale)
        low, high = (low, scale) if slope > 0 else (scale, high)
    return 1 / (low * high) ** 0.5


def class_weights(labels: np.ndarray, n_classes: int) -> list[float]:
    """Weights with which all classes count alike in the loss, whatever their numbers: ``n / (C * n_c)``, mean 1 over the texts.

    ValueError where a class has no text.
    """
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=n_classes)
    if (counts == 0).any():
        raise ValueError(f"class {int(np.flatnonzero(counts == 0)[0])} has no text: no weight makes up for that")
    return [float(weight) for weight in counts.sum() / (n_classes * counts)]


def _checked(labels, predictions, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    pair = tuple(np.asarray(values, dtype=np.int64) for values in (labels, predictions))
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1 or pair[0].size == 0:
        raise ValueError(f"labels {pair[0].shape} and predictions {pair[1].shape} must be lists of the same length, not empty")
    for name, values in zip(("label", "prediction"), pair):
        if (wrong := values[(values < 0) | (values >= n_classes)]).size:
            raise ValueError(f"{name} {wrong[0]} is not one of 0..{n_classes - 1}")
    return pair
