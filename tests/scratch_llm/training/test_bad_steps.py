"""Losses that are not finite and spikes: stopped at, skipped, rolled back from; and the same bits after a kill."""

from __future__ import annotations

import math
import os
import shutil
import signal
import statistics

import pytest
import torch

from scratch_llm.training import TrainingConfig, train
from scratch_llm.training.bad_steps import BadSteps
from scratch_llm.training.metrics import read_records

TIMES = ("tokens_per_second", "mfu", "seconds")
quiet = {"log": lambda line: None}


class Faulty:
    """Windows some of whose batches are bad: "nan" is marked in the inputs, "spike" has targets drawn at random."""

    def __init__(self, windows, faults):
        self.windows, self.faults, self.read = windows, faults, []

    def __getattr__(self, name):
        return getattr(self.windows, name)

    def batch(self, number):
        self.read.append(number)
        inputs, targets = self.windows.batch(number)
        fault = self.faults.get(number)
        if fault == "spike":  # what follows is never what the text taught
            targets = torch.full_like(targets, 63)
        if fault == "nan":
            inputs = torch.full_like(inputs, 62)
        return inputs, targets


def breaks_on_62(model):
    """The model, with a loss of nan where the input is all 62."""
    forward = model.forward

    def broken(tokens, **options):
        return forward(tokens, **options) * (float("nan") if (tokens == 62).all() else 1.0)

    model.forward = broken
    return model


def losses(path):
    return [{k: v for k, v in record.items() if k not in TIMES} for record in read_records(path)]


def run(tiny, windows, config, folder, faults, **options):
    train_windows = Faulty(windows[0], faults)
    model = breaks_on_62(tiny())
    result = train(model, train_windows, windows[1], config, folder, **({"log": lambda line: None} | options))
    return result, model, train_windows.read


# -- the judge --------------------------------------------------------------------------------------


def test_the_score_by_hand():
    watch = BadSteps(TrainingConfig(spike_threshold=5.0, spike_window=6))
    for loss in (4.0, 4.2, 3.9):
        watch.good(loss)
    # Median 4.0; deviations 0, 0.2, 0.1: their median is 0.1, which is 0.14826 of a normal distribution's sigma.
    assert watch.score(4.5) == pytest.approx(0.5 / 0.14826)
    assert watch.problem(4.7, 1.0) is None and "4.8000 is 5.4 deviations above the median 4.0000" in watch.problem(4.8, 1.0)


def test_a_loss_far_below_is_no_spike():
    watch = BadSteps(TrainingConfig(spike_threshold=5.0, spike_window=4))
    for loss in (4.0, 4.2, 3.9, 4.1):
        watch.good(loss)
    assert watch.problem(0.1, 1.0) is None


def test_losses_that_do_not_differ_make_no_spike_of_a_ripple():
    watch = BadSteps(TrainingConfig(spike_threshold=10.0, spike_window=10))
    for _ in range(10):
        watch.good(2.0)
    assert watch.problem(2.19, 1.0) is None and watch.problem(2.21, 1.0) is not None  # 1 % of the median is the unit


def test_too_few_steps_are_not_judged_and_without_a_threshold_none_is():
    watch = BadSteps(TrainingConfig(spike_threshold=3.0, spike_window=10))
    for loss in (4.0, 4.1, 4.2, 4.0):
        watch.good(loss)
    assert watch.problem(100.0, 1.0) is None  # four of ten
    watch.good(4.0)
    assert watch.problem(100.0, 1.0) is not None
    assert BadSteps(TrainingConfig()).problem(1e9, 1.0) is None


def test_the_window_holds_the_latest_losses():
    watch = BadSteps(TrainingConfig(spike_threshold=3.0, spike_window=4))
    for loss in (9.0, 8.0, 7.0, 6.0, 5.0, 4.0):
        watch.good(loss)
    assert watch.losses == [7.0, 6.0, 5.0, 4.0]


