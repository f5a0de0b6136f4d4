"""Two processes give the losses of one; what one leaves another number goes on with; a lost process ends the others."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from support.ranks_work import run_job
from torch.nn.parallel import DistributedDataParallel

from scratch_llm.training import distributed, train
from scratch_llm.training.checkpoint import list_checkpoints, read_checkpoint
from scratch_llm.training.distributed import join_ranks
from scratch_llm.training.launch import LaunchError, launch
from scratch_llm.training.metrics import read_records
from scratch_llm.training.ranks import ALONE, Ranks

from .conftest import write_text

pytestmark = pytest.mark.slow

WORKER = Path(__file__).resolve().parents[2] / "support" / "ranks_work.py"
FIELDS = ("loss", "learning_rate", "grad_norm", "valid_loss", "ema_valid_loss")
JOBS = {
    "llama": {"model": "llama"},
    "gpt2": {"model": "gpt2"},
    "qwen3_moe": {"model": "qwen3_moe"},
    "deepseek_v3": {"model": "deepseek_v3"},
    "accumulated": {"model": "llama", "values": {"micro_batch_size": 2}},
    "uneven": {"model": "gpt2", "windows": "uneven", "values": {"micro_batch_size": 2}},
    "balance-loss": {"model": "qwen3_moe", "shape": {"balance_loss": True}, "values": {"micro_batch_size": 4}},
    "lora": {"model": "llama", "lora": True},
    "checkpointed": {"model": "deepseek_v3", "checkpointing": True},
    "average": {"model": "llama", "values": {"ema_decay": 0.9, "z_loss": 1e-3}},
    "skip": {"model": "llama", "windows": "faulty", "values": {"on_bad_step": "skip"}},
    "roll_back": {"model": "gpt2", "windows": "faulty", "values": {"on_bad_step": "roll_back", "ema_decay": 0.9}},
    "muon": {"model": "llama", "values": {"optimizer": "muon"}},
    "adafactor": {"model": "llama", "values": {"optimizer": "adafactor"}},
}


def environment(**more: str) -> dict[str, str]:
    support = str(WORKER.parents[1])
    path = os.pathsep.join([support, os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def run_ranks(folder: Path, plan: dict, n: int = 2) -> list[list[dict]]:
    """Each rank's results of a plan's jobs."""
    path = folder / "plan.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    launch([sys.executable, str(WORKER), str(path)], n, variables=environment())
    return [json.loads(path.with_suffix(f".rank{rank}.json").read_text(encoding="utf-8")) for rank in range(n)]


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    for seed, name in enumerate(("train", "valid")):
        write_text(folder / name, seed)
    return folder


@pytest.fixture(scope="module")
def alone(texts):
    """What one process gives for a job of JOBS: folder and facts."""

    @functools.cache
    def run(name: str) -> tuple[Path, dict]:
        folder = texts / f"alone-{name}"
        return folder, run_job(JOBS[name] | {"folder": str(folder)})

    return run


@pytest.fixture(scope="module", params=("ddp", "fsdp"))
def together(request, texts):
    """The same of two processes, for all jobs: name -> (folder, facts of each rank)."""
    folders = {name: texts / f"{request.param}-{name}" for name in JOBS}
    results = run_ranks(texts, {"strategy": request.param, "jobs": [JOBS[name] | {"folder": str(folders[name])} for name in JOBS]})
    return {name: (folders[name], [ranks[i] for ranks in results]) for i, name in enumerate(JOBS)}


def tolerances(name: str) -> tuple[float, float]:
    """Of losses (relative) and of weights.  Muon iterates in bfloat16: noise of 1e-7 may move its last digit, of 4e-3."""
    return (1e-4, 2e-3) if name == "muon" else (1e-6, 2e-4)


def assert_same_losses(folder: Path, expected: Path, tolerance: float = 1e-6) -> None:
    records, others = read_records(folder / "metrics.jsonl"), read_records(expected / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 13))
    for record, other in zip(records, others, strict=True):
        assert record.keys() == other.keys()
        for field in set(FIELDS) & record.keys():
            assert record[field] == pytest.approx(other[field], rel=tolerance * (10 if field == "grad_norm" else 1)), (record, other)


def assert_same_weights(folder: Path, expected: Path, rank: int = 0, atol: float = 2e-4) -> None:
    weights, others = (torch.load(path / f"weights-{n}.pt") for path, n in ((folder, rank), (expected, 0)))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        # Adam divides by the gradient's size, so the noise of a tiny gradient moves a weight as well: by a fiftieth of a step.
        torch.testing.assert_close(weight, others[name], rtol=1e-4, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", JOBS)
def test_two_processes_give_the_losses_of_one(name, together, alone):
    folder, facts = together[name]
    expected, fact = alone(name)
    tolerance, atol = tolerances(name)
    assert_same_losses(folder, expected, tolerance)
    for rank in (0, 1):  # the model given is whole again, on every rank, and of its own class
        assert_same_weights(folder, expected, rank, atol)
        assert facts[rank]["class"] == fact["class"]


@pytest.mark.parametrize("name, left_out, where_to", [("skip", [9, 9], None), ("roll_back", [8, 9], 8)])
def test_a_batch_that_is_bad_for_one_is_left_out_by_all(name, left_out, where_to, together, alone):
    """Losses and weights are those of one process, which the first test of this file asserts; here that it did happen."""
    folder, facts = together[name]
    for where in (folder, alone(name)[0]):
        [told] = [record["bad_steps"] for record in read_records(where / "metrics.jsonl") if "bad_steps" in record]
        assert told[0]["batches_left_out"] == left_out
    if where_to is not None:
        assert any(f"back to step {where_to}, batches 8 to 9 are left out" in line for line in facts[0]["lines"])


def test_only_the_first_prints_writes_and_generates(together, alone):
    folder, (first, second) = together["gpt2"]
    assert sum(line.startswith("step ") for line in first["lines"]) == 12 and second["lines"] == []
    assert [call[:2] for call in first["calls"]] == [[False, 4], [False, 8], [False, 12]] and second["calls"] == []
    expected = alone("gpt2")[1]["calls"]
    assert [call[2] for call in first["calls"]] == pytest.approx([call[2] for call in expected], rel=1e-4)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "metrics.jsonl", "weights-0.pt", "weights-1.pt"]


def test_the_experts_biases_are_those_of_all_visits(together, alone):
    """DeepSeek's router counts over the whole batch: half of the visits would move other biases."""
    folder, expected = together["deepseek_v3"][0], alone("deepseek_v3")[0]
    for rank in (0, 1):
        weights, others = torch.load(folder / f"weights-{rank}.pt"), torch.load(expected / "weights-0.pt")
        biases = [name for name in weights if name.endswith("router.bias")]
        assert biases
        for name in biases:
            torch.testing.assert_close(weights[name], others[name], rtol=0, atol=1e-7)


