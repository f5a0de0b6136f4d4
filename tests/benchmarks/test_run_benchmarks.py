"""``make bench``: every part is there, is explained, and has what ``run.py`` calls."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def run(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    return importlib.import_module("run")


def test_every_part_has_a_run_and_a_line_of_help(run):
    for part in run.PARTS:
        assert next(iter(inspect.signature(importlib.import_module(part).run).parameters)) == "quick", part
        assert f"\n{part} " in run.__doc__, part


def test_every_benchmark_is_a_part(run, repository):
    beside = {"run", "shapes", "contenders", "generation_peers", "worker", "adapters_worker", "gpu", "curation_rules", "curation_ours", "curation_datatrove", "dedup_datatrove"}
    assert {path.stem for path in (repository / "benchmarks").glob("*.py")} - beside == set(run.PARTS)


def test_an_unknown_part_is_refused_in_one_line(repository):
    done = subprocess.run([sys.executable, repository / "benchmarks" / "run.py", "speed"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip() == "error: unknown part 'speed': use bpe, segmenters, attention, training, adapters, generation, int8, continuous, serving, curation, dedup"


def test_the_table_marks_what_is_missed_and_escapes_bars(run):
    row = {"name": "a", "ours": 1234.5, "peer": None, "unit": "s", "ratio": 1.5, "target": 2.0, "note": "x | y"}
    assert run.table([row]).splitlines()[-1] == "| a | 1,234 | – | s | 1.50 (missed) | 2.0 | x \\| y |"
    assert "missed" not in run.table([row | {"target": None}])
