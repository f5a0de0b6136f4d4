"""Writes the model repository that Triton serves: one folder per model, from the table in interface.py.

    repository/
      tensorrt_llm/
        config.pbtxt    inputs, outputs, how many processes, and what the model is (parameter "model_info")
        1/model.py      imports python_model.py
        1/model.yaml    the model's folder and the engine's settings
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path

from llm_workshop.artifacts import Artifacts
from llm_workshop.machine import Machine
from llm_workshop.serving.engine import ModelInfo
from llm_workshop.serving.triton.engine_settings import FILE, EngineSettings
from llm_workshop.serving.triton.interface import INPUTS, MODEL_INFO, MODEL_NAME, OUTPUTS, Tensor
from llm_workshop.serving.triton.model_folder import check_model_folder, model_info, resolved
from scratch_llm.io import atomic_directory

MODEL_PY = '''\
"""Written with the repository: Triton's Python backend looks for TritonPythonModel here."""

from llm_workshop.serving.triton.python_model import TritonPythonModel  # noqa: F401
'''


def write_repository(artifacts: Artifacts, models: Mapping[str, Path] | None = None) -> Path:
    """The repository of a run at artifacts/<run>/serving/repository, replaced as a whole.

    ``models``: name in the repository -> model folder; by default the run's model (``chat.model``) under MODEL_NAME.  Raises
    ValueError, with the cure, for a model that cannot be served.
    """
    serving = artifacts.settings.serving
    if models is None:
        models = {MODEL_NAME: artifacts.require(artifacts.served)}
    threads = serving.threads or default_threads(serving.instances)
    served = {}
    for name, folder in models.items():
        check_model_folder(folder)
        served[name] = resolved(
            EngineSettings(
                model=Path(folder).resolve(),
                name=artifacts.settings.run_name if len(models) == 1 else name,
                engine=serving.engine,
                weights=serving.weights,
                precision=serving.precision,
                device=serving.device,
                threads=threads,
                max_rows=serving.max_rows,
                max_waiting=serving.max_waiting,
                max_tokens=serving.max_tokens,
            )
        )
    path = artifacts.root / "serving" / "repository"
    write_models(path, served, instances=serving.instances)
    return path


def default_threads(instances: int = 1) -> int:
    """Threads of each engine process: a core is left to the server, its senders and the clients.

    With 2 threads on 2 cores a served 15M model gave one client 296 tokens/s and eight 933, with 1 thread 337 and 892
    (every 10 ms a response), 230 and 730 against 365 and 995 (every 30 ms).
    """
    return max(1, (Machine().cores - 1) // instances)


def write_models(path: Path, models: Mapping[str, EngineSettings], *, instances: int = 1) -> None:
    """A repository of ``models`` (name -> settings) at ``path``: whole, or as it was before."""
    if not models:
        raise ValueError("a model repository needs at least one model")
    with atomic_directory(path) as folder:
        for name, settings in models.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise ValueError(f"the model name {name!r} cannot be a folder: use letters, digits, '.', '_' and '-'")
            version = folder / name / "1"
            version.mkdir(parents=True)
            (folder / name / "config.pbtxt").write_text(config_pbtxt(name, model_info(settings), instances), encoding="utf-8")
            (version / "model.py").write_text(MODEL_PY, encoding="utf-8")
            (version / FILE).write_text(settings.to_yaml(), encoding="utf-8")


def config_pbtxt(name: str, info: ModelInfo, instances: int) -> str:
    """Triton's configuration of a model, in protobuf's text format."""
    facts = json.dumps(dataclasses.asdict(info))  # ASCII, so that JSON's quoting suits protobuf too
    return "\n".join(
        [
            f'name: "{name}"',
            'backend: "python"',
            *(_tensor("input", tensor) for tensor in INPUTS),
            *(_tensor("output", tensor) for tensor in OUTPUTS),
            f"instance_group [ {{ count: {instances} kind: KIND_CPU }} ]",
            f'parameters: {{ key: "{MODEL_INFO}" value: {{ string_value: {json.dumps(facts)} }} }}',
            "",
        ]
    )


def _tensor(direction: str, tensor: Tensor) -> str:
    datatype = "TYPE_STRING" if tensor.datatype == "BYTES" else f"TYPE_{tensor.datatype}"
    optional = " optional: true" if direction == "input" and tensor.optional else ""
    dims = ", ".join(map(str, tensor.dims))
    return f'{direction} [ {{ name: "{tensor.name}" data_type: {datatype} dims: [ {dims} ]{optional} }} ]'
