"""One checkpoint opened by a tool of NVIDIA's: run by the Python of ``.envs/nemo``, whose pins contradict core's.

    python -m llm_workshop.orientation.nemo_probe automodel|megatron|tokenizer JOB.json

``JOB.json``: {"checkpoint": folder in Hugging Face format, "ids": token ids of one row, "texts": texts to encode,
"logits": file to write}.  The last line printed is JSON: what was found.  Logits are written as float32 in NumPy's
format.  Without a GPU three calls that name CUDA outright are turned aside; with one nothing is touched.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any


def without_cuda() -> None:
    """AutoModel and Megatron ask for the current CUDA device even where they need none."""
    import torch

    if not torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats = lambda *_, **__: None
        torch.cuda.current_device = lambda: torch.device("cpu")


def open_with_automodel(folder: str) -> Any:
    """NeMo AutoModel: a Hugging Face folder as it is, no conversion."""
    import types

    import torch

    without_cuda()
    import nemo_automodel._transformers.auto_model as auto_model
    from nemo_automodel import NeMoAutoModelForCausalLM

    if not torch.cuda.is_available():
        stand_in = types.ModuleType("torch")
        stand_in.__getattr__ = lambda name: getattr(torch, name)
        stand_in.device = lambda *_: torch.device("cpu")  # it builds torch.device("cuda", n) by hand
        auto_model.torch = stand_in
    model = NeMoAutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="sdpa")
    return model.eval()


def automodel_logits(model: Any, ids: Any) -> Any:
    output = model(ids)
    return getattr(output, "logits", output)


def open_with_megatron(folder: str) -> Any:
    """Megatron core: a model built from its own configuration, into which the weights are copied in its own layout."""
    import os
    import socket

    import torch

    without_cuda()
    from megatron.core import parallel_state
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.tensor_parallel.random import initialize_rng_tracker
    from megatron.core.transformer.transformer_config import TransformerConfig
    from safetensors.torch import load_file

    config = json.loads((Path(folder) / "config.json").read_text())
    if config.get("model_type") != "llama":
        raise ValueError(f"the weights of a {config.get('model_type')} are not converted here: use a Llama checkpoint")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1")
    torch.distributed.init_process_group("gloo")
    parallel_state.initialize_model_parallel(1, 1)
    initialize_rng_tracker(inference_rng_tracker=True, force_reset=True)
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    groups = config["num_key_value_heads"]
    model = GPTModel(
        TransformerConfig(
            num_layers=config["num_hidden_layers"], hidden_size=config["hidden_size"], num_attention_heads=heads,
            num_query_groups=groups, kv_channels=head_dim, ffn_hidden_size=config["intermediate_size"],
            normalization="RMSNorm", layernorm_epsilon=config["rms_norm_eps"], gated_linear_unit=True,
            activation_func=torch.nn.functional.silu, add_bias_linear=False, use_cpu_initialization=True,
            attention_dropout=0.0, hidden_dropout=0.0, bias_dropout_fusion=False, bias_activation_fusion=False,
            masked_softmax_fusion=False, gradient_accumulation_fusion=False, apply_rope_fusion=False, persist_layer_norm=False,
        ),
        get_gpt_layer_local_spec(normalization="RMSNorm"),
        vocab_size=config["vocab_size"], max_sequence_length=config["max_position_embeddings"],
        position_embedding_type="rope", rotary_base=rope_theta(config),
        share_embeddings_and_output_weights=config.get("tie_word_embeddings", False),
    )  # fmt: skip
    theirs = {k: v for file in sorted(Path(folder).glob("*.safetensors")) for k, v in load_file(file).items()}
    state = megatron_state(theirs, config["num_hidden_layers"], heads, groups, head_dim)
    model.load_state_dict(state, strict=False)  # Megatron also lists states of kernels, which hold no weights
    if missing := {name for name, _ in model.named_parameters()} - set(state):
        raise ValueError(f"weights without a source: {', '.join(sorted(missing))}")
    return model.eval()


def rope_theta(config: dict[str, Any]) -> int:
    """Base of the rotary frequencies: transformers 5 keeps it in ``rope_parameters``, earlier ones beside the widths."""
    parameters = config.get("rope_parameters") or {}
    if parameters.get("rope_type", "default") != "default" or config.get("rope_scaling"):
        raise ValueError("scaled rotary frequencies are not converted here: use a checkpoint without rope_scaling")
    return int(config.get("rope_theta") or parameters["rope_theta"])


def megatron_state(theirs: dict[str, Any], n_layers: int, heads: int, groups: int, head_dim: int) -> dict[str, Any]:
    """Hugging Face's Llama tensors under Megatron's names.

    Two layouts differ.  Megatron multiplies q, k and v with one matrix whose rows lie group by group (the group's query
    heads, its key, its value), so that a group is cut off whole when tensors are split over GPUs.  And it stacks the gate
    on the up projection of the feed-forward layer.
    """
    import torch

    def fuse(layer: str) -> Any:
        q, k, v = (theirs[f"{layer}.self_attn.{name}_proj.weight"] for name in "qkv")
        shape = (groups, -1, q.shape[-1])
        return torch.cat([q.reshape(shape), k.reshape(shape), v.reshape(shape)], dim=1).flatten(0, 1)

    state = {
        "embedding.word_embeddings.weight": theirs["model.embed_tokens.weight"],
        "decoder.final_layernorm.weight": theirs["model.norm.weight"],
    }
    if "lm_head.weight" in theirs:
        state["output_layer.weight"] = theirs["lm_head.weight"]
    for number in range(n_layers):
        hf, ours = f"model.layers.{number}", f"decoder.layers.{number}"
        state |= {
            f"{ours}.input_layernorm.weight": theirs[f"{hf}.input_layernorm.weight"],
            f"{ours}.self_attention.linear_qkv.weight": fuse(hf),
            f"{ours}.self_attention.linear_proj.weight": theirs[f"{hf}.self_attn.o_proj.weight"],
            f"{ours}.pre_mlp_layernorm.weight": theirs[f"{hf}.post_attention_layernorm.weight"],
            f"{ours}.mlp.linear_fc1.weight": torch.cat([theirs[f"{hf}.mlp.gate_proj.weight"], theirs[f"{hf}.mlp.up_proj.weight"]]),
            f"{ours}.mlp.linear_fc2.weight": theirs[f"{hf}.mlp.down_proj.weight"],
        }
    return {name: weight.float() for name, weight in state.items()}


def megatron_logits(model: Any, ids: Any) -> Any:
    import torch

    length = ids.shape[1]
    future = torch.ones(1, 1, length, length, dtype=torch.bool).triu(1)  # True is hidden
    return model(ids, torch.arange(length)[None], future)


def encode_with_nemo(folder: str, texts: list[str]) -> list[list[int]]:
    """Ids by nemo-toolkit's wrapper of a Hugging Face tokenizer."""
    from nemo.collections.common.tokenizers import AutoTokenizer

    tokenizer = AutoTokenizer(pretrained_model_name=folder)
    return [tokenizer.text_to_ids(text) for text in texts]


