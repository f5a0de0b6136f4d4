"""Who stays of a group of similar documents, and which lines are taken out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_workshop.curation.dedup.choose import NOBODY, Dropped, rank
from llm_workshop.curation.dedup.exact import digest, exact_duplicates, fold
from llm_workshop.curation.dedup.lines import count_lines, frequent_lines, without_lines
from llm_workshop.curation.dedup.settings import LineSettings, dedup_settings
from llm_workshop.curation.dedup.shingles import hash_texts
from llm_workshop.curation.dedup.union_find import clusters, drop_similar

EDGES = st.integers(2, 12).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] != e[1]), max_size=20),
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
    )
)


def columns(edges) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def test_a_chain_is_one_cluster_but_not_all_similar():
    chain = columns([(0, 1), (1, 2), (2, 3)])  # 0 ~ 1 ~ 2 ~ 3
    order = np.arange(4)
    assert clusters(*chain, order).tolist() == [-1, 0, 0, 0]
    assert drop_similar(*chain, order).tolist() == [-1, 0, -1, 2]


def test_the_rank_decides_who_stays():
    pairs = columns([(0, 1), (1, 2)])
    assert clusters(*pairs, np.array([5, 5, 1])).tolist() == [2, 2, -1]
    assert drop_similar(*pairs, np.array([5, 1, 5])).tolist() == [1, -1, 1]


@given(EDGES)
def test_what_goes_is_similar_to_what_stays_and_no_two_that_stay_are_similar(case):
    count, edges, ranks = case
    kept = drop_similar(*columns(edges), np.array(ranks))
    similar = set(edges) | {(b, a) for a, b in edges}
    for item in range(count):
        if kept[item] >= 0:
            assert (item, kept[item]) in similar and kept[kept[item]] < 0 and ranks[kept[item]] <= ranks[item]
    stays = [item for item in range(count) if kept[item] < 0]
    assert not any((a, b) in similar for a in stays for b in stays)


@given(EDGES)
def test_clusters_are_the_connected_components(case):
    count, edges, ranks = case
    kept = clusters(*columns(edges), np.array(ranks))
    names = list(range(count))  # by relabelling until nothing changes
    while any(names[a] != names[b] for a, b in edges):
        for a, b in edges:
            names = [names[a] if name == names[b] else name for name in names]
    for component in set(names):
        members = [item for item in range(count) if names[item] == component]
        best = min(members, key=lambda item: (ranks[item], item))
        assert [kept[item] for item in members] == [-1 if item == best else best for item in members]


def test_held_out_documents_are_preferred_then_the_longest():
    valid, characters = np.array([0, 1, 0]), np.array([50, 10, 60])
    assert np.argsort(rank(valid, characters, "earliest"), kind="stable").tolist() == [1, 0, 2]
    assert np.argsort(rank(valid, characters, "longest"), kind="stable").tolist() == [1, 2, 0]


def test_who_stood_for_a_document_and_goes_is_replaced():
    exact = Dropped.by("exact", np.array([4, 2]), np.array([1, 1]))
    near = Dropped.by("near", np.array([1]), np.array([0]), np.array([0.9]))
    joined = exact.joined(near)
    assert joined.number.tolist() == [1, 2, 4] and joined.of.tolist() == [0, 0, 0]
    assert joined.similarity.tolist() == [0.9, 0.9, 0.9]
    assert exact.joined(Dropped.by("near", np.zeros(0, np.int64))).of.tolist() == [1, 1]
    assert Dropped.by("empty", np.array([3])).of.tolist() == [NOBODY]


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_exact_duplicates_over_shards(at_once):
    shards = [["가", "나", "가"], [], ["나", "다", "가 "]]
    arrays = [np.frombuffer(b"".join(digest(fold(t)) for t in shard), dtype="<u8").reshape(-1, 2) for shard in shards]
    ranks = [np.zeros(3, np.int64), np.zeros(0, np.int64), np.array([-1, 0, 0])]  # the second "나" is preferred
    dropped, kept = exact_duplicates(3, lambda s: (arrays[s], ranks[s]), texts=6, at_once=at_once)
    assert dict(zip(dropped.tolist(), kept.tolist())) == {2: 0, 5: 0, 1: 3}


def test_fold_makes_alike_what_does_not_matter():
    assert fold(" Ab\n\n가\t나 ") == "ab 가 나"
    assert fold("\u1112\u1161\u11ab\u1100\u116e\u11a8") == "한국"
    assert fold("가나") != fold("가 나")


LINES = LineSettings(min_documents=2, min_characters=3, skip_kinds=("chat",))


def test_lines_are_counted_once_a_document():
    counts = count_lines([("web", "메뉴 바로가기\n본문\n메뉴 바로가기"), ("web", " 메뉴 바로가기\n다른 글"), ("chat", "다른 글")], LINES)
    by_hash = dict(zip(*counts.tolist()))
    menu, other, short = hash_texts(["메뉴 바로가기", "다른 글", "본문"]).tolist()
    assert by_hash == {menu: 2, other: 1} and short not in by_hash


@pytest.mark.parametrize("at_once", [1, 2, 1000])
def test_frequent_lines_over_shards(at_once):
    counts = [count_lines([("web", text)], LINES) for text in ("첫째 줄\n둘째 줄", "둘째 줄\n셋째 줄", "셋째 줄\n둘째 줄")]
    assert frequent_lines(counts, 3, at_once).tolist() == hash_texts(["둘째 줄"]).tolist()
    assert sorted(frequent_lines(counts, 2, at_once).tolist()) == sorted(hash_texts(["둘째 줄", "셋째 줄"]).tolist())


def test_a_text_without_its_frequent_lines():
    frequent = frozenset(hash_texts(["메뉴 바로가기", "본문"]).tolist())
    assert without_lines("web", "메뉴 바로가기 \n\n본문\n내용입니다.", frequent, LINES) == ("본문\n내용입니다.", ["메뉴 바로가기"])
    text = "아무 일 없음"
    assert without_lines("web", text, frequent, LINES)[0] is text
    assert without_lines("chat", "메뉴 바로가기", frequent, LINES) == ("메뉴 바로가기", [])


def test_settings_of_a_recipe():
    assert dedup_settings({}).near.threshold == 0.8 and dedup_settings({}).lines is None
    settings = dedup_settings({"exact": False, "lines": True, "near": {"unit": "word", "size": 3}})
    assert settings.exact is None and settings.lines == LineSettings() and settings.near.size == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"near": {"treshold": 0.7}}, r"dedup: unknown setting 'near.treshold'; there are unit, size, threshold"),
        ({"fuzzy": {}}, r"dedup: unknown setting 'fuzzy'; there are exact, lines, near"),
        ({"near": {"threshold": 1.5}}, r"dedup.near.threshold = 1.5: .*less than or equal to 1"),
        ({"near": 0.8}, r"dedup.near = 0.8"),
        (["near"], r"is no list of settings"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        dedup_settings(values)