def test_a_checkpoint_is_what_one_process_writes(together, alone):
    state, other = (read_checkpoint(list_checkpoints(folder / "checkpoints")[-1])
                    for folder in (together["llama"][0], alone("llama")[0]))
    assert state.keys() == other.keys() and state["identity"] == other["identity"] and state["step"] == 12
    for part in ("model",):
        assert {k: (v.shape, type(v)) for k, v in state[part].items()} == {k: (v.shape, type(v)) for k, v in other[part].items()}
    for number, values in other["optimizer"]["state"].items():
        for key, value in values.items():
            torch.testing.assert_close(state["optimizer"]["state"][number][key], value, rtol=1e-3, atol=1e-6)


def test_all_reduce_by_hand(texts, alone):
    """1x + 2x + 3x = 6x on each of three; a ring sends 2 (n - 1) / n of the (padded) tensor, the centre everything."""
    for rank, [found] in enumerate(run_ranks(texts, {"strategy": "hand", "jobs": [{"sums": True}]}, 3)):
        for way, size, values, sent in found:
            assert values == [6.0 * (place + 1) for place in range(size)]
            padded = -(-size // 3) * 3
            assert sent == (4 * (4 * padded // 3) if way == "ring_all_reduce" else 4 * size * (2 if rank == 0 else 1))
    run_ranks(texts, {"strategy": "hand", "jobs": [JOBS["uneven"] | {"folder": str(texts / "hand-uneven")}]})
    assert_same_losses(texts / "hand-uneven", alone("uneven")[0])


@pytest.mark.parametrize("name, before, after", [
    ("llama", ("ddp", 2), None), ("llama", None, ("fsdp", 2)), ("llama", ("fsdp", 2), ("ddp", 4)),
    ("muon", None, ("fsdp", 2)), ("adafactor", ("fsdp", 2), None), ("adafactor", None, ("fsdp", 2)),
])  # fmt: skip
def test_another_number_of_processes_goes_on(name, before, after, texts, alone, tmp_path):
    """Cut off after step 5 of 12 by Ctrl-C on the first rank: all save and stop at the same step."""
    for seed, part in enumerate(("train", "valid")):
        write_text(tmp_path / part, seed)
    job = JOBS[name] | {"folder": str(tmp_path / "run")}

    def run(where, job):
        if where is None:
            return [run_job(job)]
        strategy, n = where
        return [results[0] for results in run_ranks(tmp_path, {"strategy": strategy, "jobs": [job]}, n)]

    assert all(facts["interrupted"] for facts in run(before, job | {"stop_at": 5}))
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000004", "step-00000005"]
    facts = run(after, job)
    assert "resuming after step 5" in facts[0]["lines"]
    assert_same_losses(tmp_path / "run", alone(name)[0], tolerances(name)[0])
    assert_same_weights(tmp_path / "run", alone(name)[0], atol=tolerances(name)[1])


# -- trouble ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy, how, timeout, message", [
    ("ddp", "kill", 60.0, "process 1 of 2 was killed (SIGKILL); the others were stopped"),
    ("fsdp", "kill", 60.0, "process 1 of 2 was killed (SIGKILL); the others were stopped"),
    ("ddp", "fail", 60.0, "process 1 of 2 failed (exit code 1); the others were stopped: the token file is cut off at 17 bytes"),
    ("fsdp", "hang", 4.0, "process 0 of 2 failed (exit code 1); the others were stopped: process 0 of 2 stops: another "
                          "process ended or does not answer ("),
], ids=["ddp-killed", "fsdp-killed", "ddp-fails", "fsdp-hangs"])  # fmt: skip
def test_a_lost_process_ends_the_others_within_seconds(strategy, how, timeout, message, tmp_path):
    for name in ("train", "valid"):
        write_text(tmp_path / name)
    job = JOBS["llama"] | {"folder": str(tmp_path / "run"), "how": how}
    with pytest.raises(LaunchError) as caught:
        run_ranks(tmp_path, {"strategy": strategy, "jobs": [job], "timeout": timeout})
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert time.time() - (tmp_path / "death").stat().st_mtime < 50  # a few on a machine that is not busy, and less than the timeout
    [checkpoint] = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoint.name == "step-00000004" and read_checkpoint(checkpoint)["step"] == 4
    assert not [line for line in processes() if str(tmp_path) in line]


def processes() -> list[str]:
    """Command lines of what runs on this machine."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()


def test_torchrun_starts_them_too_and_a_survivor_names_the_error(tmp_path):
    for name in ("train", "valid"):
        write_text(tmp_path / name)
    job = JOBS["llama"] | {"folder": str(tmp_path / "run"), "how": "fail"}
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"strategy": "ddp", "jobs": [job]}), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--log-dir", str(tmp_path / "logs"),
         "--redirects", "3", str(WORKER), str(plan)],
        env={**os.environ, **environment()}, capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode != 0
    errors = sorted((tmp_path / "logs").glob("**/stderr.log"), key=lambda path: path.parent.name)
    first, second = (path.read_text(encoding="utf-8").strip().splitlines()[-1].split(": ", 1)[1] for path in errors)
    assert second == "error: the token file is cut off at 17 bytes"
    assert first == (f"error: process 0 of 2 stops: process 1 failed: the token file is cut off at 17 bytes; what was saved is in "
                     f"{tmp_path / 'run' / 'checkpoints'}: start again to go on from there")


def test_who_waits_in_vain_is_told(monkeypatch):
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 9}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(OSError, match=r"not all of 2 processes met within 2 s at 127.0.0.1:9 \("), join_ranks(timeout_seconds=2):
        pass


def test_ended_with_the_launcher(tmp_path):
    """Nobody is left behind when the starting process is killed."""
    code = ("import sys; from scratch_llm.training.launch import launch\n"
            f"launch([sys.executable, {str(WORKER)!r}, {str(tmp_path / 'plan.json')!r}], 2)")
    for name in ("train", "valid"):
        write_text(tmp_path / name)
    job = JOBS["llama"] | {"folder": str(tmp_path / "run"), "values": {"steps": 1_000_000, "keep": 1}}
    (tmp_path / "plan.json").write_text(json.dumps({"strategy": "ddp", "jobs": [job]}), encoding="utf-8")
    starter = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **environment()}, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list((tmp_path / "run").glob("checkpoints/step-*")) and time.monotonic() < end:
        time.sleep(0.1)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    end = time.monotonic() + 20
    while (left := [line for line in processes() if str(tmp_path) in line]) and time.monotonic() < end:
        time.sleep(0.2)
    assert left == []


# -- what needs no second process ---------------------------------------------------------------------


def test_the_reducer_is_gone_before_the_group(tiny, windows, settings, tmp_path, monkeypatch):
    """Else it destroys the group while it holds Python's lock, and gloo's thread may wait for that for ever."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    left, destroy, modules = [], dist.destroy_process_group, []

    class Seen(DistributedDataParallel):
        def __init__(self, *values, **options):
            super().__init__(*values, **options)
            modules.append(weakref.ref(self.reducer))

    monkeypatch.setattr(distributed, "DistributedDataParallel", Seen)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: (left.extend(ref() for ref in modules), destroy()))
    with join_ranks("ddp") as ranks:
        train(tiny(), *windows, settings(steps=2), tmp_path, log=lambda line: None, ranks=ranks)
    assert len(modules) == 1 and left == [None] and not dist.is_initialized()


