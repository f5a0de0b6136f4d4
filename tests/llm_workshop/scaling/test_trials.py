"""The table of runs: nothing is done twice, a kill loses one line at most, a run that diverges is a result."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from llm_workshop.scaling import trials as module
from llm_workshop.scaling.sweep import (
    at_width,
    base_trial,
    isoflop_trials,
    larger_trial,
    learning_rate_at_width,
    width_trials,
)
from llm_workshop.scaling.trials import Trial, Trials, describe, loss_of, read_table
from llm_workshop.settings import load_settings

TINY = Trial(width=32, n_layers=1, context_length=32, tokens=8 * 32 * 4, batch_size=4, learning_rate=3e-3, precision="float32", eval_batches=1)


def count_runs(monkeypatch):
    done, train = [], module.train
    monkeypatch.setattr(module, "train", lambda *arguments, **options: done.append(1) or train(*arguments, **options))
    return done


def test_a_run_is_done_once(small, monkeypatch):
    done = count_runs(monkeypatch)
    other = dataclasses.replace(TINY, seed=1)
    with Trials(small()) as trials:
        first = trials.run_all([TINY, other])
        assert trials.run_all([other, TINY]) == first[::-1]
        assert not [path for path in trials.folder.iterdir() if path.is_dir()], "finished runs leave no checkpoints"
    with Trials(small()) as again:
        assert again.run_all([TINY, other]) == first
    assert len(done) == 2 and first[0]["valid_loss"] != first[1]["valid_loss"]
    assert first[0]["steps"] == TINY.steps == 8 and first[0]["valid_loss"] < math.log(401)


def test_force_does_all_again(small, monkeypatch):
    with Trials(small()) as trials:
        before = trials.run(TINY)
    done = count_runs(monkeypatch)
    monkeypatch.setenv("FORCE", "1")
    with Trials(small()) as trials:
        assert not trials.table.exists()
        again = trials.run(TINY)
        assert trials.run(TINY) is again and len(done) == 1
    assert again["valid_loss"] == before["valid_loss"], "the same run has the same loss, bit for bit"


def test_all_runs_are_judged_by_the_same_text(small, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "train", lambda model, windows, held_out, *rest, **options: asked.append(held_out) or 1 / 0)
    with Trials(small()) as trials:
        for trial in (dataclasses.replace(TINY, batch_size=2, seed=7), dataclasses.replace(TINY, batch_size=16, seed=8)):
            with pytest.raises(ZeroDivisionError):
                trials.run(trial)
    one, two = (windows.batch(0)[1] for windows in asked)
    assert one.equal(two)


def test_a_run_that_diverges_is_a_result(small, monkeypatch):
    def diverge(*_, **__):
        raise ValueError("the loss is nan and the gradient norm nan at step 3")

    trial = dataclasses.replace(TINY, learning_rate=2e-3)
    with monkeypatch.context() as patch, Trials(small()) as trials:
        patch.setattr(module, "train", diverge)
        line = trials.run(trial)
        assert line["valid_loss"] is None and loss_of(line) == math.inf and "step 3" in line["problem"]
        patch.setattr(module, "train", lambda *_, **__: (_ for _ in ()).throw(ValueError("cannot resume")))
        with pytest.raises(ValueError, match="cannot resume"):
            trials.run(dataclasses.replace(TINY, learning_rate=4e-3))
    with Trials(small()) as again:
        assert loss_of(again.run(trial)) == math.inf


def test_a_real_divergence_is_caught(small):
    """The training loop's own error, not one that a test made up."""
    with Trials(small()) as trials:
        line = trials.run(dataclasses.replace(TINY, learning_rate=1e30, warmup=0.0))
    assert line["valid_loss"] is None and "loss is" in line["problem"]


def test_half_a_line_is_left_out(tmp_path):
    table = tmp_path / "table.jsonl"
    table.write_text(json.dumps({"key": "a", "valid_loss": 1.0}) + "\n" + '{"key": "b", "val')
    assert list(read_table(table)) == ["a"]
    with open(table, "a") as stream:
        stream.write(json.dumps({"key": "c", "valid_loss": 2.0}))  # whole, but for its line's end
    assert list(read_table(table)) == ["a", "c"]
    assert table.read_text().endswith("}\n")
    table.write_text('{"key": "a"\n{"key": "b"}\n')
    with pytest.raises(ValueError, match=r"table.jsonl, line 1 is no result"):
        read_table(table)
    assert read_table(tmp_path / "none.jsonl") == {}


