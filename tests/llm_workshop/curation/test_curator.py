"""The recipe through NeMo Curator keeps the same documents, with the same texts, as the rules themselves."""

from __future__ import annotations

import pytest

from llm_workshop.corpora.sample.generator import generate
from llm_workshop.curation import curator
from llm_workshop.curation.recipe import load_recipe, parse_recipe
from llm_workshop.curation.step import Drop


@pytest.fixture
def shards(tmp_path):
    documents = list(generate(0.15, seed=3, noise=0.4))
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"raw-{number:05d}.jsonl")
        paths[-1].write_text("".join(d.to_json() + "\n" for d in documents[number::2]), encoding="utf-8")
    return documents, paths


def by_hand(recipe, documents) -> dict[str, str]:
    for step in recipe.steps:
        step.start()
    kept = {}
    for document in documents:
        text = document.text
        for step in recipe.steps:
            text = step(text, {})
            if isinstance(text, Drop):
                break
        else:
            kept[document.id] = text
    return kept


@pytest.mark.slow
def test_the_same_documents_are_kept(tmp_path, shards):
    try:
        curator.curate_python()
    except ValueError as problem:
        pytest.skip(str(problem))
    documents, paths = shards
    out = tmp_path / "out"
    facts = curator.run_curator("korean", paths, out)
    expected = by_hand(load_recipe("korean"), documents)
    assert curator.kept_texts(out) == expected
    assert (facts["read"], facts["kept"]) == (len(documents), len(expected)) and len(expected) < len(documents)


def test_without_the_environment_it_names_the_target(tmp_path, monkeypatch):
    monkeypatch.setattr(curator, "ENVIRONMENT", tmp_path / "nothing")
    with pytest.raises(ValueError, match="make env-curate"):
        curator.run_curator("korean", [], tmp_path / "out")


def test_what_curator_says_last_is_told(tmp_path, monkeypatch):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'Traceback:' >&2; echo '  line 3' >&2; echo 'OSError: no room' >&2; exit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(curator, "ENVIRONMENT", tmp_path)
    with pytest.raises(ValueError, match="exit code 3: OSError: no room") as error:
        curator.run_curator("korean", [], tmp_path / "out")
    assert str(tmp_path / "out" / "curator.log") in str(error.value)
    assert "line 3" in (tmp_path / "out" / "curator.log").read_text()


def test_a_rule_that_reads_notes_is_refused(monkeypatch):
    recipe = parse_recipe("title: t\nsteps: [unicode]")
    monkeypatch.setattr(type(recipe.steps[0]), "reads_tags", True)
    with pytest.raises(ValueError, match="rule 'unicode' reads the notes"):
        curator.stages_of(recipe)
