"""What can be known of a model folder before its weights are read: whether it can be served, and what it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from llm_workshop.serving.engine import ModelInfo
from llm_workshop.serving.triton.engine_settings import EngineSettings

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def check_model_folder(folder: Path) -> None:
    """Raise ValueError, with the cure, unless ``folder`` holds a model of ours and its tokenizer."""
    from scratch_llm.models import MODELS
    from scratch_llm.weights.huggingface import read_config

    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"no model at {folder}: run 'make week5-pretrain' first, or name another folder")
    try:
        kind = read_config(folder).get("model_type")
    except (ValueError, OSError) as error:
        raise ValueError(f"the model in {folder} cannot be read ({error}): make or copy it again") from None
    if kind not in MODELS:
        raise ValueError(f"{folder}/config.json has model_type {kind!r}, which is unknown here: use one of {', '.join(MODELS)}")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ValueError(f"{folder} has no {WEIGHTS[0]}: make or copy the model again")
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder} has no tokenizer.json: copy the tokenizer that the model was trained with into it")


def resolved(settings: EngineSettings) -> EngineSettings:
    """``device`` and ``precision`` without "auto"; ValueError where a GPU is asked for and there is none."""
    import torch

    from scratch_llm.training.precision import choose_dtype

    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but this machine offers no GPU to PyTorch: use serving.device=cpu or auto")
    dtype, _ = choose_dtype(settings.precision, device)
    return dataclasses.replace(settings, device=device, precision=str(dtype).removeprefix("torch."))


def model_info(settings: EngineSettings) -> ModelInfo:
    """The ModelInfo of a served model, from config.json and the artifact's manifest; reads no weights."""
    import torch

    from llm_workshop.serving.scratch_engine import describe_model
    from scratch_llm.models import MODELS
    from scratch_llm.weights.huggingface import read_config

    values = read_config(settings.model)
    kind = MODELS[values["model_type"]]
    with torch.device("meta"):
        model = kind(kind.config_from_huggingface(values))
    info = describe_model(model, settings.model, read_manifest(settings.model), settings.name)
    context = min(info.context_length, settings.max_tokens or info.context_length)
    return dataclasses.replace(
        info, context_length=context, device=settings.device.upper(), precision=settings.precision
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The folder's manifest.json; {} where there is none that can be read (a model from elsewhere has none)."""
    try:
        return json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
