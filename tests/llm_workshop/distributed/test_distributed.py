"""Several processes of the `workshop pretrain` command, and what week 5's lab counts and draws."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from llm_workshop import cli
from llm_workshop.artifacts import Artifacts
from llm_workshop.distributed import trial
from llm_workshop.distributed.costs import ZERO_STAGES, held_bytes, sent_bytes
from llm_workshop.distributed.plots import cost_plot, equality_plot, loss_differences, zero_plot
from llm_workshop.distributed.trial import lab_config, local_bytes, loopback_bytes, measure, n_processes
from llm_workshop.pipeline import build_base_model, build_corpus, build_tokenizer, build_tokens
from llm_workshop.pipeline.pretrain import model_config, training_windows
from llm_workshop.pretraining.watch import find_runs
from llm_workshop.settings import load_settings
from scratch_llm.models import build_model
from scratch_llm.tokenizers import ByteLevelBPE
from scratch_llm.training.ranks import ALONE

TINY = (
    "corpus.megabytes=0.3", "tokenizer.vocab_size=400", "model.context_length=32", "model.n_layers=1", "model.n_heads=2", "model.d_model=32",
    "pretrain.steps=6", "pretrain.batch_size=4", "pretrain.eval_batches=1", "pretrain.precision=float32", "pretrain.compile=off",
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    artifacts = Artifacts(load_settings("smoke", overrides=TINY), root=tmp_path_factory.mktemp("artifacts"))
    for build in (build_corpus, build_tokenizer, build_tokens, build_base_model):
        build(artifacts)
    return artifacts


def test_the_command_trains_with_two_processes_what_one_trains(built, monkeypatch, capfd):
    expected = built.read_manifest("base-model")["metrics"]
    monkeypatch.setenv("ARTIFACTS_DIR", str(built.root.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FORCE", "0")  # --force sets it: no later test may find it
    arguments = ["pretrain", "--scale", "smoke", *TINY, "distributed.processes=2", "distributed.strategy=fsdp"]
    assert cli.main([*arguments, "--force"]) == 0
    output = capfd.readouterr().out
    assert output.count("model: llama") == 1 and ", 2 processes" in output and output.count("base-model: written") == 1
    found = built.read_manifest("base-model")["metrics"]
    for name in ("loss", "valid_loss", "bits_per_byte"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
    assert found["parameters"] == expected["parameters"]
    assert [path.name for path in built.root.iterdir() if path.name.startswith(".base-model")] == []

    os.environ.pop("FORCE")
    assert cli.main(arguments) == 0  # how many train it is no part of what the model is
    assert capfd.readouterr().out.count("base-model: up to date") == 1
    model = build_model(model_config(built.settings, ByteLevelBPE.load(built.path("tokenizer"))))
    assert type(model).from_pretrained(built.path("base-model")).n_parameters() == expected["parameters"]


def test_a_batch_that_does_not_divide_is_told_in_one_line(built, monkeypatch, capfd):
    monkeypatch.setenv("ARTIFACTS_DIR", str(built.root.parent))
    assert cli.main(["pretrain", "--scale", "smoke", *TINY, "distributed.processes=3", "pretrain.weight_decay=0.2"]) == 1
    told = capfd.readouterr()
    assert told.err.strip().splitlines() == [
        "error: batch_size 4 cannot be shared among 3 processes; choose a multiple of 3, or another number of processes"]
    assert "model:" not in told.out, "nothing was started"


def test_the_lab_refuses_such_a_batch_before_it_trains(built, monkeypatch):
    settings = load_settings("smoke", overrides=(*TINY, "distributed.processes=3"))
    monkeypatch.setattr(trial, "start", lambda *_, **__: pytest.fail("a trial was started"))
    with pytest.raises(ValueError, match="batch_size 4 cannot be shared among 3 processes"):
        trial.run_trials(Artifacts(settings, root=built.root.parent))


def test_trials_are_done_once_and_lie_apart_from_the_products(built, monkeypatch):
    started = []

    def start(method, folder, settings, processes):
        started.append((method, processes))
        folder.mkdir(parents=True)
        (folder / "found.json").write_text(json.dumps({"valid_loss": 5.0}), encoding="utf-8")
        (folder / "metrics.jsonl").write_text("{}\n", encoding="utf-8")

    monkeypatch.setattr(trial, "start", start)
    before = {path.name for path in built.root.iterdir()}
    expected = {method: {"valid_loss": 5.0} for method in trial.METHODS}
    assert trial.run_trials(built) == expected == trial.run_trials(built)
    assert started == [("alone", 1), ("hand", 2), ("ddp", 2), ("fsdp", 2)]
    assert {path.name for path in built.root.iterdir()} - before <= {".work"}
    assert all((built.path(trial.stage_of(method)) / "metrics.jsonl").is_file() for method in trial.METHODS)
    assert [run.finished for run in find_runs(built.root) if run.name.startswith("distributed-")] == [True] * 4


def test_measured_bytes_are_those_of_the_formula(built):
    tokenizer = ByteLevelBPE.load(built.path("tokenizer"))
    model = build_model(model_config(built.settings, tokenizer))
    count = sum(parameter.numel() for parameter in model.parameters())
    n_tensors = len(list(model.parameters()))
    found = measure(model, training_windows(built)[0], lab_config(built.settings), ALONE)
    assert found["parameters"] == count and found["weights_bytes"] == found["gradients_bytes"] == 4 * count
    assert found["optimizer_bytes"] == 8 * count + 4 * n_tensors  # each has the number of its steps
    assert found["tokens_per_second"] > 0
    total = found["weights_bytes"] + found["gradients_bytes"] + 8 * count
    assert total == held_bytes(count, 1, 0) == held_bytes(count, 8, 0)


def test_formulas_by_hand():
    """100 weights in float32: 400 bytes of weights, 400 of gradients, 800 of Adam's moments."""
    assert [held_bytes(100, 4, stage) for stage in ZERO_STAGES] == [1600, 1000, 700, 400]
    assert [sent_bytes(100, 4, method) for method in ("alone", "ddp", "hand", "fsdp")] == [0, 2400, 2400, 3600]
    assert sent_bytes(100, 4, "fsdp", gloo=True) == 4800 and sent_bytes(100, 4, "ddp", gloo=True) == 2400
    assert n_processes(load_settings("smoke")) == 2
    assert n_processes(load_settings("smoke", overrides=["distributed.processes=3"])) == 3


