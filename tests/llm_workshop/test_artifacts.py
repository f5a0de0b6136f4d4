"""Stages appear whole, are reused while current, and say what is wrong when they are not."""

import json

import pytest

from llm_workshop.artifacts import Artifacts, make_command
from llm_workshop.settings import load_settings


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(load_settings("smoke"), root=tmp_path)


def build(artifacts, stage, text="hello", used=None, inputs=()):
    with artifacts.write_stage(stage, used or {}, inputs) as writer:
        (writer.folder / "data.txt").write_text(text)
        writer.metrics["length"] = len(text)


def test_manifest_records_what_a_reader_needs(artifacts):
    build(artifacts, "corpus", used={"a": 1})
    manifest = artifacts.read_manifest("corpus")
    assert manifest["settings"] == {"a": 1} and manifest["metrics"] == {"length": 5}
    assert manifest["files"]["data.txt"]["bytes"] == 5
    assert manifest["versions"]["torch"] and manifest["device"] and manifest["seconds"] >= 0


def test_a_stage_is_current_until_settings_or_inputs_change(artifacts):
    build(artifacts, "corpus")
    build(artifacts, "tokenizer", used={"v": 1}, inputs=["corpus"])
    assert artifacts.is_current("tokenizer", {"v": 1}, ["corpus"])
    assert not artifacts.is_current("tokenizer", {"v": 2}, ["corpus"])
    build(artifacts, "corpus")  # the same content built again changes nothing downstream
    assert artifacts.is_current("tokenizer", {"v": 1}, ["corpus"])
    build(artifacts, "corpus", text="other")
    assert not artifacts.is_current("tokenizer", {"v": 1}, ["corpus"])


def test_force_rebuilds(artifacts, monkeypatch):
    build(artifacts, "corpus")
    monkeypatch.setenv("FORCE", "1")
    assert not artifacts.is_current("corpus", {})


def test_a_failure_leaves_the_old_stage_and_no_litter(artifacts):
    build(artifacts, "corpus", text="old")
    with pytest.raises(KeyboardInterrupt), artifacts.write_stage("corpus", {}) as writer:
        (writer.folder / "data.txt").write_text("half")
        raise KeyboardInterrupt
    assert (artifacts.path("corpus") / "data.txt").read_text() == "old"
    assert [p.name for p in artifacts.root.iterdir()] == ["corpus"]


def test_missing_and_damaged_stages_name_the_command(artifacts):
    with pytest.raises(ValueError, match=r"run 'make week3-tokenizer SCALE=smoke' first"):
        artifacts.require("tokenizer")
    build(artifacts, "corpus")
    file = artifacts.path("corpus") / "data.txt"
    file.write_text("longer than before")
    with pytest.raises(ValueError, match=r"data.txt is damaged.*make corpus SCALE=smoke FORCE=1"):
        artifacts.require("corpus")
    file.unlink()
    with pytest.raises(ValueError, match="is missing"):
        artifacts.require("corpus")
    (artifacts.path("corpus") / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        artifacts.require("corpus")
    assert not artifacts.is_current("corpus", {})


def test_command_in_errors_repeats_the_data(tmp_path):
    with pytest.raises(ValueError, match="SCALE=smoke DATA=sample,nsmc"):
        Artifacts(load_settings("smoke", "sample,nsmc"), tmp_path).require("base-model")


def test_commands_tell_only_the_dials_that_are_not_the_defaults():
    assert make_command(load_settings("laptop"), "report") == "make report"
    assert make_command(load_settings("smoke"), "make week3-tokenizer") == "make week3-tokenizer SCALE=smoke"
    told = make_command(load_settings("gpu", ["nsmc", "my data.txt"], seed=7), "week1-hello", args="hello.hub_model=a/b")
    assert told == "make week1-hello SCALE=gpu DATA='nsmc,my data.txt' SEED=7 ARGS=\"hello.hub_model=a/b\""


def test_work_folder_follows_settings_and_inputs(artifacts):
    build(artifacts, "corpus")
    one = artifacts.work("base-model", {"lr": 1}, ["corpus"])
    assert one == artifacts.work("base-model", {"lr": 1}, ["corpus"])
    assert one != artifacts.work("base-model", {"lr": 2}, ["corpus"])
    one.mkdir(parents=True)
    artifacts.clear_work("base-model")
    assert not one.exists()


def test_skip_renews_the_time_for_make(artifacts, capsys):
    import os

    build(artifacts, "corpus")
    manifest = artifacts.path("corpus") / "manifest.json"
    os.utime(manifest, (1, 1))
    assert artifacts.skip_if_current("corpus", {})
    assert manifest.stat().st_mtime > 1 and "up to date" in capsys.readouterr().out
    assert json.loads(manifest.read_text())["stage"] == "corpus"
