"""Writing a model of ours as one GGUF file: weights, sizes, tokenizer and chat template together.

GGUF is the file format of ggml (llama.cpp, Ollama, LM Studio).  Facts that are easily missed:

- Llama's rotary embedding exists in two layouts.  transformers turns the first half of a head against the second,
  ggml's "llama" turns neighbouring pairs, so the rows of q and k are put in another order (``interleave_heads``).
- GPT-2's published layout stores its matrices (in, out), ggml wants (out, in).
- Matrices are quantised in blocks of 32 along a row; norms and biases stay float32.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llm_workshop.export.checkpoint import Checkpoint
from llm_workshop.export.gguf_tokenizer import (
    LLAMA_CPP_PATTERNS,
    exact_pre_tokenizer,
    gguf_vocabulary,
    special_ids,
)

#: Weight types that the gguf package can write: name -> bits a weight (with the scales of its block).
GGUF_TYPES = {"F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q4_0": 4.5}
ARCHITECTURES = ("llama", "gpt2")


def write_gguf(
    checkpoint: Checkpoint,
    target: str | Path,
    weights: str = "F16",
    *,
    pre_tokenizer: str | None = None,
    name: str = "llm-from-scratch-workshop",
) -> dict[str, Any]:
    """Write ``target`` (atomically) and return its facts for a manifest.

    Args:
        checkpoint: a Llama or GPT-2 model.
        weights: type of the matrices, a key of ``GGUF_TYPES``.
        pre_tokenizer: llama.cpp's name for the pattern that cuts text.  None takes the one that equals ours, and refuses
            if there is none; a name given by hand is written, and marked as a stand-in in the file's description.
        name: ``general.name``.

    Raises:
        ValueError: another architecture, an unknown type, a pattern that llama.cpp does not have, scaled rotary
            embeddings, or no finite weights.
    """
    import gguf

    check_exportable(checkpoint.config)
    if weights not in GGUF_TYPES:
        raise ValueError(f"weights={weights!r}: use one of {', '.join(GGUF_TYPES)}")
    exact = exact_pre_tokenizer(checkpoint.tokenizer)
    pre_tokenizer = pre_tokenizer or exact
    if pre_tokenizer is None or (pre_tokenizer != exact and pre_tokenizer not in LLAMA_CPP_PATTERNS):
        raise ValueError(
            f"llama.cpp has no pre-tokenizer with the pattern {checkpoint.tokenizer.pre_tokenizer.pattern!r}"
            f"{'' if pre_tokenizer is None else f' and we know none named {pre_tokenizer!r}'}: measure with agreement() "
            f"which of {', '.join(LLAMA_CPP_PATTERNS)} comes near it and pass pre_tokenizer=..., or train the tokenizer "
            "with tokenizer.pattern=gpt2"
        )
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        unfinished = Path(folder) / target.name
        writer = gguf.GGUFWriter(unfinished, checkpoint.model_type)
        try:
            stored = _add_everything(writer, checkpoint, weights, pre_tokenizer, exact, name)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        os.replace(unfinished, target)
    return {
        "architecture": checkpoint.model_type,
        "weights": weights,
        "tensors": stored,
        "bytes": target.stat().st_size,
        "pre_tokenizer": pre_tokenizer,
        "pre_tokenizer_exact": pre_tokenizer == exact,
        "source_digest": checkpoint.digest(),
    }


def check_exportable(config: dict[str, Any]) -> None:
    """Raise ValueError unless ggml's "llama" or "gpt2" computes what this configuration says."""
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ValueError(f"model_type={kind!r}: our GGUF export knows {' and '.join(ARCHITECTURES)}; use model.architecture=llama")
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if kind == "llama" and scaling.get("rope_type", "default") != "default":
        raise ValueError(f"rope_type={scaling['rope_type']!r}: scaled rotary embeddings are not carried over, use 'default'")
    activation = config.get("hidden_act") if kind == "llama" else config.get("activation_function")
    wanted = ("silu",) if kind == "llama" else ("gelu_new", "gelu_pytorch_tanh")
    if activation not in wanted:
        raise ValueError(f"activation {activation!r}: ggml's {kind} computes {wanted[0]!r} whatever the file says")


