"""Training of the small models: what each learns from, and how well it then does.

- ``spam``: good documents of the sample against its advertisements and gibberish. The good ones include damaged
  documents (HTML, boilerplate, repeated jamo...) and short pieces, so that neither damage nor length counts as spam.
- ``korean``: the character n-gram model of good Korean, whose surprise tells text from noise.
- ``hate``: BEEP! (Moon et al. 2020: comments on entertainment news, labelled none, offensive, hate), where it is there.

Everything is seeded: trained twice, a model is the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from llm_workshop.corpora.loaders import find_files, read_rows
from llm_workshop.corpora.sample import generate
from llm_workshop.corpora.sample.noise import inject
from llm_workshop.corpora.sample.noise.foreign import gibberish, spam
from llm_workshop.curation.models.classifier import HashedTextClassifier
from scratch_llm.ngram import CharacterNGramModel

SPAM_LABELS = ("good", "spam", "gibberish")
HATE_LABELS = ("none", "offensive", "hate")
_GOOD_FAULTS = ("html", "boilerplate", "personal_data", "jamo_repetition", "truncated", "zero_width", "other_language")
_SEED = 7_700  # far from the seeds that people choose


def train_spam(megabytes: float = 0.5, without_topics: Sequence[str] = ()) -> HashedTextClassifier:
    """Good, spam or gibberish, from the sample. ``without_topics`` leaves topics of advertisements out, to see how it
    does on a topic that it has never seen."""
    rng = random.Random(f"spam-{_SEED}")
    good = [document.text for document in generate(megabytes, _SEED)]
    damaged = [document.text for document in inject(generate(megabytes, _SEED + 1), 0.95, _SEED, _GOOD_FAULTS)]
    texts = good + [_piece(text, rng) for text in good] + damaged
    labels = ["good"] * len(texts)
    for _ in range(3000):
        text, about = spam(rng)
        if about["topic"] not in without_topics:
            texts.append(text)
            labels.append("spam")
    for _ in range(1200):
        text, about = gibberish(rng)
        if about["style"] != "latin":  # Latin letters count as one: hex digits and code must not become gibberish
            texts.append(text)
            labels.append("gibberish")
    model = HashedTextClassifier(SPAM_LABELS)
    model.fit(texts, labels, epochs=6, balance=True)
    model.facts = {"trained_on": "sample", "texts": len(texts)}
    return model


def _piece(text: str, rng: random.Random) -> str:
    length = rng.randint(20, 200)
    start = rng.randrange(max(1, len(text) - length))
    return text[start : start + length]


def train_korean(megabytes: float = 1.0, order: int = 3) -> CharacterNGramModel:
    """The n-gram model of the sample's clean documents."""
    model = CharacterNGramModel(order)
    model.fit(document.text for document in generate(megabytes, _SEED))
    model.facts = {"trained_on": "sample", "megabytes": megabytes}
    return model


def beep_rows(split: str) -> Iterator[tuple[str, str]]:
    """(comment, label) of BEEP!, split "train" or "dev"; ValueError that says what to do where it is not there."""
    files = find_files((f"beep_hate/{split}.tsv*", f"korean-hate-speech/labeled/{split}.tsv*"))
    if not files:
        raise ValueError(
            "no BEEP! comments here: put beep_hate/train.tsv and dev.tsv (github.com/kocohub/korean-hate-speech, "
            "CC-BY-SA-4.0) under DATA_DIR, or use the rule hate with its word patterns (model: patterns)"
        )
    for path in files[:1]:
        for row in read_rows(path):
            if row.get("hate") not in HATE_LABELS or not row.get("comments"):
                raise ValueError(f"{path}: a row without comment and label ({row}); is it the labelled BEEP! set?")
            yield row["comments"], row["hate"]


def train_hate() -> HashedTextClassifier:
    """None, offensive or hate, from BEEP!; the macro F1 on its dev part is among the facts."""
    model = HashedTextClassifier(HATE_LABELS)
    comments, labels = zip(*beep_rows("train"), strict=True)
    model.fit(comments, labels, epochs=8, balance=True)
    guesses = [(label, _best(model.probabilities(comment))) for comment, label in beep_rows("dev")]
    model.facts = {"trained_on": "BEEP!", "texts": len(comments), "dev_macro_f1": round(macro_f1(guesses, HATE_LABELS), 4)}
    return model


def _best(probabilities: dict[str, float]) -> str:
    return max(probabilities, key=probabilities.__getitem__)


def macro_f1(pairs: Sequence[tuple[str, str]], labels: Sequence[str]) -> float:
    """Mean over the labels of F1 = 2 hits / (true + guessed), for pairs (true label, guessed label)."""
    scores = []
    for label in labels:
        hits = sum(true == guess == label for true, guess in pairs)
        scores.append(2 * hits / max(1, sum((true == label) + (guess == label) for true, guess in pairs)))
    return sum(scores) / len(scores)
