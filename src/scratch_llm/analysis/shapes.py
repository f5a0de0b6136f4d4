"""Models as configurations or as shapes without memory."""

from __future__ import annotations

from typing import Any

import torch

from scratch_llm.models import LanguageModel, build_model


def as_shapes(model_or_config: LanguageModel | Any) -> LanguageModel:
    """The model itself, or one of a configuration on the meta device: all shapes, no memory, whatever its size."""
    if isinstance(model_or_config, LanguageModel):
        return model_or_config
    with torch.device("meta"):
        return build_model(model_or_config).eval()
