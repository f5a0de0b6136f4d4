"""A run that is killed anywhere and resumed gives the bits of an unbroken one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from scratch_llm.training import checkpoint as checkpoint_module
from scratch_llm.training import train
from scratch_llm.training.metrics import read_records

TIMES = ("tokens_per_second", "mfu", "seconds")  # the only fields in which two runs may differ
quiet = {"log": lambda line: None}
MODES = {
    "plain": ({}, {}),
    "accumulation and dropout": ({"dropout": 0.1}, {"micro_batch_size": 2}),
    "bfloat16": ({}, {"precision": "bfloat16"}),
    "muon": ({}, {"optimizer": "muon"}),
    "adafactor": ({}, {"optimizer": "adafactor", "schedule": "wsd"}),
}


def computed(metrics_path):
    return [{k: v for k, v in record.items() if k not in TIMES} for record in read_records(metrics_path)]


def assert_same_run(result, model, unbroken_result, unbroken_model):
    assert computed(result.metrics_path) == computed(unbroken_result.metrics_path)
    for a, b in zip(model.state_dict().values(), unbroken_model.state_dict().values()):
        assert torch.equal(a, b)


KILLED = """
    import os, signal, sys
    import torch
    from scratch_llm.data import TokenFile, Windows
    from scratch_llm.models import LlamaConfig, build_model
    from scratch_llm.training import TrainingConfig, train, checkpoint, loop
    folder, where, step, shape, values = sys.argv[1], sys.argv[2], int(sys.argv[3]), eval(sys.argv[4]), eval(sys.argv[5])
    torch.set_num_threads(int(sys.argv[6]))
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    if where == "after the step":  # its line is printed, its record not yet written
        log = lambda line: kill() if line.startswith("step") and line.split("/")[0].split()[1] == str(step) else None
    else:
        log = lambda line: None
        real = torch.save
        def save(state, stream):
            real(state, stream)
            if state["step"] == step:
                stream.flush()
                kill()
        checkpoint.torch.save = save
    torch.manual_seed(0)
    model = build_model(LlamaConfig(**shape))
    windows = [Windows(TokenFile(f"{folder}/{name}"), 16, 8, packing="documents") for name in ("train", "valid")]
    train(model, *windows, TrainingConfig(**values), f"{folder}/killed", log=log)
