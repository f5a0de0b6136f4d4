"""NeMo Run and tensor parallelism started in their own processes, and what they printed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from llm_workshop.automodel.runner import SOURCE, start_in_environment
from llm_workshop.automodel.stage import of_architecture
from llm_workshop.orientation.environments import ENVIRONMENTS
from llm_workshop.pipeline.pretrain import model_config
from llm_workshop.settings import Settings
from scratch_llm.models import build_model

#: Where a cluster keeps this repository, and where its containers see it.
MOUNTS = ("/shared/workshop:/workspace",)


def find_nemo_run() -> Path | None:
    """The Python of the environment ``nemorun``; None where it is not ready."""
    environment = ENVIRONMENTS["nemorun"]
    return environment.python if environment.state == "ready" else None


def nemo_run(python: Path, kind: str, arguments: list[str], folder: Path, *, job_python: Path | None = None, processes: int = 2, nodes: int = 1,
             image: str = "nvcr.io/nvidia/nemo-automodel:26.06.00") -> str:  # fmt: skip
    """Send ``llm_workshop.automodel.job`` with ``arguments`` to work by NeMo Run; what it printed.

    Args:
        kind: ``local`` really runs it, with the torchrun beside ``job_python``; ``slurm`` and ``docker`` only print.
        folder: takes NeMo Run's books and the log.

    Raises:
        ValueError: it failed or did not end in time.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    variables = {"PYTHONPATH": str(SOURCE) if kind == "local" else "/workspace/src", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    if kind == "local" and job_python is not None:
        variables["PATH"] = f"{job_python.parent}:/usr/local/bin:/usr/bin:/bin"
    job = {
        "arguments": arguments, "processes": processes, "nodes": nodes, "environment": variables, "home": str(folder),
        "image": image, "mounts": MOUNTS, "account": "workshop", "partition": "gpu", "time": "01:00:00",
    }  # fmt: skip
    (folder / f"{kind}.json").write_text(json.dumps(job), encoding="utf-8")
    log = folder / f"{kind}.txt"
    start_in_environment(python, ["-m", "llm_workshop.automodel.nemo_run_job", kind, str(folder / f"{kind}.json")], log)
    return log.read_text(encoding="utf-8", errors="replace")


def tensor_parallel(checkpoint: Path, ids: list[list[int]], folder: Path, processes: int = 2, megatron_python: Path | None = None) -> dict[str, Any]:
    """Compute the model of ``checkpoint`` whole and cut among processes; the facts of ``parallel_probe``.

    Args:
        megatron_python: the Python of ``.envs/nemo``, where Megatron core's layers are compared too; None: without them.

    Raises:
        ValueError: it failed, such as where the heads cannot be shared by so many processes.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ids.json").write_text(json.dumps(ids))
    python, extra = (Path(sys.executable), []) if megatron_python is None else (megatron_python, ["megatron"])
    files = [str(Path(checkpoint).resolve()), str(folder / "ids.json"), str(folder / "result.json")]
    start_in_environment(python, ["-m", "llm_workshop.automodel.parallel_probe", *files, *extra], folder / "log.txt", processes, seconds=180)
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def random_checkpoint(settings: Settings, architecture: str, folder: Path) -> Path:
    """A model of the run's shape with random weights, in Hugging Face format; its vocabulary is that of the settings."""
    vocabulary = SimpleNamespace(vocab_size=settings.tokenizer.vocab_size, eos_id=0)
    torch.manual_seed(settings.seed)
    build_model(model_config(of_architecture(settings, architecture), vocabulary)).save_pretrained(folder)
    return folder


def script_lines(output: str) -> list[str]:
    """The script, or the description of the container, in a dry run's output: without times, file names and blank lines."""
    lines = [re.sub(r"^(\[\d\d:\d\d:\d\d\]| {10}) ", "", re.sub(r"\s+\w+\.py:\d+\s*$", "", line)).rstrip() for line in output.splitlines()]
    begins = [n for n, line in enumerate(lines) if line in ("#!/bin/bash", "=== APPLICATION ===")]
    wanted = lines[begins[-1] :] if begins else lines
    return [line for line in wanted if line and line != "=== APPLICATION ==="]


def container_lines(script: list[str]) -> list[str]:
    """Of a container's long description: the command, the image, the variables and folders that it is given."""
    words = [line.strip().removeprefix("- ") for line in script]
    end = words.index("executor:") if "executor:" in words else len(words)
    command = words[words.index("command:") + 1 : end] if "command:" in words else []
    given = [line for line in words[end:] if line.startswith("container_image:") or "/workspace" in line]
    return [" ".join(command), *dict.fromkeys(given)]
