"""Three ways to load a model, and what each costs in memory.  ``weights.load_model`` is the third, for all folders.

The weights of N bytes must end up in memory once.  How high does memory climb on the way?

1. ``load_whole_then_copy``: what one writes first.  The model is built with random weights (N), the file is read whole
   (N), the parts are joined (about N more), then everything is copied into the model.
2. ``load_whole_onto_meta``: the model is built on the meta device, shapes without memory, and takes over the tensors
   that were read instead of copying them.  But the whole file and the joined matrices still exist together.
3. ``load_piece_by_piece``: each tensor is made once in its final form and filled from a memory map, four megabytes at a
   time; what is mapped is let go at once.

>>> {way: measure_peak(way, folder) for way in WAYS}    # doctest: +SKIP
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scratch_llm.process_memory import peak_resident_bytes, resident_bytes
from scratch_llm.weights.huggingface import load_model, read_config
from scratch_llm.weights.rules import from_huggingface
from scratch_llm.weights.safetensors_file import SafetensorsFile
from scratch_llm.weights.shards import WEIGHTS


def load_whole_then_copy(folder: str | Path) -> Any:
    """Random weights, overwritten by a copy of the file's.  Peak: about three times the model."""
    kind, config = _architecture(folder)
    model = kind(config)
    theirs = _read_whole(folder)
    ours = from_huggingface(kind.weight_rules(config), theirs)
    model.load_state_dict(ours)
    return model.eval()


def load_whole_onto_meta(folder: str | Path) -> Any:
    """Shapes without memory, which take over the tensors read.  Peak: the file and what had to be joined."""
    kind, config = _architecture(folder)
    with torch.device("meta"):
        model = kind(config)
    theirs = _read_whole(folder)
    ours = from_huggingface(kind.weight_rules(config), theirs)
    model.load_state_dict(ours, assign=True)
    model.init_buffers()  # computed, not saved: on the meta device they had no values
    return model.eval()


def load_piece_by_piece(folder: str | Path) -> Any:
    """Each tensor made once and filled from small memory maps.  Peak: the model."""
    kind, config = _architecture(folder)
    with torch.device("meta"):
        model = kind(config)
    file, shapes, ours = SafetensorsFile(Path(folder) / WEIGHTS), model.state_dict(), {}
    for rule in kind.weight_rules(config):
        ours[rule.ours] = torch.empty(shapes[rule.ours].shape, dtype=file.tensors[rule.theirs[0]].dtype)
        for number, name in enumerate(rule.theirs):
            for first, rows in file.pieces(name):
                rule.fill(ours[rule.ours], number, first, rows)
    model.load_state_dict(ours, assign=True)
    model.init_buffers()
    return model.eval()


WAYS = {
    "whole-then-copy": load_whole_then_copy,
    "whole-onto-meta": load_whole_onto_meta,
    "piece-by-piece": load_piece_by_piece,
    "load_model": load_model,
}
"""By name, for ``measure_peak``."""


def measure_peak(way: str, folder: str | Path) -> int:
    """Bytes by which the resident memory of a fresh process rises, at its highest, while it loads a folder.

    Linux only (see ``scratch_llm.process_memory``).  Pages of mapped files count as well, as long as they are mapped.

    Raises:
        ValueError: an unknown way.
        OSError: no /proc, or the child failed; its error output is in the message.
    """
    if way not in WAYS:
        raise ValueError(f"way {way!r} is unknown: use one of {', '.join(WAYS)}")
    resident_bytes()  # refuses where nothing can be measured
    # A fresh process: memory that an earlier load freed would be used again and hide the next one's need.
    code = "import sys; from scratch_llm.weights import loading_lesson; loading_lesson.report_peak(*sys.argv[1:])"
    child = subprocess.run([sys.executable, "-c", code, way, str(folder)], capture_output=True, text=True)
    if child.returncode:
        raise OSError(f"loading {folder} by {way} failed: {child.stderr.strip().splitlines()[-1]}")
    return int(child.stdout)


def report_peak(way: str, folder: str) -> None:
    """What the child of ``measure_peak`` does: load, and print by how much memory rose."""
    import scratch_llm.models  # noqa: F401  (code is not part of the measurement)

    torch.set_num_threads(1)
    before = resident_bytes()
    model = WAYS[way](folder)
    print(peak_resident_bytes() - before)
    del model


def _architecture(folder: str | Path) -> tuple[Any, Any]:
    """The class and the configuration that ``config.json`` asks for."""
    from scratch_llm.models.registry import model_class

    values = read_config(folder)
    kind = model_class(values["model_type"])
    return kind, kind.config_from_huggingface(values)


def _read_whole(folder: str | Path) -> dict[str, Tensor]:
    file = SafetensorsFile(Path(folder) / WEIGHTS)
    return {name: file.read(name) for name in file.tensors}
