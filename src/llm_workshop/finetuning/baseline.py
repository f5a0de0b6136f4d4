"""What a classifier without any language model reaches: the least that fine-tuning has to beat."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import torch

from llm_workshop.finetuning.classifying import evaluate_logits
from llm_workshop.finetuning.tasks import Task

LONGEST_NGRAM = 4


def majority(task: Task) -> dict[str, Any]:
    """Figures (``evaluate_logits``) of always answering the commonest class of the training part."""
    commonest, _ = Counter(task.train.labels).most_common(1)[0]
    logits = torch.zeros(len(task.test), task.n_classes)
    logits[:, commonest] = 10.0
    return evaluate_logits(logits, task.test.labels)


def character_ngrams(task: Task, n_train: int | None = None, *, inverse_penalty: float = 5.0) -> dict[str, Any]:
    """Figures of logistic regression on character n-grams (1 to 4, inside words, TF-IDF), and its ``seconds``.

    Character n-grams do for Korean what word counts do for English: particles and endings change words, not their stems.

    Args:
        n_train: learn from the first so many training texts.
        inverse_penalty: scikit-learn's C.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    started = time.perf_counter()
    texts, labels = task.train.texts[:n_train], task.train.labels[:n_train]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, LONGEST_NGRAM), sublinear_tf=True, min_df=2 if len(texts) > 1000 else 1)
    features = vectorizer.fit_transform(texts)
    present = sorted(set(labels))
    logits = torch.full((len(task.test), task.n_classes), -30.0)
    if len(present) == 1:  # too few texts hold one class alone: there is nothing to fit
        logits[:, present[0]] = 0.0
    else:
        model = LogisticRegression(C=inverse_penalty, max_iter=300).fit(features, labels)
        logits[:, present] = torch.from_numpy(model.predict_log_proba(vectorizer.transform(task.test.texts))).float().clamp(min=-30)
    return {**evaluate_logits(logits, task.test.labels), "seconds": time.perf_counter() - started}
