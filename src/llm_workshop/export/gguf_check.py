"""Reading a GGUF file back: by transformers' own loader, and tensor by tensor against the original."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_workshop.export.checkpoint import Checkpoint, quiet
from llm_workshop.export.gguf_file import gguf_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Largest error of a weight, as a share of the largest in its block (of 32, or the tensor for the float types): half a
#: step of the grid, plus the rounding of the block's scale to half precision.
TOLERANCE = {"F32": 0.0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 0.5 / 127 + 2**-10, "Q4_0": 1 / 8 + 2**-10}


def load_with_transformers(file: str | Path) -> PreTrainedModel:
    """The model of a GGUF file as transformers reads it, in float32.

    Same as ``AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)``, which also asks for the accelerate package.

    Raises:
        ValueError: a file that transformers cannot read, or one that lacks tensors of the model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    try:
        config = load_gguf_checkpoint(str(file))["config"]
        if config["model_type"] == "gpt2":  # transformers 5.23 reads the context length as n_ctx, which GPT-2 no longer has
            config["n_positions"] = config["n_ctx"]
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=torch.float32)
        with quiet():  # a progress bar, even for a moment's work
            state = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=model)["tensors"]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"transformers cannot read {file}: {error}") from None
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    if set(missing) - tied or unexpected:
        raise ValueError(f"{file}: missing tensors {missing}, unexpected {unexpected}: write it again")
    model.tie_weights()
    return model.eval()


def check_gguf(checkpoint: Checkpoint, file: str | Path) -> dict[str, Any]:
    """Compare every tensor of a file with the checkpoint it was made from; returns the largest errors by type.

    Raises:
        ValueError: a tensor that is missing, foreign, of another shape, or further away than its type explains.
    """
    import gguf

    found = {tensor.name: tensor for tensor in gguf.GGUFReader(str(file)).tensors}
    worst: dict[str, float] = {}
    for name, original in gguf_tensors(checkpoint):
        if (tensor := found.pop(name, None)) is None:
            raise ValueError(f"{file} lacks the tensor {name}: write it again")
        values = np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if values.shape != original.shape:
            raise ValueError(f"{file}: {name} has shape {values.shape}, the model's is {original.shape}")
        kind = tensor.tensor_type.name
        error = relative_error(values, original, 32 if kind.startswith("Q") else original.size)
        if not error <= TOLERANCE[kind]:
            raise ValueError(f"{file}: {name} as {kind} is off by {error:.4f} of its block's largest, allowed is {TOLERANCE[kind]:.4f}")
        worst[kind] = max(worst.get(kind, 0.0), error)
    if found:
        raise ValueError(f"{file} has tensors that the model does not: {', '.join(sorted(found))}")
    return worst


def relative_error(values: np.ndarray, original: np.ndarray, block: int) -> float:
    """Largest |difference| as a share of the largest |original| in its block of so many neighbours."""
    difference = np.abs(values - original).reshape(-1, block).max(axis=1)
    largest = np.abs(original).reshape(-1, block).max(axis=1)
    return float((difference / np.maximum(largest, np.finfo(np.float32).tiny)).max())


def modelfile(checkpoint: Checkpoint, gguf_name: str, temperature: float = 0.5, top_p: float | None = 0.9) -> str:
    """An Ollama Modelfile for a GGUF file beside it: our chat format as a Go template, and where an answer ends.

    Raises:
        ValueError: a model without the chat format's tokens.
    """
    special = checkpoint.tokenizer.special_tokens
    if lacking := [name for name in ("<|user|>", "<|assistant|>", "<|end|>") if name not in special]:
        raise ValueError(f"the tokenizer lacks {', '.join(lacking)}: a Modelfile needs a model with the chat format")
    lines = [
        f"FROM ./{gguf_name}",
        'TEMPLATE """{{- range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{- end }}<|assistant|>"""',
        *(f'PARAMETER stop "{name}"' for name in special),
        f"PARAMETER num_ctx {checkpoint.context_length}",
        f"PARAMETER temperature {temperature}",
        *([] if top_p is None else [f"PARAMETER top_p {top_p}"]),
        "PARAMETER repeat_penalty 1.0",
    ]
    return "\n".join(lines) + "\n"
