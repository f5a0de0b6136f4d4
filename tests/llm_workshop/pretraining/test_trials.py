"""Trials before the pretraining: kept and read again, taken up after a kill, and what they show."""

from __future__ import annotations

import pytest
import torch

from llm_workshop.artifacts import Artifacts
from llm_workshop.pipeline import build_corpus, build_tokenizer, build_tokens
from llm_workshop.pretraining import trials as module
from llm_workshop.pretraining.plots import (
    megabytes_text,
    optimizer_plot,
    range_plot,
    schedule_plot,
    spoilt_plot,
)
from llm_workshop.pretraining.trials import OPTIMIZERS, Spoilt, Trials
from llm_workshop.progress import korean_line
from llm_workshop.settings import load_settings
from scratch_llm.data import IGNORE
from scratch_llm.tokenizers import ByteLevelBPE

SMALL = ("corpus.megabytes=0.2", "tokenizer.vocab_size=400", "model.context_length=32", "model.n_layers=1", "model.n_heads=2",
         "model.d_model=32", "pretrain.steps=30", "pretrain.batch_size=8", "pretrain.eval_batches=2", "pretrain.compile=off",
         "pretrain.precision=float32", "pretrain.learning_rate=0.01", "trials.steps=30")  # fmt: skip


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    artifacts = Artifacts(load_settings("smoke", "sample", 0, SMALL), root=tmp_path_factory.mktemp("trials"))
    for build in (build_corpus, build_tokenizer, build_tokens):
        build(artifacts)
    return Trials(artifacts, ByteLevelBPE.load(artifacts.path("tokenizer")), log=lambda line: None)


@pytest.fixture(scope="module")
def found(trials):
    return {name: trials.range_test(name) for name in OPTIMIZERS}


@pytest.fixture(scope="module")
def compared(trials, found):
    return trials.compare_optimizers({name: test.suggestion for name, test in found.items()})


@pytest.fixture(scope="module")
def passed(trials):
    return trials.spoilt_text()


def test_nothing_is_run_twice(trials, found, compared, passed, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr(module, "find_learning_rate", fail)
    assert trials.range_test("muon") == found["muon"]
    monkeypatch.setattr("scratch_llm.training.loop.gradients", fail)
    assert trials.spoilt_text() == passed
    assert [row["losses"] for row in trials.compare_optimizers({row["optimizer"]: row["learning_rate"] for row in compared})] == [
        row["losses"] for row in compared]


@pytest.mark.parametrize("change", [
    "pretrain.steps=50", "pretrain.schedule=wsd", "pretrain.warmup_steps=7", "pretrain.ema_decay=0.9", "pretrain.tensorboard=true",
    "pretrain.compile=auto", "pretrain.save_every=5", "pretrain.log_every=3", "pretrain.keep=3",
    "pretrain.on_bad_step=roll_back", "pretrain.spike_threshold=9",
])
def test_another_long_run_takes_the_same_trials(trials, change):
    other = _with(trials, change)
    assert _folders(other) == _folders(trials)


@pytest.mark.parametrize("change", [
    "model.d_model=64", "pretrain.batch_size=4", "pretrain.packing=stream", "pretrain.precision=bfloat16", "pretrain.weight_decay=0",
    "pretrain.beta2=0.9", "pretrain.grad_clip=2", "pretrain.z_loss=0.1", "trials.steps=40",
])
def test_what_changes_a_trial_gives_it_another_folder(trials, change):
    other = _with(trials, change)
    assert not set(_folders(other)) & set(_folders(trials))


@pytest.mark.parametrize("change", ["pretrain.learning_rate=0.02", "pretrain.optimizer=muon"])
def test_rate_and_optimiser_are_only_those_of_the_spoilt_text(trials, change):
    *tests, spoilt = _folders(_with(trials, change))
    assert tests == _folders(trials)[:-1] and spoilt != _folders(trials)[-1]


def _with(trials, change):
    artifacts = Artifacts(load_settings("smoke", "sample", 0, (*SMALL, change)), root=trials._artifacts.root.parent)
    return Trials(artifacts, trials._tokenizer, log=lambda line: None)


def _folders(trials):
    configs = {name: trials.config(optimizer=name, learning_rate=0.001) for name in OPTIMIZERS}
    return [*(trials.folder(name, config) for name, config in configs.items()),
            trials.folder("spoilt-unprotected", trials.config(**module.WAYS["unprotected"]))]


def test_each_line_tells_whose_it_is(trials):
    lines = []
    fresh = Trials(Artifacts(trials.settings, root=trials._artifacts.root.parent), trials._tokenizer, log=lines.append)
    fresh.steps = 20  # no folder has it yet
    fresh.range_test("muon")
    assert [korean_line(line).split("  ")[0] for line in lines] == ["Muon: 학습률 시험 20/20"]


def test_every_optimiser_learns_at_the_rate_that_its_test_suggests(compared):
    assert [row["optimizer"] for row in compared] == list(OPTIMIZERS)
    for row in compared:
        assert len(row["losses"]) == 30 and row["valid_loss"] < row["losses"][0][1] - 0.1


def test_bytes_of_state_are_what_the_optimisers_keep(trials, compared):
    """AdamW two float32 numbers a weight; Muon one for hidden matrices; Adafactor rows and columns."""
    state = {row["optimizer"]: row["state_bytes"] for row in compared}
    n = trials.model().n_parameters()
    assert 8 * n <= state["adamw"] <= 8 * n + 4 * 100  # a step counter for each tensor
    assert 4 * n < state["muon"] < state["adamw"]
    assert state["adafactor"] < 0.1 * state["adamw"]


def test_spoilt_batches_are_left_out_and_learning_them_costs(passed, trials):
    rows = {row["way"]: row for row in passed}
    assert rows["unprotected"]["bad_steps"] == []
    left_out = [number for entry in rows["skip"]["bad_steps"] for number in range(entry["batches_left_out"][0], entry["batches_left_out"][1] + 1)]
    assert set(trials.spoilt) <= set(left_out)
    assert rows["roll_back"]["bad_steps"]
    late = {way: max(loss for step, loss in row["losses"] if step > 20) for way, row in rows.items()}
    assert late["skip"] < late["unprotected"]


def test_the_spoilt_batches_and_no_others_have_other_targets(trials):
    windows = Spoilt(trials.train_windows, range(3, 5))
    for number in range(7):
        (_, targets), (_, own) = windows.batch(number), trials.train_windows.batch(number)
        kept = own != IGNORE
        assert torch.equal(targets, own) == (number not in (3, 4)) and torch.equal(targets != IGNORE, kept)
        assert 0 <= targets[kept].min() and targets[kept].max() < 400


def test_plots(trials, found, compared, passed, tmp_path):
    figures = (range_plot(found), schedule_plot(trials.config()), optimizer_plot(compared), spoilt_plot(passed, trials.spoilt))
    for number, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{number}.png")
    lines = [line.get_label() for line in figures[1].axes[0].lines]
    assert lines == ["코사인", "WSD", "원 사이클"]
    assert len(figures[0].axes[0].lines) == 6  # a curve and a dot for each


@pytest.mark.parametrize("n_bytes, text", [(12_345_678, "12.3"), (5_555, "0.006"), (1_234_567, "1.235")])
def test_little_is_not_shown_as_nothing(n_bytes, text):
    assert megabytes_text(n_bytes) == text
