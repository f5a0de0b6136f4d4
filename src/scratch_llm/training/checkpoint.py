"""Checkpoints that a kill, a full disk or a flipped bit cannot turn into a lost run.

    checkpoints/step-00000100/state.pt        everything the run needs to go on, as torch.save writes it
    checkpoints/step-00000100/manifest.json   step, SHA-256 of state.pt, and facts for people

A checkpoint is written into a temporary folder and renamed, so it exists whole or not at all; the newest
``keep`` stay.  Loading takes the newest whose digest is right.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from scratch_llm.io import atomic_directory, sha256_of

_STATE, _MANIFEST = "state.pt", "manifest.json"


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int = 2, facts: dict | None = None,
                    keep_from: int | None = None) -> Path:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) as the checkpoint of ``step``.

    Older checkpoints beyond the newest ``keep`` are deleted only after the new one stands, but none from step
    ``keep_from`` on.  Where the disk
    is full, OSError says so, and the older checkpoints are as they were.
    """
    folder = Path(folder)
    path = folder / f"step-{step:08d}"
    try:
        remove_leftovers(folder)
        with atomic_directory(path) as temporary:
            with open(temporary / _STATE, "wb") as stream:
                torch.save(state, stream)
                stream.flush()
                os.fsync(stream.fileno())
            manifest = {"step": step, "sha256": sha256_of(temporary / _STATE), **(facts or {})}
            (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    except (OSError, RuntimeError) as error:  # torch.save turns a failed write into RuntimeError
        raise OSError(
            getattr(error, "errno", None) or errno.EIO,
            f"cannot write the checkpoint {path} ({_one_line(error)}); older checkpoints are intact: "
            f"free some disk space and start again to resume",
        ) from error
    for old in list_checkpoints(folder)[:-keep]:
        if keep_from is None or step_of(old) < keep_from:
            shutil.rmtree(old, ignore_errors=True)
    return path


def load_checkpoint(folder: Path, log: Callable[[str], None] = print,
                    map_location: str | torch.device = "cpu",
                    wanted: Callable[[int], bool] = lambda step: True) -> dict[str, Any] | None:
    """The newest readable state of a step that is ``wanted``; None where there is no such checkpoint.

    A corrupt or half-written checkpoint is passed over with a warning that names it.  ValueError where
    there are checkpoints and none can be read.
    """
    paths = [path for path in list_checkpoints(Path(folder)) if wanted(step_of(path))]
    for path in reversed(paths):
        try:
            return read_checkpoint(path, map_location)
        except ValueError as error:
            log(f"warning: {error}; falling back to the one before")
    if paths:
        raise ValueError(f"none of the {len(paths)} checkpoints in {folder} can be read; "
                         f"delete that folder to start from the beginning")
    return None


def read_checkpoint(path: Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The state of one checkpoint; ValueError where its digest or content is wrong."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if sha256_of(path / _STATE) != manifest["sha256"]:
            raise ValueError("its SHA-256 differs from its manifest")
        # weights_only: a checkpoint may come from elsewhere, and unpickling would run its code.
        return torch.load(path / _STATE, map_location=map_location, weights_only=True)
    except Exception as error:
        raise ValueError(f"checkpoint {path} is corrupt or half-written ({_one_line(error)})") from error


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(path for path in Path(folder).glob("step-*") if path.is_dir() and path.name[5:].isdigit())


def step_of(path: Path) -> int:
    """The step in a checkpoint folder's name."""
    return int(path.name.removeprefix("step-"))


def remove_leftovers(folder: Path) -> None:
    """Delete temporary folders that a killed run left behind."""
    for path in Path(folder).glob(".step-*"):
        with contextlib.suppress(OSError):
            shutil.rmtree(path)


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