@pytest.mark.parametrize("loss, norm", [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_not_finite_is_always_bad(loss, norm):
    assert BadSteps(TrainingConfig()).problem(loss, norm) == f"the loss is {loss} and the gradient norm {norm}"


# -- skip -------------------------------------------------------------------------------------------


def test_skipping_equals_a_run_that_never_saw_the_batches(tiny, windows, settings, tmp_path):
    config = settings(on_bad_step="skip", log_every=1)
    lines = []
    result, model, read = run(tiny, windows, config, tmp_path / "run", {5: "nan", 8: "nan"}, log=lines.append)
    assert read == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert "step 6: the loss is nan and the gradient norm nan; batch 5 is left out" in lines

    class WithoutThem(Faulty):
        def batch(self, number):
            return super().batch([n for n in range(20) if n not in (5, 8)][number])

    clean = tiny()
    expected = train(clean, WithoutThem(windows[0], {}), windows[1], config, tmp_path / "clean", **quiet)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), clean.parameters()))
    records = losses(result.metrics_path)
    told = [record.pop("bad_steps", None) for record in records]
    assert records == losses(expected.metrics_path)
    assert [(n, entry[0]["step"], entry[0]["batches_left_out"]) for n, entry in enumerate(told, 1) if entry] == [
        (6, 6, [5, 5]), (8, 8, [8, 8])]
    assert (result.bad_steps, expected.bad_steps) == (2, 0)


def test_a_spike_is_skipped(tiny, windows, settings, tmp_path):
    config = settings(steps=40, on_bad_step="skip", spike_threshold=8.0, spike_window=20, learning_rate=2e-2)
    result, _, read = run(tiny, windows, config, tmp_path, {33: "spike"})
    assert result.bad_steps == 1 and read == list(range(41))
    [entry] = [record["bad_steps"][0] for record in read_records(result.metrics_path) if "bad_steps" in record]
    assert entry["step"] == 34 and "deviations above the median" in entry["problem"]
    usual = [record["loss"] for record in read_records(result.metrics_path)]
    assert max(usual[30:]) < 1.5 * statistics.median(usual[30:])  # the spike's loss is in no record


# -- roll back --------------------------------------------------------------------------------------


def test_rolling_back_leaves_out_all_batches_since_the_checkpoint(tiny, windows, settings, tmp_path):
    """Checkpoints stand after steps 0, 4, 8: the bad batch 6 of step 7 takes 4 and 5 with it."""
    config = settings(on_bad_step="roll_back")
    lines = []
    result, model, read = run(tiny, windows, config, tmp_path / "run", {6: "nan"}, log=lines.append)
    assert read == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    assert "step 7: the loss is nan and the gradient norm nan; back to step 4, batches 4 to 6 are left out" in lines

    class WithoutThem(Faulty):
        def batch(self, number):
            return super().batch(number if number < 4 else number + 3)

    clean = tiny()
    expected = train(clean, WithoutThem(windows[0], {}), windows[1], config, tmp_path / "clean", **quiet)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), clean.parameters()))
    records = losses(result.metrics_path)
    assert records[4].pop("bad_steps")[0]["batches_left_out"] == [4, 6]
    assert records == losses(expected.metrics_path)


def test_before_the_first_checkpoint_it_goes_back_to_the_beginning(tiny, windows, settings, tmp_path):
    result, _, read = run(tiny, windows, settings(on_bad_step="roll_back"), tmp_path, {2: "nan", 4: "nan"})
    assert read == [0, 1, 2, 3, 4, *range(5, 17)]
    # Both are told, though the record that told of the first was rolled back with the rest.
    told = [entry["batches_left_out"] for record in read_records(result.metrics_path) for entry in record.get("bad_steps", ())]
    assert told == [[0, 2], [3, 4]] and result.bad_steps == 2


