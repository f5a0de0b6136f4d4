"""Quantised checkpoints for TensorRT-LLM, made by NVIDIA's ModelOpt; the work is done on a CPU as well.

ModelOpt puts quantisers around every Linear, watches which values come by on our own text (calibration), and writes the
codes and scales in the layout that TensorRT-LLM and vLLM load ("unified" Hugging Face checkpoint).  In this process it
only imitates the quantised arithmetic; the codes are multiplied as such by a GPU alone.

The output layer and the embeddings stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_workshop.export.checkpoint import Checkpoint, quiet
from scratch_llm.io import atomic_directory

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ARCHITECTURES = ("llama",)


@dataclass(frozen=True)
class Method:
    """One way to quantise: ModelOpt's configuration, the ``quant_algo`` it exports, and where TensorRT-LLM runs it."""

    config: str
    quant_algo: str
    bits: int
    gpu: str
    pytorch_backend: bool
    """Whether the PyTorch backend of TensorRT-LLM 1.2 (LLM, trtllm-serve) loads it."""


METHODS = {
    "fp8": Method("FP8_DEFAULT_CFG", "FP8", 8, "Ada, Hopper or newer (compute capability 8.9)", True),
    "awq": Method("INT4_AWQ_CFG", "W4A16_AWQ", 4, "Ampere or newer (compute capability 8.0)", True),
    "smoothquant": Method(
        "INT8_SMOOTHQUANT_CFG", "W8A8_SQ_PER_CHANNEL", 8, "only the TensorRT backend, which ended with 1.2", False
    ),
}
#: Weights that share a scale in AWQ; the sizes that TensorRT-LLM has kernels for.
GROUP_SIZES = (128, 64)


def quantize(checkpoint: Checkpoint, method: str, calibration: Sequence[torch.Tensor]) -> PreTrainedModel:
    """The checkpoint's model in bfloat16 with ModelOpt's quantisers in it, calibrated.

    Args:
        checkpoint: a Llama model.
        method: a key of ``METHODS``.
        calibration: batches of token ids, (B, T) each, such as the model was trained on.

    Raises:
        ValueError: an unknown method, an architecture or a width that cannot be exported, no calibration tokens.
    """
    check_exportable(checkpoint.config, method)
    if not calibration:
        raise ValueError("no calibration tokens: without them the scales of activations are unknown")
    import torch

    with quiet():
        import modelopt.torch.quantization as mtq

        config = modelopt_config(method, widths_of(checkpoint.config))
        model = checkpoint.load_model().to(torch.bfloat16)

        def show(model: torch.nn.Module) -> None:
            for batch in calibration:
                model(batch)

        with torch.no_grad():
            return mtq.quantize(model, config, forward_loop=show)


def export_modelopt(checkpoint: Checkpoint, method: str, calibration: Sequence[torch.Tensor], target: str | Path) -> dict[str, Any]:
    """Quantise, write the folder ``target`` (whole or not at all) with the tokenizer in it, and check it; its facts.

    Raises:
        ValueError: as ``quantize``, or an export that does not hold what it should.
    """
    from llm_workshop.export.modelopt_check import check_modelopt

    model = quantize(checkpoint, method, calibration)
    with atomic_directory(target) as folder:
        write_quantized(checkpoint, model, folder)
        return check_modelopt(checkpoint, folder, method) | {
            "calibration_tokens": sum(batch.numel() for batch in calibration),
            "source_digest": checkpoint.digest(),
        }


def write_quantized(checkpoint: Checkpoint, model: PreTrainedModel, folder: Path) -> None:
    """Export a quantised model into an existing folder, with the tokenizer beside it.  It is of no use afterwards."""
    import torch

    with quiet():
        from modelopt.torch.export import export_hf_checkpoint

        export_hf_checkpoint(model, dtype=torch.bfloat16, export_dir=str(folder))
    checkpoint.copy_tokenizer(folder)


def check_exportable(config: dict[str, Any], method: str) -> None:
    """Raise ValueError, with the cure, unless ModelOpt can export this model by this method."""
    if method not in METHODS:
        raise ValueError(f"method {method!r}: use one of {', '.join(METHODS)}")
    if config.get("model_type") not in ARCHITECTURES:
        raise ValueError(
            f"model_type={config.get('model_type')!r}: the export for TensorRT-LLM knows {' and '.join(ARCHITECTURES)} only; "
            "train with model.architecture=llama, or write a GGUF file"
        )
    if method == "awq":
        group_size(widths_of(config))


def modelopt_config(method: str, widths: Collection[int]) -> dict[str, Any]:
    """ModelOpt's configuration of a method for layers with these input widths."""
    import modelopt.torch.quantization as mtq

    config = copy.deepcopy(getattr(mtq, METHODS[method].config))
    if method == "awq":
        _set_group_size(config, group_size(widths))
    return config


def widths_of(config: dict[str, Any]) -> set[int]:
    """Input widths of a Llama's layers, from its config.json."""
    heads, head_dim = config["num_attention_heads"], config.get("head_dim")
    return {config["hidden_size"], config["intermediate_size"], heads * (head_dim or config["hidden_size"] // heads)}


def group_size(widths: Collection[int]) -> int:
    """The largest AWQ group that divides every input width; ValueError where none does."""
    for size in GROUP_SIZES:
        if not any(width % size for width in widths):
            return size
    raise ValueError(
        f"AWQ needs widths that are multiples of {GROUP_SIZES[-1]}, these are {sorted(widths)}: choose model.d_model and "
        "model.d_ff so, or export fp8"
    )


def _set_group_size(config: dict[str, Any], size: int) -> None:
    """Change the weights' group wherever ModelOpt's configuration names one (a dict or a list of rules)."""
    rules = config["quant_cfg"]
    for rule in rules.values() if isinstance(rules, dict) else rules:
        values = rule.get("cfg", rule) if isinstance(rule, dict) else None
        for part in values if isinstance(values, list) else [values]:
            if isinstance(part, dict) and isinstance(part.get("block_sizes"), dict) and -1 in part["block_sizes"]:
                part["block_sizes"][-1] = size