PACKAGES = {"automodel": "nemo-automodel", "megatron": "megatron-core", "tokenizer": "nemo-toolkit"}
MODULES = {"automodel": "nemo_automodel._transformers.auto_model", "megatron": "megatron.core.models.gpt", "tokenizer": "nemo.collections.common.tokenizers"}


def main(tool: str, job_file: str) -> None:
    job, started = json.loads(Path(job_file).read_text(encoding="utf-8")), time.perf_counter()
    facts: dict[str, Any] = {"version": metadata.version(PACKAGES[tool])}
    without_cuda()
    __import__(MODULES[tool])
    facts["import_seconds"] = time.perf_counter() - started
    started = time.perf_counter()
    if tool == "tokenizer":
        facts["ids"] = encode_with_nemo(job["checkpoint"], job["texts"])
    else:
        import numpy as np
        import torch

        open_model, logits_of = {
            "automodel": (open_with_automodel, automodel_logits), "megatron": (open_with_megatron, megatron_logits),
        }[tool]  # fmt: skip
        model = open_model(job["checkpoint"])
        facts |= {"class": f"{type(model).__module__}.{type(model).__qualname__}", "parameters": sum(p.numel() for p in model.parameters())}
        with torch.no_grad():
            logits = logits_of(model, torch.tensor([job["ids"]]).to(next(model.parameters()).device))
        np.save(job["logits"], logits[0].float().cpu().numpy())
    facts["work_seconds"] = time.perf_counter() - started
    print("\n" + json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
