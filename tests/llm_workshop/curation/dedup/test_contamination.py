"""Evaluation text in the training data: found, counted, and removed if so set."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_workshop.corpora.document import Document, write_documents
from llm_workshop.curation.dedup.contamination import Index, build_indexes, words_of
from llm_workshop.curation.dedup.evaluation_sets import Item, evaluation_items
from llm_workshop.curation.dedup.pipeline import deduplicate
from llm_workshop.curation.dedup.settings import ContaminationSettings, dedup_settings

QUESTION = "구한말 통영의 안뒤산 기슭 간창골에는 김봉제 형제가 살았고 관약국을 경영하며 부를 누렸다"  # 12 words
OTHER = "오늘은 날씨가 맑아서 친구와 함께 강가를 오래 걸었고 돌아오는 길에 따뜻한 국수를 먹었다"


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_words_without_what_does_not_count():
    assert words_of("“안녕!”  하고_말했다…\nOK") == "안녕 하고 말했다 ok"
    assert words_of("!?") == ""


def test_the_share_of_an_item_in_one_document():
    # 6 words in 3-grams: 4 of them; the document holds the first five words, that is 3.
    index = Index.of(3, [(0, ["a b c d e f"])], 1)
    assert index.hits(["x a b c d e y", "a b", "", "f e d c b a"], 0.75).tolist() == [(0, 0, 0.75)]
    assert index.hits(["x a b c d e y"], 0.76).tolist() == []


def test_what_is_spread_over_documents_is_not_contamination():
    index = Index.of(2, [(0, ["a b c d e"])], 1)
    assert index.hits(["a b c", "c d e"], 0.75).tolist() == []
    assert index.hits(["a b c d", "b c d e"], 0.75).tolist() == [(0, 0, 0.75), (1, 0, 0.75)]


WORDS = st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)


@given(st.lists(WORDS, max_size=5), st.lists(WORDS, max_size=4), st.integers(1, 3))
def test_hits_are_those_of_plain_sets(texts, items, size):
    def grams(text: str) -> set:
        words = text.split()
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

    able = [(number, [item]) for number, item in enumerate(items) if grams(item)]
    found = Index.of(size, able, len(items)).hits(texts, 0.5)
    expected = [
        (d, i, len(grams(text) & grams(item)) / len(grams(item)))
        for d, text in enumerate(texts) for i, item in enumerate(items)
        if grams(item) and len(grams(text) & grams(item)) / len(grams(item)) >= 0.5
    ]
    assert sorted(found.tolist()) == expected


def test_short_items_are_cut_shorter_and_shortest_cannot_be_judged():
    items = [Item("s/f:1", (QUESTION, "짧은 말")), Item("s/f:2", ("한 두 세 네 다섯 여섯",)), Item("s/f:3", ("한 두", "A+ " * 20))]
    (long, short), names, judged = build_indexes(items, ContaminationSettings(words=8, min_words=5))
    assert long.needed.tolist() == [5, 0, 0] and short.needed.tolist() == [0, 2, 0]
    assert names == ["s/f:1", "s/f:2", "s/f:3"] and judged.tolist() == [True, True, False]


@pytest.fixture
def corpus(tmp_path):
    documents = [
        Document("clean", "web", OTHER),
        Document("leak", "web", f"{OTHER[::-1]} 그리고 {QUESTION.replace(' ', ', ')} 끝"),
        Document("held", "web", f"{QUESTION} 그러던 어느 날 일이 벌어졌다", "valid"),
    ]
    paths = [tmp_path / "clean-00000.jsonl", tmp_path / "clean-00001.jsonl"]
    write_documents(paths[0], documents[:2])
    write_documents(paths[1], documents[2:])
    return paths


@pytest.mark.parametrize("remove", [True, False])
def test_a_document_with_held_out_text_is_reported_and_removed_if_so_set(tmp_path, corpus, remove):
    settings = dedup_settings({"contamination": {"share": 0.5, "remove": remove}})
    facts = deduplicate(corpus, tmp_path / "out", settings)
    assert facts["contamination"] == [{"set": "valid", "items": 1, "judged": 1, "contaminated": 1, "documents": 1}]
    assert [row["id"] for row in rows(tmp_path / "out" / "train.jsonl")] == (["clean"] if remove else ["clean", "leak"])
    if remove:
        [row] = rows(tmp_path / "out" / "duplicates.jsonl")
        # 17 words in 8-grams: 10 of them, and the leak holds the 12 words of the question: 5.
        assert row == {"id": "leak", "rule": "contaminated", "of": "valid/held", "similarity": 0.5}


def test_after_removal_nothing_is_contaminated(tmp_path, corpus):
    settings = dedup_settings({"contamination": {"share": 0.5}})
    deduplicate(corpus, tmp_path / "out", settings)
    again = deduplicate([tmp_path / "out" / "train.jsonl", tmp_path / "out" / "valid.jsonl"], tmp_path / "again", settings)
    assert again["contamination"][0]["contaminated"] == 0 and again["dropped"]["contaminated"] == 0


def test_a_file_of_rows_is_an_evaluation_set(tmp_path, corpus):
    path = tmp_path / "quiz.jsonl"
    path.write_text(json.dumps({"guid": QUESTION, "question": OTHER, "answer": "예", "label": 1}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [item.fields for item in evaluation_items(str(path))] == [(OTHER, "예")]
    facts = deduplicate(corpus, tmp_path / "out", dedup_settings({"contamination": {"sets": [str(path), "valid"]}}))
    assert [(row["set"], row["contaminated"]) for row in facts["contamination"]] == [("quiz/quiz", 1), ("valid", 0)]


def test_unknown_and_missing_sets_are_named(tmp_path, corpus, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="unknown evaluation set 'kleu': use valid, klue, kobest, nsmc, or the path"):
        deduplicate(corpus, tmp_path / "a", dedup_settings({"contamination": {"sets": ["kleu"]}}))
    with pytest.raises(FileNotFoundError, match=r"evaluation set 'klue': no files at .*set DATA_DIR"):
        deduplicate(corpus, tmp_path / "b", dedup_settings({"contamination": {"sets": ["klue"]}}))


def test_real_evaluation_questions_in_training_are_found(tmp_path, shared_data, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(shared_data))
    items = [item for name in ("klue", "kobest") for item in evaluation_items(name)]
    assert len(items) > 5000 and not any("klue-nli" in field for item in items for field in item.fields)
    planted = np.random.default_rng(0).choice([i for i, item in enumerate(items) if len(words_of(" ".join(item.fields)).split()) > 12], 40, replace=False)
    documents = [Document(f"planted-{i}", "web", f"머리말입니다. {' '.join(items[i].fields)} 꼬리말입니다.") for i in planted]
    documents += [Document(f"other-{i}", "web", f"{OTHER} {i}번") for i in range(20)]
    path = tmp_path / "clean-00000.jsonl"
    write_documents(path, documents)
    deduplicate([path], tmp_path / "out", dedup_settings({"near": False, "contamination": {"sets": ["klue", "kobest"]}}))
    gone = {row["id"] for row in rows(tmp_path / "out" / "duplicates.jsonl") if row["rule"] == "contaminated"}
    assert gone >= {f"planted-{i}" for i in planted if max(len(words_of(f).split()) for f in items[i].fields) >= 5}
    assert not any(name.startswith("other") for name in gone)
