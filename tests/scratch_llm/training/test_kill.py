"""kill -9, ten times at random moments: the run that is started again and again ends with the bits of an unbroken one."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time

import pytest
import torch
from support.killed_run import run, run_and_tell

from scratch_llm.training.checkpoint import list_checkpoints, load_checkpoint
from scratch_llm.training.metrics import read_records

KILLS = 10
TIMES = ("tokens_per_second", "mfu", "seconds")


def kill_after(context, folder, n_steps: int, delay: float) -> bool:
    """Start the run, kill it ``delay`` seconds after it has told of ``n_steps`` steps; whether it was still alive."""
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=run_and_tell, args=(folder, folder / "killed", writer, torch.get_num_threads()))
    process.start()
    writer.close()
    try:
        while n_steps > 0:
            line = reader.recv()
            n_steps -= line.startswith("step ") and "/" in line
        time.sleep(delay)
    except EOFError:  # it ended by itself
        pass
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def computed(path):
    return [{k: v for k, v in record.items() if k not in TIMES} for record in read_records(path)]


@pytest.mark.slow
def test_killed_ten_times_at_random(tmp_path, windows):
    """``windows`` has written the texts; the seed of the moments changes with each run of the test, and is shown."""
    unbroken, expected = run(tmp_path, tmp_path / "unbroken")
    assert expected.bad_steps >= 1  # the spikes are met, so that rolling back is under test too

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scratch_llm.training"])  # torch is imported once, not ten times
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    kills = [kill_after(context, tmp_path, moments.randint(3, 6), moments.random() * 0.02) for _ in range(KILLS)]
    assert sum(kills) == KILLS, f"seed {seed}: only {sum(kills)} of {KILLS} were alive to be killed"
    assert list_checkpoints(tmp_path / "killed" / "checkpoints"), f"seed {seed}: no progress"

    model, result = run(tmp_path, tmp_path / "killed")
    assert computed(result.metrics_path) == computed(expected.metrics_path), f"seed {seed}"
    for (name, a), b in zip(unbroken.state_dict().items(), model.state_dict().values()):
        assert torch.equal(a, b), f"seed {seed}: {name}"
    last = [load_checkpoint(tmp_path / name / "checkpoints") for name in ("unbroken", "killed")]
    for name, value in last[0]["average"].items():
        assert torch.equal(value, last[1]["average"][name]), f"seed {seed}: average of {name}"
    assert last[0]["bad_steps"] == last[1]["bad_steps"]
