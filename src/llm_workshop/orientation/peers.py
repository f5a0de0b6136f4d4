"""NVIDIA's tools, asked from another process with the Python of their own environment."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm_workshop.orientation.environments import ENVIRONMENTS

SECONDS = 240
SOURCE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    """What a tool found.  ``problem`` says in one line why there is nothing; then the rest is None."""

    version: str | None = None
    import_seconds: float | None = None
    work_seconds: float | None = None
    class_name: str | None = None
    logits: np.ndarray | None = None
    ids: list[list[int]] | None = None
    problem: str = ""


@dataclass(frozen=True)
class NemoPeer:
    """The environment ``nemo``: AutoModel, Megatron core and nemo-toolkit's tokenizers."""

    python: Path

    @classmethod
    def find(cls) -> NemoPeer | None:
        """None where the environment is not there, not finished or made for another machine."""
        environment = ENVIRONMENTS["nemo"]
        return cls(environment.python) if environment.state == "ready" else None

    def logits(self, tool: str, checkpoint: Path, ids: Sequence[int]) -> Answer:
        """Logits (T, V) of one row of tokens by "automodel" or "megatron"."""
        return self._ask(tool, {"checkpoint": str(Path(checkpoint).resolve()), "ids": list(ids)})

    def encode(self, checkpoint: Path, texts: Sequence[str]) -> Answer:
        """Token ids of each text by nemo-toolkit, without special tokens."""
        return self._ask("tokenizer", {"checkpoint": str(Path(checkpoint).resolve()), "texts": list(texts)})

    def _ask(self, tool: str, job: dict[str, Any]) -> Answer:
        with tempfile.TemporaryDirectory() as folder:
            file, logits = Path(folder) / "job.json", Path(folder) / "logits.npy"
            file.write_text(json.dumps(job | {"logits": str(logits)}, ensure_ascii=False), encoding="utf-8")
            command = [str(self.python), "-m", "llm_workshop.orientation.nemo_probe", tool, str(file)]
            environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(SOURCE), "PYTHONWARNINGS": "ignore"}
            try:
                done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, env=environment, cwd=folder)
            except subprocess.TimeoutExpired:
                return Answer(problem=f"{SECONDS}초 안에 끝나지 않았습니다")
            except OSError as error:
                return Answer(problem=f"{self.python}을 실행하지 못했습니다: {error.strerror}")
            if done.returncode != 0:
                return Answer(problem=last_line(done.stderr) or f"종료 코드 {done.returncode}")
            facts = json.loads(done.stdout.strip().splitlines()[-1])
            return Answer(
                facts["version"], facts["import_seconds"], facts["work_seconds"], facts.get("class", "").rpartition(".")[2] or None,
                np.load(logits) if logits.is_file() else None, facts.get("ids"),
            )  # fmt: skip


def last_line(text: str) -> str:
    """The line of a traceback that says what was wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
