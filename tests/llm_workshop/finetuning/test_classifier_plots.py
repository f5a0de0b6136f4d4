"""Plots of classifiers say what they show."""

import numpy as np
import pytest

from llm_workshop.finetuning.classifier_plots import learning_plot, lengths_plot, reliability_plot


@pytest.mark.parametrize(("n_cut", "words"), [(0, "토큰 (가장 긴 글 128)"), (60, "토큰 (자른 길이 128, 잘린 글 60개)")])
def test_the_longest_text_or_the_length_at_which_texts_were_cut(n_cut, words):
    figure = lengths_plot(np.array([5, 9, 128]), {"fixed": 0.5, "grouped": 0.1}, n_cut)
    assert figure.axes[0].get_xlabel() == words


@pytest.mark.parametrize(("steps", "label"), [(30, "학습 (스텝마다)"), (100, "학습 (4스텝 평균)")])
def test_a_mean_is_called_one_where_it_is_one(steps, label):
    records = [{"step": step, "loss": 1.0 / step, **({"valid_loss": 0.5} if step % 10 == 0 else {})} for step in range(1, steps + 1)]
    left = learning_plot(records, [{"step": steps, "accuracy": 0.8}], 0.7).axes[0]
    train = next(line for line in left.lines if line.get_label() == label)
    assert [text.get_text() for text in left.get_legend().get_texts()] == [label, "검증"]
    x, y = train.get_data()
    assert y[0] == pytest.approx(np.mean([1.0 / step for step in range(1, int(x[0]) + 1)]))


def test_both_axes_of_the_reliability_are_named():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    figure = reliability_plot({"보정 전": probabilities, "보정 뒤": probabilities}, np.array([0, 1, 0]), {"보정 전": 0.3, "보정 뒤": 0.3})
    assert "정확도" in figure.axes[0].get_ylabel() and "확신" in figure.axes[0].get_xlabel()
    assert "정확도 = 확신" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