def test_a_batch_that_cannot_be_shared_is_refused(tiny, windows, settings, tmp_path):
    class Three(Ranks):
        size = 3

    with pytest.raises(ValueError, match="batch_size 8 cannot be shared among 3 processes; choose a multiple of 3, or"):
        Three().check(settings())


def test_batches_are_dealt_out_once_each_and_equally_many(monkeypatch):
    for size in (1, 2, 3, 5):
        dealt = []
        for rank in range(size):
            ranks = Ranks()
            ranks.rank, ranks.size = rank, size
            dealt.append(ranks.deal(range(10, 14)))
        assert len({len(share) for share in dealt}) == 1
        assert sorted(number for share in dealt for number, counts in share if counts) == [10, 11, 12, 13]


def test_one_process_where_nobody_started_more(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with join_ranks("fsdp") as ranks:
        assert ranks is ALONE


def test_bad_input():
    with pytest.raises(ValueError, match="strategy 'zero' is unknown; choose one of ddp, fsdp, hand"), join_ranks("zero"):
        pass
    with pytest.raises(ValueError, match="the number of processes is 0: it must be at least 1"):
        launch(["true"], 0)


def test_a_command_that_fails_at_once():
    with pytest.raises(LaunchError, match=r"^process \d of 2 failed \(exit code 3\); the others were stopped: no such thing$"):
        launch([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"], 2)
    with pytest.raises(LaunchError, match=r"process 0 of 1 was killed \(SIGKILL\)$"):
        launch([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], 1)
