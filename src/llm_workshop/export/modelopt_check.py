"""Is a ModelOpt checkpoint what it says?  Its files, its types, and its weights turned back into ordinary ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_workshop.export.checkpoint import Checkpoint
from llm_workshop.export.modelopt import METHODS

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

#: Stored type of the codes (AWQ packs two into a byte).
CODES = {"fp8": "torch.float8_e4m3fn", "awq": "torch.uint8", "smoothquant": "torch.int8"}
#: Largest error of a matrix, as a share of its norm; a grid laid wrongly is off by 0.5 and more.
TOLERANCE = {"fp8": 0.04, "awq": 0.2, "smoothquant": 0.05}
#: Linear layers whose scale ModelOpt may have moved into the norm in front of them.
NORM_OF = {
    "q_proj": "input_layernorm", "k_proj": "input_layernorm", "v_proj": "input_layernorm",
    "gate_proj": "post_attention_layernorm", "up_proj": "post_attention_layernorm",
}  # fmt: skip


def check_modelopt(checkpoint: Checkpoint, folder: str | Path, method: str) -> dict[str, Any]:
    """Facts of an export: ``quant_algo``, sizes, types, the largest error of a matrix.

    Raises:
        ValueError: files or tensors are missing, of another type than the method's, or too far from the originals.
    """
    folder, wanted = Path(folder), METHODS[method]
    described = read_quantization(folder)
    if described.get("quant_algo") != wanted.quant_algo:
        raise ValueError(f"{folder} holds {described.get('quant_algo')!r}, {method} is {wanted.quant_algo!r}: export it again")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}: export it again")
    tensors = read_tensors(folder)
    types: dict[str, int] = {}
    for tensor in tensors.values():
        types[str(tensor.dtype)] = types.get(str(tensor.dtype), 0) + tensor.numel()
    errors = matrix_errors(checkpoint, tensors, described, method)
    worst = max(errors, key=errors.get)
    if not errors[worst] <= TOLERANCE[method]:
        raise ValueError(f"{folder}: {worst} is off by {errors[worst]:.3f} of its norm, allowed is {TOLERANCE[method]}: export it again")
    return {
        "method": method,
        "quant_algo": wanted.quant_algo,
        "group_size": described.get("group_size"),
        "bytes": sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        "values_by_type": types,
        "matrices": len(errors),
        "largest_error": errors[worst],
        "largest_error_in": worst,
        "gpu": wanted.gpu,
        "pytorch_backend": wanted.pytorch_backend,
    }


def read_quantization(folder: Path) -> dict[str, Any]:
    """The section ``quantization`` of hf_quant_config.json, by which TensorRT-LLM knows what the folder holds."""
    path = folder / "hf_quant_config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["quantization"]
    except FileNotFoundError:
        raise ValueError(f"{folder} has no hf_quant_config.json: it is no ModelOpt checkpoint, or only half of one") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged: export it again") from None


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors files."""
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no weights: export it again")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def dequantize(tensors: dict[str, Tensor], stem: str, described: dict[str, Any]) -> Tensor:
    """The matrix (out, in) of one Linear, float32, as it acts on the layer's input.

    ``pre_quant_scale`` (in,) multiplies the input in the quantised layer, so it belongs to the columns here.
    """
    codes, scale = tensors[f"{stem}.weight"], tensors[f"{stem}.weight_scale"].float()
    if described["quant_algo"] == "W4A16_AWQ":
        codes = unpack_int4(codes)
        scale = scale.repeat_interleave(described["group_size"], dim=1)
    elif scale.ndim == 1:
        scale = scale[:, None]
    matrix = codes.float() * scale
    before = tensors.get(f"{stem}.pre_quant_scale")
    return matrix if before is None else matrix * before.float()


def unpack_int4(packed: Tensor) -> Tensor:
    """(out / 2, in) bytes -> (out, in) numbers from -8 to 7: the low half of a byte is the even row."""
    import torch

    halves = torch.stack([packed & 15, packed >> 4], dim=1).to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves).reshape(-1, packed.shape[-1])


def matrix_errors(checkpoint: Checkpoint, tensors: dict[str, Tensor], described: dict[str, Any], method: str) -> dict[str, float]:
    """|dequantised - original| / |original| (Frobenius) of every quantised Linear, each with the norm in front of it."""
    errors, originals = {}, checkpoint.load_model().state_dict()
    for stem in (name.removesuffix(".weight_scale") for name in sorted(tensors) if name.endswith(".weight_scale")):
        if (kind := str(tensors[f"{stem}.weight"].dtype)) != CODES[method]:
            raise ValueError(f"{stem} is stored as {kind}, {method} stores {CODES[method]}: export it again")
        matrix, original = dequantize(tensors, stem, described), originals[f"{stem}.weight"]
        if norm := NORM_OF.get(stem.split(".")[-1]):
            norm = f"{'.'.join(stem.split('.')[:3])}.{norm}.weight"
            matrix, original = matrix * tensors[norm].float(), original * originals[norm]
        errors[stem] = float((matrix - original).norm() / original.norm())
    linear = 7 * checkpoint.config["num_hidden_layers"]
    if len(errors) != linear:
        raise ValueError(f"{len(errors)} of {linear} matrices are quantised: export it again")
    return errors


def load_dequantized(folder: str | Path) -> PreTrainedModel:
    """The exported model as an ordinary float32 one with the quantised weights' values: what a GPU would compute with,
    but for the rounding of activations.  For generating and measuring where there is no GPU."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(folder)
    described, tensors = read_quantization(folder), read_tensors(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    state = {name: tensor.float() for name, tensor in tensors.items() if not name.endswith("_scale")}
    for name in tensors:
        if name.endswith(".weight_scale"):
            stem = name.removesuffix(".weight_scale")
            state[f"{stem}.weight"] = dequantize(tensors, stem, described)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - ({"lm_head.weight"} if config.tie_word_embeddings else set()):
        raise ValueError(f"{folder}: missing tensors {missing}, unexpected {unexpected}: export it again")
    model.tie_weights()
    return model.eval()
