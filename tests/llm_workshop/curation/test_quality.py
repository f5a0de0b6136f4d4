"""The rules spam and perplexity: trained at first use, on fresh documents, on real text, and without their model."""

from __future__ import annotations

import itertools
import random
import threading

import pytest

from llm_workshop.corpora.loaders import read_rows
from llm_workshop.corpora.sample import generate
from llm_workshop.corpora.sample.noise.foreign import gibberish, spam
from llm_workshop.curation.models import store, training
from llm_workshop.curation.models.__main__ import main
from llm_workshop.curation.models.classifier import HashedTextClassifier
from llm_workshop.curation.step import Drop
from llm_workshop.curation.steps.quality import Perplexity, Spam
from scratch_llm.ngram import CharacterNGramModel


@pytest.fixture(scope="module")
def rules() -> tuple[Spam, Perplexity]:
    result = Spam(), Perplexity()
    for rule in result:
        rule.start()
    return result


def dropped(rule, texts) -> float:
    texts = list(texts)
    return sum(isinstance(rule(text, {}), Drop) for text in texts) / len(texts)


def test_advertisements_go_and_clean_documents_stay(rules):
    rng = random.Random(4)
    assert dropped(rules[0], [spam(rng)[0] for _ in range(500)]) >= 0.98
    clean = [document.text for document in generate(0.3, 61, "valid")]
    assert dropped(rules[0], clean) == dropped(rules[1], clean) == 0


@pytest.mark.parametrize("text", [
    "지난해 매출은 2조 2,150억 3,900만 원, 순이익은 1,302억 4,500만 원으로 한 해 전보다 각각 67.9%, 43.4% 늘었다.",
    "대상 1팀에는 1,500만 원, 금상 1팀에는 1,000만 원, 은상 2팀에는 300만 원씩 상금이 주어진다.",
    "2011년에 30개국 200여 기관, 2012년에 40개국 300여 기관, 2013년에 50개국 400여 기관이 가입했다.",
])  # fmt: skip
def test_a_sentence_full_of_figures_is_no_advertisement(rules, text):
    assert rules[0](text, {}) == text


def test_gibberish_in_hangul_surprises_both(rules):
    rng = random.Random(5)
    made = [(text, about["style"]) for text, about in (gibberish(rng) for _ in range(400))]
    for style in ("syllables", "keyboard"):
        texts = [text for text, made_as in made if made_as == style and len(text.replace(" ", "")) >= 20]
        assert dropped(rules[0], texts) >= 0.98 and dropped(rules[1], texts) == 1


def test_tags_and_reasons_carry_the_figures(rules):
    tags: dict = {}
    text = "오늘은 비가 와서 집에서 책을 읽었다. 저녁에는 국수를 끓여 먹었다."
    assert rules[0](text, tags) is text and rules[1](text, tags) is text
    assert tags["quality"] > 0.5 and 1 < tags["bits_per_character"] < 14
    result = rules[1]("뀷쌟 뢰퉾 뱕흵 쒋궭 뻃쮈 " * 4, tags)
    assert result.reason == "perplexity" and result.detail.endswith("> 14 bits") and tags["bits_per_character"] > 14


def test_text_with_little_hangul_is_not_judged_by_a_model_of_korean(rules):
    text, tags = "for (int i = 0; i < n; i++) { printf(\"%d\", i); } // 반복" * 2, {}
    assert rules[1](text, tags) is text and tags == {}


def test_an_advertisement_of_a_topic_never_seen():
    """What the sample's classifier has learnt is more than seven sentences: one topic left out in training."""
    model, rng = training.train_spam(0.2, without_topics=("invest",)), random.Random(6)
    unseen = [text for text, about in (spam(rng) for _ in range(900)) if about["topic"] == "invest"]
    assert sum(model.probabilities(text)["spam"] > 0.8 for text in unseen) / len(unseen) >= 0.85


@pytest.mark.parametrize(("name", "field"), [("nsmc/reviews_other.jsonl.xz", "document"), ("pretrain_ko/petitions_valid.jsonl.xz", "text")])
def test_real_text_is_left_alone(rules, shared_data, name, field):
    texts = [row[field] for row in itertools.islice(read_rows(shared_data / name), 1500)]
    assert dropped(rules[0], texts) <= 0.01 and dropped(rules[1], texts) <= 0.005


def test_several_that_want_a_model_at_once_train_it_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CURATION_MODELS", str(tmp_path))
    trainings = []

    def train():
        trainings.append(1)
        model = CharacterNGramModel(2)
        model.fit(["가나다"])
        return model

    monkeypatch.setitem(store.KINDS, "korean", store.KINDS["korean"]._replace(train=train))
    threads = [threading.Thread(target=store.obtain, args=("korean",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trainings == [1] and store.default_path("korean").parent == tmp_path


def test_a_model_that_is_not_there_or_no_model_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no model 'spam' at .*train it with 'python -m llm_workshop.curation.models spam --out"):
        Spam(model=str(tmp_path / "none")).start()
    (tmp_path / "other").write_bytes(b"something else")
    with pytest.raises(ValueError, match="no n-gram model"):
        Perplexity(model=str(tmp_path / "other")).start()
    monkeypatch.setenv("CURATION_MODELS", str(tmp_path))
    with pytest.raises(ValueError, match="models hate"):
        store.obtain("hate")


def test_the_command_trains_on_files_of_ones_own(tmp_path, capsys):
    texts = tmp_path / "mine.txt"
    texts.write_text("가나다라 마바사.\n\n" * 50, encoding="utf-8")
    assert main(["korean", "--texts", str(texts), "--out", str(tmp_path / "m.safetensors")]) == 0
    assert "m.safetensors" in capsys.readouterr().out
    rule = Perplexity(model=str(tmp_path / "m.safetensors"), maximum=3)
    rule.start()
    assert isinstance(rule("가나다라 마바사. " * 5, {}), str)
    assert isinstance(rule("오늘은 비가 와서 집에서 책을 읽었다. 저녁에는 국수를 먹었다.", {}), Drop)
    assert main(["spam", "--texts", str(texts)]) == 1
    assert "labelled texts" in capsys.readouterr().err


def test_settings_are_checked():
    for values in ({"threshold": 0.4}, {"threshold": 1.2}, {"treshold": 0.9}):
        with pytest.raises(ValueError, match="eshold"):
            Spam(**values)


def test_labels_of_the_default_model(rules):
    assert isinstance(rules[0]._classifier, HashedTextClassifier) and rules[0]._classifier.labels == training.SPAM_LABELS
