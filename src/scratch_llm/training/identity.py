"""What makes two runs the same run: a resumed run must not quietly become another one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from scratch_llm.data import Windows
from scratch_llm.training.config import TrainingConfig
from scratch_llm.training.frozen import check_learns, frozen_identity
from scratch_llm.training.schedule import decay_steps


def identity_of(model: nn.Module, windows: Windows, config: TrainingConfig, dtype: torch.dtype, compiled: bool) -> dict:
    """Everything that decides the result, as flat plain values."""
    shape = getattr(model, "config", None)
    shape = dataclasses.asdict(shape) if dataclasses.is_dataclass(shape) else {}
    text = getattr(windows, "token_file", windows)
    return {
        **{f"model.{name}": _plain(value) for name, value in shape.items()},
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        **{name: _plain(value) for name, value in config.identity().items()},
        "precision": str(dtype).removeprefix("torch."),
        "compile": compiled,
        "device": next(model.parameters()).device.type,
        "context_length": windows.context_length,
        "packing": getattr(windows, "packing", None),
        "data seed": getattr(windows, "seed", None),
        "training text (SHA-256)": getattr(text, "sha256", None),
        **getattr(model, "run_identity", dict)(),
        **frozen_identity(model),
    }


def check_same_run(saved: dict, now: dict, checkpoints: Path, step: int) -> None:
    """ValueError that names each setting in which a checkpoint of ``step`` and this run differ.

    A run by "wsd" may be given another number of steps as long as it is on its plateau: what it did until then would have
    been the same.
    """
    # A checkpoint written before a setting existed ran with what is its default today.
    defaults = {field.name: field.default for field in dataclasses.fields(TrainingConfig)}
    names = [name for name in (saved | now) if saved.get(name, defaults.get(name)) != now.get(name)]
    if saved.get("schedule") == now.get("schedule") == "wsd" and step <= min(_plateau_end(saved), _plateau_end(now)):
        names = [name for name in names if name not in ("steps", "decay_share")]
    if names:
        changes = ", ".join(f"{name} was {_short(saved.get(name))} and is {_short(now.get(name))}" for name in names)
        raise ValueError(f"cannot resume from {checkpoints}: {changes}; "
                         f"set it back, or delete that folder (resume=False) to start over")


def _plateau_end(identity: dict) -> int:
    """The step after which a run by "wsd" decays."""
    config = SimpleNamespace(**{name: identity[name] for name in ("steps", "warmup_steps", "decay_share")})
    return config.steps - decay_steps(config)


def start_over(folder: Path) -> None:
    """Delete the checkpoints and metrics of an earlier run."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / "metrics.jsonl").unlink(missing_ok=True)


def check_fits(model: nn.Module, train_windows: Windows, valid_windows: Windows, config: TrainingConfig,
               token_bytes: np.ndarray | None) -> None:
    """ValueError where model, windows and settings do not belong together."""
    check_learns(model)
    if config.z_loss and not hasattr(model, "z_loss"):
        raise ValueError(f"z_loss {config.z_loss} belongs to language models; {type(model).__name__} has none: set z_loss=0")
    if train_windows.batch_size != config.batch_size:
        raise ValueError(f"the training windows have batch_size {train_windows.batch_size} and the config "
                         f"{config.batch_size}; give both the same")
    shape = getattr(model, "config", None)
    for name, windows in (("training", train_windows), ("validation", valid_windows)):
        limit = getattr(shape, "context_length", None)
        if limit is not None and windows.context_length > limit:
            raise ValueError(f"the {name} windows have context_length {windows.context_length}, more than the model's "
                             f"{limit}; cut the windows shorter")
        vocab_size = getattr(getattr(windows, "token_file", None), "vocab_size", None)
        model_size = getattr(shape, "vocab_size", None)
        if vocab_size is not None and model_size is not None and vocab_size > model_size:
            raise ValueError(f"the {name} text was written with vocab_size {vocab_size}, the model has {model_size}; "
                             f"build the model with the tokenizer's vocab_size")
        if vocab_size is not None and token_bytes is not None and len(token_bytes) < vocab_size:
            raise ValueError(f"token_bytes has {len(token_bytes)} entries for vocab_size {vocab_size}; "
                             f"take them from the tokenizer that encoded the text")


def _plain(value):
    """As it will read back from a checkpoint: tuples become lists."""
    return list(value) if isinstance(value, tuple) else value


def _short(value) -> str:
    text = str(value)
    return text[:12] + "…" if len(text) > 40 else text
