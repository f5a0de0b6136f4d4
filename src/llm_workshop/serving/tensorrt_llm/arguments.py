"""Our settings in the words of TensorRT-LLM: arguments of ``LLM()``, of ``SamplingParams``, and of ``trtllm-serve``.

This module imports neither tensorrt_llm nor torch.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from llm_workshop.serving.engine import Sampling
from llm_workshop.serving.tensorrt_llm.signatures import check_arguments, parameters, signatures
from llm_workshop.serving.triton.engine_settings import EngineSettings

#: Share of the GPU memory still free after the weights that the KV cache takes.  Its default of 0.9 leaves a display,
#: a second process or the page's own model no room, and our caches are small.
KV_CACHE_SHARE = 0.5
DTYPES = {"auto": "auto", "bfloat16": "bfloat16", "float16": "float16"}


def llm_arguments(
    settings: EngineSettings, context_length: int, version: str, known: Collection[str] | None = None
) -> dict[str, Any]:
    """Arguments of ``tensorrt_llm.LLM`` as plain values (``kv_cache_config`` is that class's arguments).

    The tokenizer stays with us: prompts go in as ids and ids come back, as with our own engine.  ``known``: the names
    that the installed version has, for the one argument whose name is not promised; None: as in 1.2.

    Raises:
        ValueError: settings that this engine does not have.
    """
    if settings.precision not in DTYPES:
        raise ValueError(f"serving.precision={settings.precision}: TensorRT-LLM computes in bfloat16, use that or auto")
    if settings.weights != "same":
        raise ValueError(
            f"serving.weights={settings.weights} is of the scratch engine: for TensorRT-LLM serve a quantised checkpoint "
            "(make week8-export writes export-fp8 and export-awq)"
        )
    if settings.device == "cpu":
        raise ValueError("serving.device=cpu: TensorRT-LLM needs an NVIDIA GPU, use serving.engine=scratch on a CPU")
    length = min(context_length, settings.max_tokens or context_length)
    values: dict[str, Any] = {
        "model": str(settings.model),
        "skip_tokenizer_init": True,
        "trust_remote_code": False,
        "tensor_parallel_size": 1,
        "dtype": DTYPES[settings.precision],
        "max_batch_size": settings.max_rows,
        "max_seq_len": length,
        "max_input_len": length,
        # One step may read every prompt that fits and write a token for each row.
        "max_num_tokens": max(8192, length + settings.max_rows),
        "kv_cache_config": {"free_gpu_memory_fraction": KV_CACHE_SHARE, "enable_block_reuse": True},
    }
    values |= sampler_argument(version, known)
    check_arguments(parameters("llm"), values, "LLM")
    check_arguments(signatures()["kv_cache_config"], values["kv_cache_config"], "KvCacheConfig")
    return values


def sampler_argument(version: str, known: Collection[str] | None = None) -> dict[str, Any]:
    """The argument that chooses the sampler with penalties: before 1.3 it is not the default, later it is the only one."""
    if version_tuple(version) >= (1, 3):
        return {}
    if known is None or "sampler_type" in known:
        return {"sampler_type": "TRTLLMSampler"}
    return {"enable_trtllm_sampler": True} if "enable_trtllm_sampler" in known else {}


def sampling_arguments(
    sampling: Sampling, room: int, end_id: int, stop_ids: frozenset[int], *, logprobs: bool = False
) -> dict[str, Any]:
    """Arguments of ``tensorrt_llm.SamplingParams``.

    ``room`` (tokens) is what the context leaves for the answer.  ``stop`` texts are looked for by us, in decoded text.
    """
    values: dict[str, Any] = {
        "max_tokens": min(sampling.max_new_tokens, room),
        "end_id": end_id,
        "pad_id": end_id,
        "stop_token_ids": sorted(stop_ids),
        "detokenize": False,
        "add_special_tokens": False,
        "seed": sampling.seed,
        "repetition_penalty": _unless(sampling.repetition_penalty, 1.0),
        "frequency_penalty": _unless(sampling.frequency_penalty, 0.0),
        "presence_penalty": _unless(sampling.presence_penalty, 0.0),
        "logprobs": 1 if logprobs else None,
    }
    if sampling.temperature == 0:
        values["top_k"] = 1  # greedy, whatever a version makes of the temperature 0
    else:
        values |= {"temperature": float(sampling.temperature), "top_k": sampling.top_k, "top_p": sampling.top_p}
        values["min_p"] = sampling.min_p
    values = {name: value for name, value in values.items() if value is not None}
    check_arguments(parameters("sampling_params"), values, "SamplingParams")
    return values


def serve_command(settings: EngineSettings, context_length: int, options: Path, host: str, port: int) -> list[str]:
    """``trtllm-serve``, its own server of an OpenAI-compatible ``/v1``: the other way, without Triton.

    ``options`` is the file that ``serve_options`` writes.
    """
    values = llm_arguments(settings, context_length, signatures()["version"])
    flags = {
        "--host": host,
        "--port": port,
        "--max_batch_size": values["max_batch_size"],
        "--max_num_tokens": values["max_num_tokens"],
        "--max_seq_len": values["max_seq_len"],
        "--tp_size": values["tensor_parallel_size"],
        "--kv_cache_free_gpu_memory_fraction": values["kv_cache_config"]["free_gpu_memory_fraction"],
        "--extra_llm_api_options": options,
    }
    if unknown := set(flags) - set(signatures()["trtllm_serve"]):
        raise ValueError(f"trtllm-serve has no option {', '.join(sorted(unknown))}")
    # Here the tokenizer and the chat template are read from the checkpoint by trtllm-serve itself.
    return ["trtllm-serve", values["model"], *(str(part) for flag in flags.items() for part in flag)]


def serve_options(settings: EngineSettings, context_length: int) -> str:
    """YAML for ``--extra_llm_api_options``: the arguments of ``LLM()`` that have no flag of their own."""
    values = llm_arguments(settings, context_length, signatures()["version"])
    kept = ("dtype", "max_input_len", "sampler_type", "trust_remote_code")
    return yaml.safe_dump({name: values[name] for name in kept if name in values}, sort_keys=False)


def shell_line(command: list[str]) -> str:
    """A command as one line to copy."""
    return shlex.join(command)


def version_tuple(version: str) -> tuple[int, int]:
    """(major, minor) of "1.2.1" or "1.3.0rc26"."""
    try:
        major, minor = version.split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        raise ValueError(f"TensorRT-LLM's version {version!r} is none: expected something like 1.2.1") from None


def _unless(value: float, neutral: float) -> float | None:
    return None if value == neutral else float(value)
