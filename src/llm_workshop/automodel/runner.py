"""NeMo AutoModel started with the Python of its own environment, and what it left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm_workshop.automodel.recipe import Job, recipe, write_recipe
from llm_workshop.orientation.environments import ENVIRONMENTS
from llm_workshop.orientation.peers import last_line

SOURCE = Path(__file__).resolve().parents[2]
SECONDS = 600


@dataclass(frozen=True)
class Trained:
    """What a run of AutoModel gave.  Losses in nats per token, one for each step."""

    losses: list[float]
    next_learning_rates: list[float]
    """As its log has them: after the schedule has moved on, so each is the one of the step that follows."""
    grad_norms: list[float]
    tokens_per_second: float
    """Median of its steps."""
    checkpoint: Path
    """A checkpoint in Hugging Face format, or the adapter's folder in PEFT's."""
    before: np.ndarray | None
    after: np.ndarray | None
    """Logits (B, T, V) of the probe before and after the training."""
    facts: Mapping[str, Any]


def find_automodel() -> Path | None:
    """The Python of the environment ``nemo``; None where it is not there, not finished or made for another machine."""
    environment = ENVIRONMENTS["nemo"]
    return environment.python if environment.state == "ready" else None


def how_to_install(name: str = "nemo") -> str:
    """Korean: why the environment cannot be used, and what to do."""
    environment = ENVIRONMENTS[name]
    reason = {"unfinished": "설치가 중간에 끊겼습니다", "foreign": "다른 기계에서 만든 것입니다"}.get(environment.state, "아직 없습니다")
    return f"{name} 환경이 {reason}. `{environment.command}` 명령으로 만들고 다시 실행하세요."


def run_job(python: Path, job: Job, folder: Path, ids: Sequence[Sequence[int]] | None = None, seconds: int = SECONDS) -> Trained:
    """Run ``job`` in AutoModel; ``folder`` takes the recipe, the checkpoint, the log and the logits of ``ids``.

    What an earlier run left in ``folder`` is deleted.

    Raises:
        ValueError: there is no tokenizer beside the weights, which AutoModel opens with them; or the run failed, or did
            not end within ``seconds``: the message has its last line and where its log is.
    """
    folder = Path(folder).resolve()
    if not (Path(job.weights) / "tokenizer.json").is_file():
        raise ValueError(f"{job.weights} has no tokenizer.json: AutoModel opens a tokenizer with the weights, so put it beside them")
    for name in ("checkpoint", "result"):
        shutil.rmtree(folder / name, ignore_errors=True)
    file = write_recipe(recipe(job, folder / "checkpoint", gpu=torch.cuda.is_available()), folder / "recipe.yaml")
    arguments = ["-m", "llm_workshop.automodel.job", str(file), str(folder / "result")]
    if ids is not None:
        (folder / "ids.json").write_text(json.dumps([list(row) for row in ids]))
        arguments.append(str(folder / "ids.json"))
    start_in_environment(python, arguments, folder / "log.txt", job.processes, seconds)
    return read_result(folder)


def start_in_environment(python: Path, arguments: Sequence[str], log: Path, processes: int = 1, seconds: int = SECONDS) -> None:
    """``python arguments``, or as many of it as ``processes`` by torchrun; what it prints goes into ``log``.

    Raises:
        ValueError: it failed, could not be started, or did not end in time.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [str(python), *launcher, *arguments]
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as stream:
        try:
            started = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=log.parent, env=environment_of(processes))
        except OSError as error:
            raise ValueError(f"{python} cannot be started ({error.strerror}): install the environment again") from None
        try:
            code = started.wait(seconds)
        except BaseException as error:
            stop(started)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ValueError(f"{' '.join(arguments[:2])} did not end within {seconds} s: see {log}") from None
            raise
    if code != 0:
        reason = last_line(error_part(log.read_text(encoding="utf-8", errors="replace"))) or f"exit code {code}"
        raise ValueError(f"{' '.join(arguments[:2])} failed: {reason} (the whole story is in {log})")


def stop(process: subprocess.Popen) -> None:
    """End a process and, where it is torchrun, its workers: it passes the first signal on to them."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment_of(processes: int) -> dict[str, str]:
    """The variables of a run: our source on its path, no hub, and a core for each process."""
    variables = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "1000", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if processes > 1:
        variables["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    return variables


def error_part(text: str) -> str:
    """A log up to the last error of Python's: torchrun adds a summary below it, it and NeMo Run prefixes."""
    lines = [re.sub(r"^(\w+/\d+ )?(\[default\d+\]:)?(\[rank\d+\]: )?", "", line) for line in text.splitlines()]
    ends = [n for n, line in enumerate(lines) if "Error" in line.split(":")[0] and "ChildFailedError" not in line and not line.startswith(" ")]
    return "\n".join(lines[: ends[-1] + 1] if ends else lines)


def read_result(folder: Path) -> Trained:
    """What ``run_job`` left in ``folder``, read again without running it.

    Raises:
        ValueError: it is not there or not whole.
    """
    result, checkpoint = folder / "result", folder / "checkpoint"
    try:
        facts = json.loads((result / "result.json").read_text(encoding="utf-8"))
        lines = [json.loads(line) for line in (checkpoint / "training.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        raise ValueError(f"{folder} has no finished run of AutoModel: run it again") from None
    model = max(checkpoint.glob("epoch_*_step_*"), key=lambda path: int(path.name.rpartition("_")[2])) / "model"
    logits = [np.load(file) if (file := result / f"{name}.npy").is_file() else None for name in ("before", "after")]
    return Trained(
        [line["loss"] for line in lines], [line["lr"] for line in lines], [line["grad_norm"] for line in lines],
        float(np.median([line["tps"] for line in lines])),
        model / "consolidated" if (model / "consolidated").is_dir() else model, *logits, facts,
    )  # fmt: skip
