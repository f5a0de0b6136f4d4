"""A recipe of NeMo AutoModel run to its end: by the Python of ``.envs/nemo``, in one process or several.

    python -m llm_workshop.automodel.job RECIPE.yaml RESULT [IDS.json]
    torchrun --nproc-per-node 2 -m llm_workshop.automodel.job RECIPE.yaml RESULT [IDS.json]

``RESULT`` is a folder; rank 0 writes into it ``result.json``, and where ``IDS.json`` has token ids (rows of equal length)
the logits of the model before and after the training, ``before.npy`` and ``after.npy`` (B, T, V) in float32.  Of an
adapter that is trained, ``start.safetensors`` is what it was before the first step.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml


def run(recipe_file: str, folder: str, ids_file: str | None = None) -> None:
    """Everything ``RESULT`` holds; errors are AutoModel's own."""
    started = time.perf_counter()
    from llm_workshop.automodel.without_cuda import automodel_without_cuda

    automodel_without_cuda()
    from nemo_automodel.components.config.loader import ConfigNode
    from nemo_automodel.recipes.llm.train_ft import TrainFinetuneRecipeForNextTokenPrediction

    values = yaml.safe_load(Path(recipe_file).read_text(encoding="utf-8"))
    recipe = TrainFinetuneRecipeForNextTokenPrediction(ConfigNode(values))
    recipe.setup()
    model, result = recipe.model_parts[0], Path(folder)
    ids = None if ids_file is None else torch.tensor(json.loads(Path(ids_file).read_text()), device=next(model.parameters()).device)
    first = recipe.dist_env.is_main
    if first:
        result.mkdir(parents=True, exist_ok=True)
        if "peft" in values:
            save_adapter_start(model, result / "start.safetensors")
    save_logits(model, ids, result / "before.npy" if first else None)
    ready = time.perf_counter()
    recipe.run_train_validation_loop()
    trained = time.perf_counter()
    save_logits(model, ids, result / "after.npy" if first else None)
    if first:
        whole = getattr(model, "module", model)  # DDP's
        facts = {
            "version": metadata.version("nemo-automodel"),
            "class": f"{type(whole).__module__}.{type(whole).__name__}",
            "parameters": sum(p.numel() for p in whole.parameters()),
            "trainable": sum(p.numel() for p in whole.parameters() if p.requires_grad),
            "processes": recipe.dist_env.world_size,
            "setup_seconds": ready - started,
            "training_seconds": trained - ready,
        }
        (result / "result.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")


@torch.no_grad()
def save_logits(model: Any, ids: torch.Tensor | None, file: Path | None) -> None:
    """Write the logits of ``ids``; every rank computes them, as a sharded model can only be called by all."""
    if ids is None:
        return
    import numpy as np

    was_training = model.training
    model.eval()
    output = model(ids)
    model.train(was_training)
    if file is not None:
        np.save(file, getattr(output, "logits", output).float().cpu().numpy())


def save_adapter_start(model: Any, file: Path) -> None:
    """The adapter before its first step, under PEFT's names."""
    from safetensors.torch import save_file

    learnt = {name.removeprefix("module."): p for name, p in model.named_parameters() if p.requires_grad}
    save_file({f"base_model.model.{name}": p.detach().cpu().contiguous().clone() for name, p in learnt.items()}, file)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m llm_workshop.automodel.job RECIPE.yaml RESULT [IDS.json]")
    run(*sys.argv[1:])
