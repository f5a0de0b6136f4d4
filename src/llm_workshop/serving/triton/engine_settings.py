"""``1/model.yaml`` of a served model: which engine, which model, and how; written by repository.py, read in the server."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm_workshop.serving.own_thread import in_own_thread
from llm_workshop.serving.triton.job import Job, ServedEngine

FILE = "model.yaml"
TRITON_CONFIG = {"max_batch_size": 0, "decoupled": True}

#: Engine name -> module with a function ``load``; see job.py.
ENGINES = {
    "scratch": "llm_workshop.serving.triton.scratch_service",
    "transformers": "llm_workshop.serving.triton.transformers_service",
    "tensorrt_llm": "llm_workshop.serving.tensorrt_llm.engine",
}


@dataclass(frozen=True)
class EngineSettings:
    """As the settings of the section ``serving``, with nothing left to guess."""

    model: Path
    """A folder with config.json, weights and tokenizer, or what else the engine reads."""
    name: str = "model"
    engine: str = "scratch"
    weights: str = "same"
    precision: str = "auto"
    device: str = "cpu"
    threads: int | None = None
    """Of an instance's arithmetic on the CPU; None: all cores."""
    max_rows: int = 8
    max_waiting: int = 32
    max_tokens: int | None = None
    response_interval_ms: float = 25.0
    """Between two responses of a request, at least; what comes in between shares the next one."""
    response_ms_per_stream: float = 6.0
    """The same for each answer that is being streamed, where that is more: from five on, so that responses cost no more."""

    def __post_init__(self):
        if self.engine not in ENGINES:
            raise ValueError(f"engine {self.engine!r} is unknown: use one of {', '.join(ENGINES)}")
        if not self.response_interval_ms >= 0:
            raise ValueError(f"response_interval_ms={self.response_interval_ms!r}: use a number of at least 0")
        if not self.response_ms_per_stream >= 0:
            raise ValueError(f"response_ms_per_stream={self.response_ms_per_stream!r}: use a number of at least 0")

    def to_yaml(self) -> str:
        values = dataclasses.asdict(self) | {"model": str(self.model), "triton_config": TRITON_CONFIG}
        return yaml.safe_dump(values, allow_unicode=True, sort_keys=False)


def read_model_yaml(folder: Path) -> tuple[EngineSettings, dict[str, Any]]:
    """The settings in ``folder``/model.yaml and its ``triton_config``; ValueError, naming the file, where it is not right."""
    path = Path(folder) / FILE
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        triton_config = values.pop("triton_config")
        return EngineSettings(**values | {"model": Path(values["model"])}), triton_config
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): write the model repository again") from None
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not right ({error}): write the model repository again") from None


def load_engine(settings: EngineSettings, changed: Callable[[Job], None]) -> ServedEngine:
    """Import the engine's module and load it; ValueError or OSError with the cure."""
    try:
        module = importlib.import_module(ENGINES[settings.engine])
    except ImportError as error:
        raise ValueError(
            f"the engine {settings.engine} cannot be imported in this environment ({error}): "
            "serve it where its packages are installed, or choose another engine"
        ) from error
    return in_own_thread(module.load, settings, changed)