def test_local_bytes():
    assert local_bytes(torch.zeros(3, 5)) == 60 and local_bytes(7) == 0
    assert loopback_bytes() >= 0


@pytest.fixture
def metrics(tmp_path) -> dict[str, Path]:
    paths = {}
    for place, method in enumerate(("alone", "hand", "ddp", "fsdp")):
        paths[method] = tmp_path / f"{method}.jsonl"
        records = ({"step": step, "loss": 5.0 - 0.5 * step + place * 1e-7 * step} for step in (1, 2, 3))
        paths[method].write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return paths


def test_differences_are_of_equal_steps(metrics):
    differences = loss_differences(metrics)
    assert list(differences) == ["hand", "ddp", "fsdp"]
    assert differences["fsdp"] == pytest.approx([3e-7 / 4.5, 6e-7 / 4.0, 9e-7 / 3.5], rel=1e-3)


def test_plots_draw_what_they_are_given(metrics):
    figure = equality_plot(metrics, 1e-5)
    assert len(figure.axes) == 2 and len(figure.axes[0].lines) == 4
    result = {"weights_bytes": 4, "gradients_bytes": 4, "optimizer_bytes": 8, "loopback_bytes": 0, "tokens_per_second": 10.0}
    assert len(cost_plot(dict.fromkeys(metrics, result)).axes) == 3
    assert len(zero_plot(1000, (1, 2, 4), "제목").axes[0].lines) == 4