"""


@pytest.mark.parametrize("mode, where, step", [
    ("plain", "after the step", 3),  # before the first checkpoint
    ("accumulation and dropout", "after the step", 7),
    ("bfloat16", "while saving", 8),
    ("muon", "after the step", 6),
    ("adafactor", "while saving", 4),
])
def test_killed_and_resumed(mode, where, step, tiny, windows, settings, tmp_path):
    shape, changes = MODES[mode]
    config = settings(log_every=1, **changes)
    unbroken = tiny(**shape)
    expected = train(unbroken, *windows, config, tmp_path / "unbroken", **quiet)

    full_shape = {"vocab_size": 64, "context_length": 16, "n_layers": 1, "n_heads": 2, "d_model": 16, **shape}
    values = {"steps": 12, "batch_size": 8, "precision": "float32", "compile": "off", "learning_rate": 1e-2,
              "warmup_steps": 2, "eval_every": 6, "save_every": 4, "eval_batches": 2, "log_every": 1, **changes}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), where, str(step), repr(full_shape),
                           repr(values), str(torch.get_num_threads())], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(read_records(tmp_path / "killed" / "metrics.jsonl")) < 12

    resumed = tiny(**shape)
    lines = []
    result = train(resumed, *windows, config, tmp_path / "killed", log=lines.append)
    before = (step - 1) // 4 * 4
    assert (f"resuming after step {before}" in lines) == (before > 0)
    assert_same_run(result, resumed, expected, unbroken)
    assert [record["step"] for record in read_records(result.metrics_path)] == list(range(1, 13))
    assert not list((tmp_path / "killed" / "checkpoints").glob(".*"))


@pytest.mark.parametrize("cut", range(1, 12, 3))
def test_stopped_at_any_step_and_resumed(cut, tiny, windows, settings, tmp_path):
    class Stop(Exception):
        pass

    def stop(line):
        if line.startswith(f"step {cut:>2}/"):
            raise Stop

    unbroken, model = tiny(), tiny()
    expected = train(unbroken, *windows, settings(), tmp_path / "unbroken", **quiet)
    with pytest.raises(Stop):
        train(tiny(), *windows, settings(log_every=1), tmp_path / "run", log=stop)
    result = train(model, *windows, settings(), tmp_path / "run", **quiet)
    assert_same_run(result, model, expected, unbroken)


def test_control_c_saves_the_step_at_work(tiny, windows, settings, tmp_path):
    unbroken, model, lines = tiny(), tiny(), []
    expected = train(unbroken, *windows, settings(), tmp_path / "unbroken", **quiet)

    def press(line):
        lines.append(line)
        if line.startswith("step  5/"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), *windows, settings(log_every=1), tmp_path / "run", log=press)
    assert "interrupted: step 5 is saved" in lines[-1]
    assert (tmp_path / "run" / "checkpoints" / "step-00000005").is_dir()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    result = train(model, *windows, settings(), tmp_path / "run", **quiet)
    assert_same_run(result, model, expected, unbroken)


def test_a_corrupt_newest_checkpoint_costs_only_time(tiny, windows, settings, tmp_path):
    unbroken, model, lines = tiny(), tiny(), []
    expected = train(unbroken, *windows, settings(), tmp_path / "run", **quiet)
    records = computed(expected.metrics_path)
    newest = tmp_path / "run" / "checkpoints" / "step-00000012" / "state.pt"
    newest.write_bytes(newest.read_bytes()[:-10])
    result = train(model, *windows, settings(), tmp_path / "run", log=lines.append)
    assert any("step-00000012 is corrupt" in line for line in lines) and "resuming after step 8" in lines
    assert computed(result.metrics_path) == records
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), unbroken.parameters()))


def test_a_finished_run_is_not_run_again(tiny, windows, settings, tmp_path):
    first = train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    content = first.metrics_path.read_text()
    model = tiny()
    again = train(model, *windows, settings(), tmp_path / "run", **quiet)
    assert again.metrics_path.read_text() == content
    assert (again.loss, again.valid_loss) == (first.loss, first.valid_loss)


@pytest.mark.parametrize("changes, message", [
    ({"learning_rate": 2e-2, "min_learning_rate": 1e-3}, "learning_rate was 0.01 and is 0.02"),
    ({"steps": 20, "warmup_steps": 2}, "steps was 12 and is 20"),
    ({"precision": "bfloat16"}, "precision was float32 and is bfloat16"),
    ({"micro_batch_size": 4}, "micro_batch_size was 8 and is 4"),
    ({"seed": 1}, "seed was 0 and is 1"),
])
def test_other_settings_are_refused_by_name(changes, message, tiny, windows, settings, tmp_path):
    train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    with pytest.raises(ValueError, match=f"cannot resume .*: {message}; set it back, or delete") as caught:
        train(tiny(), *windows, settings(**changes), tmp_path / "run", **quiet)
    assert "\n" not in str(caught.value)


def test_another_model_or_text_is_refused(tiny, windows, settings, tmp_path):
    train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    with pytest.raises(ValueError, match=r"model.n_layers was 1 and is 2"):
        train(tiny(n_layers=2), *windows, settings(), tmp_path / "run", **quiet)
    with pytest.raises(ValueError, match=r"training text \(SHA-256\) was"):
        train(tiny(), windows[1], windows[0], settings(), tmp_path / "run", **quiet)


def test_settings_that_do_not_change_the_result_may_change(tiny, windows, settings, tmp_path):
    train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    train(tiny(), *windows, settings(log_every=3, keep=5, save_every=7, eval_every=12), tmp_path / "run", **quiet)


def test_resume_false_starts_over(tiny, windows, settings, tmp_path):
    train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    result = train(tiny(), *windows, settings(steps=4), tmp_path / "run", resume=False, **quiet)
    assert [record["step"] for record in read_records(result.metrics_path)] == [1, 2, 3, 4]
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_line_cut_by_a_kill_is_forgotten(tiny, windows, settings, tmp_path):
    result = train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    whole = computed(result.metrics_path)
    lines = result.metrics_path.read_text().splitlines(keepends=True)
    extra = json.dumps({"step": 13, "loss": 0.0}) + "\n"
    result.metrics_path.write_text("".join(lines) + extra + '{"step": 14, "lo')
    train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    assert computed(result.metrics_path) == whole


def test_full_disk_while_checkpointing(tiny, windows, settings, tmp_path, monkeypatch):
    real, unbroken, model = torch.save, tiny(), tiny()
    expected = train(unbroken, *windows, settings(), tmp_path / "unbroken", **quiet)

    def full(state, stream):
        if state["step"] == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(state, stream)

    monkeypatch.setattr(checkpoint_module.torch, "save", full)
    with pytest.raises(OSError, match=r"step-00000008 .*No space left on device.*older checkpoints are intact"):
        train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    monkeypatch.undo()
    result = train(model, *windows, settings(), tmp_path / "run", **quiet)
    assert_same_run(result, model, expected, unbroken)


def test_a_checkpoint_from_before_a_setting_existed_goes_on(tiny, windows, settings, tmp_path, monkeypatch):
    """Old checkpoints do not name the schedule: they ran with what is the default."""
    real = torch.save

    def save_old(state, stream):
        real(state | {"identity": {k: v for k, v in state["identity"].items() if k not in ("schedule", "optimizer")}}, stream)

    monkeypatch.setattr(checkpoint_module.torch, "save", save_old)
    train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    monkeypatch.undo()
    train(tiny(), *windows, settings(), tmp_path / "run", **quiet)
    with pytest.raises(ValueError, match="schedule was None and is wsd"):
        train(tiny(), *windows, settings(schedule="wsd"), tmp_path / "run", **quiet)


def test_wsd_is_prolonged_from_its_plateau_with_the_bits_of_the_longer_run(tiny, windows, settings, tmp_path):
    """Stopped at step 8 of 12, two of which decay, and taken up as a run of 20."""
    short = settings(schedule="wsd", decay_share=0.2, log_every=1)
    longer = settings(schedule="wsd", decay_share=0.3, steps=20)
    unbroken, model = tiny(), tiny()
    expected = train(unbroken, *windows, longer, tmp_path / "unbroken", **quiet)

    class Stop(Exception):
        pass

    def stop(line):
        if line.startswith("step  9/"):
            raise Stop

    with pytest.raises(Stop):
        train(tiny(), *windows, short, tmp_path / "run", log=stop)
    result = train(model, *windows, longer, tmp_path / "run", **quiet)
    rates = [[record["learning_rate"] for record in read_records(one.metrics_path)] for one in (result, expected)]
    assert rates[0] == rates[1] and len(rates[0]) == 20
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), unbroken.parameters()))


def test_wsd_that_has_begun_to_decay_is_not_prolonged_nor_is_a_cosine(tiny, windows, settings, tmp_path):
    train(tiny(), *windows, settings(schedule="wsd"), tmp_path / "wsd", **quiet)
    with pytest.raises(ValueError, match="steps was 12 and is 20"):
        train(tiny(), *windows, settings(schedule="wsd", steps=20), tmp_path / "wsd", **quiet)
    with pytest.raises(ValueError, match="warmup_steps was 2 and is 3"):
        train(tiny(), *windows, settings(schedule="wsd", warmup_steps=3), tmp_path / "wsd", **quiet)
