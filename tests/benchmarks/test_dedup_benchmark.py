"""The benchmark of deduplication: what it counts, and that it runs with and without datatrove."""

from __future__ import annotations

import importlib
import random
import sys

import pytest


@pytest.fixture(scope="module")
def bench(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    return importlib.import_module("dedup")


def test_what_was_found_is_counted_by_who_stays(bench):
    alike = ["copy-1", "copy-2", "copy-3", "copy-4"]
    kept = {"copy-1", "original-2", "copy-3", "original-3", "original-9"}  # of 1 and 2 one stays, of 3 both, of 4 none
    assert bench.found_share(kept, alike) == 0.75


def test_edited_copies_are_other_texts_and_the_alike_ones_are_known(bench):
    text = "오늘 본 영화는 처음부터 끝까지 눈을 뗄 수 없을 만큼 재미있고 배우들의 연기도 참 좋았습니다"
    copies = {f"copy-{i}": (bench.edited(text, random.Random(i)), text) for i in range(30)}
    copies["copy-same"] = (text, text)
    copies["copy-other"] = ("전혀 다른 이야기를 하는 다른 사람의 아주 다른 글입니다", text)
    alike = bench.true_copies(copies, "char", 5)
    assert sum(edited != text for edited, _ in copies.values()) >= 25
    assert "copy-same" in alike and "copy-other" not in alike


@pytest.mark.slow
@pytest.mark.parametrize("installed", [False, True])
def test_it_runs(bench, tmp_path, monkeypatch, installed):
    if not installed:
        monkeypatch.setattr(bench, "PEER_PYTHON", tmp_path / "nothing")
    elif not bench.PEER_PYTHON.is_file():
        pytest.skip(f"no datatrove at {bench.PEER_PYTHON}: make env-curate")
    monkeypatch.setattr(bench, "QUICK_DOCUMENTS", 400)
    monkeypatch.setattr(bench, "SHINGLES", (("char", 5),))
    comparison, memory = bench.run(quick=True)
    assert comparison["ours"] > 0 and ("make env-curate" in comparison["note"]) == (not installed)
    assert (comparison["ratio"] is None) == (not installed)
    assert memory["unit"] == "MB" and memory["ours"] > 20
