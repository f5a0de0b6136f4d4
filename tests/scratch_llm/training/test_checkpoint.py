"""Checkpoints: whole or absent, checked on reading, the one before as a net."""

from __future__ import annotations

import errno

import pytest
import torch

from scratch_llm.training import checkpoint as module
from scratch_llm.training.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)


def state(step):
    return {"step": step, "w": torch.full((50,), float(step)), "nested": {"betas": [0.9, 0.95]}}


def save(folder, *steps, keep=3):
    return [save_checkpoint(folder, step, state(step), keep) for step in steps][-1]


def test_round_trip_takes_the_newest(tmp_path):
    save(tmp_path, 1, 20, 3)
    loaded = load_checkpoint(tmp_path)
    assert loaded["step"] == 20 and torch.equal(loaded["w"], state(20)["w"]) and loaded["nested"] == {"betas": [0.9, 0.95]}


def test_keeps_the_newest(tmp_path):
    save(tmp_path, *range(1, 6), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000004", "step-00000005"]


def test_no_checkpoint(tmp_path):
    assert load_checkpoint(tmp_path / "absent") is None


def damage_truncate(path):
    data = (path / "state.pt").read_bytes()
    (path / "state.pt").write_bytes(data[: len(data) // 2])


def damage_one_bit(path):
    data = bytearray((path / "state.pt").read_bytes())
    data[len(data) // 2] ^= 4
    (path / "state.pt").write_bytes(data)


def damage_no_manifest(path):
    (path / "manifest.json").unlink()


def damage_manifest(path):
    (path / "manifest.json").write_text('{"step": ')


def damage_no_state(path):
    (path / "state.pt").unlink()


@pytest.mark.parametrize("damage", [damage_truncate, damage_one_bit, damage_no_manifest, damage_manifest, damage_no_state])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(damage, tmp_path):
    damage(save(tmp_path, 1, 2))
    lines = []
    assert load_checkpoint(tmp_path, lines.append)["step"] == 1
    assert len(lines) == 1 and "step-00000002 is corrupt or half-written" in lines[0] and "\n" not in lines[0]


def test_none_readable(tmp_path):
    for path in (save(tmp_path, 1), save(tmp_path, 2)):
        damage_one_bit(path)
    with pytest.raises(ValueError, match=r"none of the 2 checkpoints .* delete that folder"):
        load_checkpoint(tmp_path, lambda line: None)


def test_a_pickle_that_runs_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    path = save_checkpoint(tmp_path, 1, {"step": 1, "evil": Evil()})
    with pytest.raises(ValueError, match="corrupt"):
        read_checkpoint(path)


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".step-00000002.abc.partial").mkdir()
    (tmp_path / ".step-00000002.abc.partial" / "state.pt").write_bytes(b"half")
    assert load_checkpoint(tmp_path)["step"] == 1
    save(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"),
                                   RuntimeError("PytorchStreamWriter failed writing file data/3")])
def test_full_disk(error, tmp_path, monkeypatch):
    save(tmp_path, 1, 2)

    def full(*_):
        raise error

    monkeypatch.setattr(module.torch, "save", full)
    with pytest.raises(OSError, match="older checkpoints are intact: free some disk space") as caught:
        save(tmp_path, 3)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)["step"] == 2
    assert not list(tmp_path.glob(".*"))


def test_a_disk_that_is_really_full(tmp_path):
    """/dev/full fails each write as a full disk does: what torch.save then raises becomes our OSError."""
    import os
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    save(tmp_path, 1)
    real_open = open

    def to_full_device(path, mode="r", *args, **kwargs):
        return real_open("/dev/full" if "w" in mode else path, mode, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open", to_full_device, raising=False)
        with pytest.raises(OSError, match="older checkpoints are intact"):
            save_checkpoint(tmp_path, 2, {"w": torch.zeros(1_000_000)})
    assert load_checkpoint(tmp_path)["step"] == 1
