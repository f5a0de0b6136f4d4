"""The curation benchmark: both sides have the same rules, its documents are as asked, ours keeps what the rules say."""

from __future__ import annotations

import importlib
import itertools
import json
import sys

import pytest


@pytest.fixture(scope="module")
def bench(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    return importlib.import_module("curation")


@pytest.fixture(scope="module")
def rules(bench):
    return importlib.import_module("curation_rules")


def texts():
    return (f"{n}번째 영화를 보고 쓴 글입니다. 배우의 연기가 좋았고 음악도 {n % 7}번은 더 듣고 싶었어요." for n in itertools.count())


def test_shards_hold_the_asked_number_of_documents_with_faults(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "SHARD_BYTES", 5000)
    size = bench.make_shards(tmp_path / "raw", texts(), 200)
    lines = [line for path in sorted((tmp_path / "raw").iterdir()) for line in open(path, encoding="utf-8")]
    assert len(lines) == 200 and size == sum(len(line.encode()) for line in lines)
    assert 30 < sum("noise" in json.loads(line) for line in lines) < 90
    with pytest.raises(ValueError, match="fewer than 9"):
        bench.make_shards(tmp_path / "few", iter(["짧다"]), 9)


def test_ours_keeps_what_the_rules_keep(bench, rules, tmp_path):
    bench.make_shards(tmp_path / "raw", texts(), 300)
    kept = 0
    for path in (tmp_path / "raw").iterdir():
        for line in open(path, encoding="utf-8"):
            text = json.loads(line)["text"]
            for change in rules.CHANGES:
                text = change(text)
            kept += bool(text) and all(rule(text) for rule in rules.FILTERS)
    result = bench.clean_with_ours(tmp_path / "raw", tmp_path / "out")
    assert result["kept"] == kept < 300 and result["seconds"] > 0 and result["peak"] > 30


def test_a_side_that_fails_is_told(bench, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match=r"curation_ours.py .* failed"):
        bench.clean_with_ours(tmp_path, tmp_path / "file" / "out")


def test_ratios_point_the_right_way(bench):
    assert bench._row("a", 30, 10, "documents/s", 3.0, "")["ratio"] == 3
    assert bench._row("b", 100, 250, "MB", None, "", less=True)["ratio"] == 2.5
    assert bench._row("c", 30, None, "documents/s", 3.0, "")["ratio"] is None