def test_one_experiment_at_a_time(small):
    with Trials(small()), pytest.raises(ValueError, match=r"another experiment is adding to .*table\.jsonl"), Trials(small()):
        pass
    with Trials(small()):  # and it is free again
        pass


def test_a_killed_experiment_goes_on(small):
    """kill -9 in the middle of the second run: the first is there, and the second ends with the bits of one never killed."""
    artifacts = small()
    slow = dataclasses.replace(TINY, tokens=90 * 32 * 4, seed=40)
    code = ("import sys, json; from llm_workshop.artifacts import Artifacts; from llm_workshop.settings import load_settings\n"
            "from llm_workshop.scaling.trials import Trial, Trials\n"
            "overrides, root, wanted = json.loads(sys.argv[1])\n"
            "with Trials(Artifacts(load_settings('smoke', overrides=overrides), root), log=lambda _: None) as trials:\n"
            "    trials.run_all([Trial(**one) for one in wanted])")
    overrides = [note.split("  (")[0] for note in artifacts.settings.notes if note.endswith("(set by you)")]
    first = dataclasses.replace(TINY, seed=41)
    order = json.dumps([overrides, str(artifacts.root.parent), [dataclasses.asdict(first), dataclasses.asdict(slow)]])
    child = subprocess.Popen([sys.executable, "-c", code, order], stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())})
    work = artifacts.work("trials", None, module.INPUTS) / slow.key / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(work.glob("step-*/manifest.json")) and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    lines: list[str] = []
    with Trials(artifacts, log=lines.append) as trials:
        assert first.key in trials._done and slow.key not in trials._done
        resumed = trials.run(slow)
    assert any("이어" in line or "resuming" in line for line in lines), lines
    with Trials(artifacts) as trials:
        trials._done.pop(slow.key)
        assert trials.run(slow)["valid_loss"] == resumed["valid_loss"]


def test_widths_must_be_whole_heads():
    with pytest.raises(ValueError, match=r"width 100 is no multiple of 32.*use e.g. 96"):
        dataclasses.replace(TINY, width=100)
    assert "너비 32" in describe(TINY) and TINY.key != dataclasses.replace(TINY, beta2=0.99).key


def settings(*overrides):
    return load_settings("smoke", overrides=overrides)


def test_the_runs_of_a_sweep():
    runs = width_trials(settings("scaling.widths=128,32,64", "scaling.seeds=2", "scaling.larger_width=256"))
    assert [(run.width, run.seed) for run in runs] == [(32, 0), (32, 1), (64, 0), (64, 1), (128, 0), (128, 1)]
    assert len({run.tokens for run in runs}) == 1
    assert runs[4].learning_rate == pytest.approx(runs[0].learning_rate / 4, rel=1e-3), "four times the width, a quarter of the learning rate"
    assert learning_rate_at_width(1e-3, 64) == 1e-3 and at_width(runs[2], 64).learning_rate == runs[2].learning_rate
    assert larger_trial(settings("scaling.larger_width=256")).width == 256


@pytest.mark.parametrize("overrides, problem", [
    (("scaling.widths=32,64",), "2 widths.*at least 3 widths"),
    (("scaling.widths=32,64,96",), "at least 3 widths, and 4 runs"),
    (("scaling.larger_width=128",), "scaling.larger_width 128 is to be foretold"),
])  # fmt: skip
def test_too_few_runs_are_refused(overrides, problem):
    with pytest.raises(ValueError, match=problem):
        width_trials(settings(*overrides))


def test_runs_of_one_budget_cost_the_same():
    from llm_workshop.tokenization.trial import small_model

    chosen = settings("scaling.isoflop_widths=32,64,96,128")
    runs = isoflop_trials(chosen, 1e11, 400)
    assert len(runs) >= 3 and [run.tokens for run in runs] == sorted((run.tokens for run in runs), reverse=True)
    for run in runs:
        model = small_model(400, run.context_length, run.n_layers, run.width, seed=0)
        assert run.tokens * model.flops_per_token(run.context_length) == pytest.approx(1e11, rel=0.001)
    with pytest.raises(ValueError, match="leaves 20 steps to 0 of the widths"):
        isoflop_trials(chosen, 1e8, 400)
    assert base_trial(chosen).width == 64
