"""The chain tells what is there, what is damaged, and what was made from something that has changed since."""

from __future__ import annotations

import json

import pytest
from matplotlib.patches import FancyArrowPatch

from llm_workshop.artifacts import MAKE_TARGETS, Artifacts
from llm_workshop.orientation.chain import STAGES, chain_rows, human_bytes, read_chain, read_link
from llm_workshop.orientation.plots import chain_plot
from llm_workshop.settings import load_settings


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(load_settings("smoke"), tmp_path)


def write(artifacts, stage, text, inputs=()):
    with artifacts.write_stage(stage, {"text": text}, inputs) as writer:
        (writer.folder / "data.txt").write_text(text)


def states(artifacts):
    return {link.stage: link.state for link in read_chain(artifacts)}


def test_an_empty_run_names_what_makes_each_stage(artifacts):
    links = read_chain(artifacts)
    assert {link.stage for link in links} == set(MAKE_TARGETS) and {link.state for link in links} == {"missing"}
    assert all(link.target.startswith("make ") and link.digest is None for link in links)


def test_a_stage_shows_its_own_figures(artifacts):
    write(artifacts, "corpus", "가나다")
    link = read_link(artifacts, "corpus")
    manifest = artifacts.read_manifest("corpus")
    assert (link.state, link.n_bytes, link.seconds) == ("done", 9, manifest["seconds"])
    assert link.digest == artifacts.content_digest("corpus")


def test_a_new_input_makes_what_stands_on_it_stale_and_the_old_one_again_makes_it_current(artifacts):
    write(artifacts, "corpus", "가")
    write(artifacts, "tokenizer", "t", ["corpus"])
    assert (states(artifacts)["corpus"], states(artifacts)["tokenizer"]) == ("done", "done")
    write(artifacts, "corpus", "나")
    link = read_link(artifacts, "tokenizer")
    assert link.state == "stale" and "corpus" in link.problem and link.inputs == ("corpus",)
    write(artifacts, "corpus", "가")
    assert states(artifacts)["tokenizer"] == "done", "equal content counts, not the time"


def test_damage_is_a_finding(artifacts):
    write(artifacts, "corpus", "가나다")
    (artifacts.path("corpus") / "data.txt").write_text("가")
    assert read_link(artifacts, "corpus").state == "damaged"
    (artifacts.path("corpus") / "manifest.json").write_text("{")
    link = read_link(artifacts, "corpus")
    assert link.state == "damaged" and "FORCE=1" in link.problem


@pytest.mark.parametrize("content", ["[]", "{}", '{"files": {}, "seconds": null, "created": "", "inputs": {}}'])
def test_a_manifest_of_another_form_is_damage_too(artifacts, content):
    artifacts.path("corpus").mkdir(parents=True)
    (artifacts.path("corpus") / "manifest.json").write_text(content)
    assert read_link(artifacts, "corpus").state == "damaged"


def test_every_stage_of_the_job_is_named_in_korean_and_drawn(artifacts):
    assert set(STAGES) == set(MAKE_TARGETS), "a new stage wants its Korean name in STAGES"
    write(artifacts, "corpus", "가")
    (artifacts.root / "tokens").mkdir()
    (artifacts.root / "tokens" / "manifest.json").write_text("{")
    links = read_chain(artifacts)
    rows = chain_rows(links)
    assert [row["이름"] for row in rows] == list(STAGES) and {row["상태"] for row in rows} == {"있음", "손상됨", "아직 없음"}
    drawn = {text.get_text() for text in chain_plot(links).axes[0].texts}
    assert {title for title, _ in STAGES.values()} <= drawn
    json.dumps(rows, ensure_ascii=False)


def test_what_is_curated_leads_to_the_corpus_and_the_long_arrows_go_past_each_other(artifacts):
    axes = chain_plot(read_chain(artifacts)).axes[0]
    assert any("corpus.curated=true" in text.get_text() for text in axes.texts)
    bends = [style.rad for style in (p.get_connectionstyle() for p in axes.patches if isinstance(p, FancyArrowPatch)) if getattr(style, "rad", 0)]
    assert len(bends) == 2 and min(bends) < 0 < max(bends), "one below the row, one above"


def test_the_commands_are_of_the_same_run(artifacts):
    assert {link.target for link in read_chain(artifacts)} >= {"make tokens SCALE=smoke", "make week2-clean SCALE=smoke"}


def test_bytes_in_words():
    assert [human_bytes(n) for n in (None, 0, 999, 1500, 250_000, 27_000_000, 3.2e9, 5e12)] == [
        "–", "0 바이트", "999 바이트", "1.5 kB", "250 kB", "27.0 MB", "3.2 GB", "5.0 TB",
    ]  # fmt: skip