# -- killed and resumed -----------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize("on_bad_step", ["skip", "roll_back"])
@pytest.mark.parametrize("cut", [2, 5, 6, 7, 8, 9, 11])
def test_a_run_cut_off_before_or_after_bad_steps_goes_on_with_the_same_bits(on_bad_step, cut, tiny, windows, settings, tmp_path):
    config = settings(on_bad_step=on_bad_step, log_every=1, spike_threshold=6.0, spike_window=6, learning_rate=5e-3)
    faults = {5: "nan", 7: "nan", 10: "spike"}
    expected, unbroken, _ = run(tiny, windows, config, tmp_path / "unbroken", faults)
    assert expected.bad_steps >= 2

    def stop(line):
        if line.startswith(f"step {cut:>2}/"):
            raise Stop

    with pytest.raises(Stop):
        run(tiny, windows, config, tmp_path / "run", faults, log=stop)
    result, model, _ = run(tiny, windows, config, tmp_path / "run", faults)
    assert losses(result.metrics_path) == losses(expected.metrics_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), unbroken.parameters()))


def test_an_interruption_saves_in_between_and_does_not_change_where_a_run_rolls_back_to(tiny, windows, settings, tmp_path):
    """Ctrl-C after steps 5, 6 and 7 leaves checkpoints there; the bad step 8 still goes back to 4, which is kept for it."""
    config = settings(on_bad_step="roll_back", log_every=1, keep=1)
    expected, unbroken, _ = run(tiny, windows, config, tmp_path / "unbroken", {7: "nan"})
    for cut in (5, 6, 7):
        def press(line, cut=cut):
            if line.startswith(f"step {cut:>2}/"):
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            run(tiny, windows, config, tmp_path / "run", {7: "nan"}, log=press)
    result, model, _ = run(tiny, windows, config, tmp_path / "run", {7: "nan"})
    assert losses(result.metrics_path) == losses(expected.metrics_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), unbroken.parameters()))


# -- where it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("on_bad_step", ["skip", "roll_back"])
def test_what_does_not_get_better_stops(on_bad_step, tiny, windows, settings, tmp_path):
    config = settings(on_bad_step=on_bad_step, max_bad_steps=3)
    with pytest.raises(ValueError, match=r"after 3 bad steps since the last checkpoint .* this is not single batches") as caught:
        run(tiny, windows, config, tmp_path, dict.fromkeys(range(5, 99), "nan"))
    assert "\n" not in str(caught.value)


def test_few_bad_steps_between_checkpoints_may_go_on_for_ever(tiny, windows, settings, tmp_path):
    result, _, _ = run(tiny, windows, settings(on_bad_step="skip", max_bad_steps=1), tmp_path, {1: "nan", 6: "nan", 11: "nan"})
    assert result.bad_steps == 3 and result.steps == 12


def test_stop_names_the_other_ways(tiny, windows, settings, tmp_path):
    with pytest.raises(ValueError, match="set on_bad_step=skip or roll_back where single batches are to blame"):
        run(tiny, windows, settings(), tmp_path, {6: "nan"})


def test_checkpoints_that_are_gone(tiny, windows, settings, tmp_path):
    def delete(line):
        if line.startswith("step  6/"):
            shutil.rmtree(tmp_path / "checkpoints")

    with pytest.raises(ValueError, match=r"no checkpoint is left in .* to roll back to; delete that folder"):
        run(tiny, windows, settings(on_bad_step="roll_back", log_every=1), tmp_path, {6: "nan"}, log=delete)


def test_where_to_roll_back_to_may_not_change_on_resuming(tiny, windows, settings, tmp_path):
    run(tiny, windows, settings(on_bad_step="roll_back"), tmp_path, {})
    with pytest.raises(ValueError, match="save_every was 4 and is 3"):
        run(tiny, windows, settings(on_bad_step="roll_back", save_every=3), tmp_path, {})


@pytest.mark.parametrize("change, message", [
    ({"on_bad_step": "ignore"}, "on_bad_step 'ignore' is unknown; choose one of stop, skip, roll_back"),
    ({"spike_threshold": 0.0}, "spike_threshold 0.0 must be above 0"), ({"spike_window": 3}, "spike_window 3 must be at least 4"),
    ({"max_bad_steps": 0}, "max_bad_steps 0 must be at least 1")])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**change)