def gguf_tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, np.ndarray]]:
    """(name, float32 values) of every tensor under ggml's names and in its layout; a tied output layer is left out.

    Raises:
        ValueError: a tensor that ggml has no name for, or values that are not finite.
    """
    import gguf

    config, kind = checkpoint.config, checkpoint.model_type
    layers = config.get("num_hidden_layers") or config.get("n_layer")
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, kind.upper()), layers)
    change = _change_of(config)
    tied = config.get("tie_word_embeddings", kind == "gpt2")
    for ours, tensor in checkpoint.load_model().state_dict().items():
        if tied and ours == "lm_head.weight":
            continue
        stem, suffix = ours.rsplit(".", 1)
        theirs = names.get_name(stem)
        if theirs is None:
            raise ValueError(f"ggml's {kind} has no tensor for {ours!r}: this checkpoint cannot be a GGUF file")
        values = change(ours, tensor.float().numpy())
        if not np.isfinite(values).all():
            raise ValueError(f"{ours} holds values that are not finite: the training went wrong, export another checkpoint")
        yield f"{theirs}.{suffix}", np.ascontiguousarray(values)


def interleave_heads(matrix: np.ndarray, n_heads: int) -> np.ndarray:
    """Rows of a q or k projection (n_heads * d, D): (first half, second half) of a head -> neighbouring pairs."""
    rows = matrix.shape[0]
    if rows % (2 * n_heads):
        raise ValueError(f"{rows} rows do not make {n_heads} heads of an even width")
    halves = matrix.reshape(n_heads, 2, rows // n_heads // 2, *matrix.shape[1:])
    return halves.swapaxes(1, 2).reshape(matrix.shape)


def _change_of(config: dict[str, Any]) -> Callable[[str, np.ndarray], np.ndarray]:
    """How a tensor of this model changes its layout."""
    if config["model_type"] == "gpt2":
        conv = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
        return lambda name, values: values.T if conv.search(name) else values
    heads = config["num_attention_heads"]
    of = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}

    def llama(name: str, values: np.ndarray) -> np.ndarray:
        part = name.split(".")[-2]
        return interleave_heads(values, of[part]) if part in of else values

    return llama


def _add_everything(writer, checkpoint, weights, pre_tokenizer, exact, name) -> dict[str, int]:
    """Metadata and tensors; returns how many tensors are stored as what."""
    import gguf

    _add_sizes(writer, checkpoint)
    _add_tokenizer(writer, checkpoint, pre_tokenizer)
    writer.add_name(name)
    writer.add_description(
        "pre-tokenizer equals the training's"
        if pre_tokenizer == exact
        else f"pre-tokenizer {pre_tokenizer} stands in for {checkpoint.tokenizer.pre_tokenizer.pattern!r}: some texts are "
        "cut otherwise than in training"
    )
    writer.add_file_type(_file_type(weights))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    stored: dict[str, int] = {}
    for tensor_name, values in gguf_tensors(checkpoint):
        kind = _type_of(tensor_name, values, weights)
        _add_tensor(writer, tensor_name, values, kind)
        stored[kind] = stored.get(kind, 0) + 1
    return stored


def _add_sizes(writer, checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    writer.add_context_length(checkpoint.context_length)
    writer.add_vocab_size(config["vocab_size"])
    if checkpoint.model_type == "gpt2":
        writer.add_block_count(config["n_layer"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_freq_base((config.get("rope_parameters") or config)["rope_theta"])


def _add_tokenizer(writer, checkpoint: Checkpoint, pre_tokenizer: str) -> None:
    tokenizer = checkpoint.tokenizer
    tokens, types, merges = gguf_vocabulary(tokenizer, checkpoint.config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges:
        writer.add_token_merges(merges)
    for role, number in special_ids(tokenizer).items():
        getattr(writer, f"add_{role}_token_id")(number)
    # Training documents begin after an end mark, so a prompt begins with one as well.
    writer.add_add_bos_token("bos" in special_ids(tokenizer))
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _type_of(name: str, values: np.ndarray, weights: str) -> str:
    """Vectors and GPT-2's positions stay float32; a row that is no multiple of 32 cannot be quantised and is F16."""
    if values.ndim < 2 or name.startswith("position_embd"):
        return "F32"
    return "F16" if weights.startswith("Q") and values.shape[-1] % 32 else weights


def _add_tensor(writer, name: str, values: np.ndarray, kind: str) -> None:
    import gguf

    if kind in ("F32", "F16"):
        writer.add_tensor(name, values.astype({"F32": np.float32, "F16": np.float16}[kind]))
        return
    quantised = getattr(gguf.GGMLQuantizationType, kind)
    writer.add_tensor(name, gguf.quants.quantize(values, quantised), raw_dtype=quantised)


def _file_type(weights: str) -> int:
    import gguf

    name = {"F32": "ALL_F32"}.get(weights, f"MOSTLY_{weights}")
    return int(gguf.LlamaFileType[name])
