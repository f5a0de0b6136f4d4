"""From the tensors of a request to a Job; what is not allowed is a ValueError that names the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llm_workshop.serving.engine import Sampling
from llm_workshop.serving.triton.interface import SAMPLING_PREFIX
from llm_workshop.serving.triton.job import Job, Wishes

# TensorRT-LLM's default; the largest number means "as many as the context has room for" just as well.
DEFAULT_MAX_TOKENS = 32


def is_stop(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the request asks to cancel those with its id."""
    return _scalar(tensors, "stop", False)


def read_job(tensors: Mapping[str, np.ndarray], request_id: str = "", responder: Any = None) -> Job:
    """The job that the tensors (by name; those not given are absent) ask for."""
    sampling = {name.removeprefix(SAMPLING_PREFIX): name for name in tensors if name.startswith(SAMPLING_PREFIX)}
    asked = {short: _scalar(tensors, name) for short, name in sampling.items() if short != "stop"}
    wishes = Wishes(
        streaming=_scalar(tensors, "streaming", False),
        finish_reason=_scalar(tensors, "return_finish_reason", False),
        stop_reason=_scalar(tensors, "return_stop_reason", False),
        cumulative_logprob=_scalar(tensors, "return_cumulative_logprob", False),
        num_input_tokens=_scalar(tensors, "return_num_input_tokens", False),
        num_output_tokens=_scalar(tensors, "return_num_output_tokens", False),
        perf_metrics=asked.pop("return_perf_metrics", False),
        exclude_input=asked.pop("exclude_input_from_output", True),
    )
    return Job(_text(tensors), _sampling(asked, _stop(tensors)), wishes, request_id, responder)


def _text(tensors: Mapping[str, np.ndarray]) -> str:
    texts = tensors["text_input"].reshape(-1)
    if len(texts) != 1:
        raise ValueError(f"text_input has {len(texts)} texts: send one text in a request")
    return _decode(texts[0], "text_input")


def _stop(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    name = SAMPLING_PREFIX + "stop"
    return tuple(_decode(text, name) for text in tensors[name].reshape(-1)) if name in tensors else ()


def _sampling(asked: dict[str, Any], stop: tuple[str, ...]) -> Sampling:
    """TensorRT-LLM's defaults and its special values, in our words."""
    if (best_of := asked.pop("best_of", 1)) != 1:
        raise ValueError(f"{SAMPLING_PREFIX}best_of={best_of}: only 1 is served; send the request several times")
    # Its SamplingParams are greedy where nothing is said; top_k 0 keeps all tokens, top_p 0 the likeliest.
    temperature = asked.pop("temperature", None)
    greedy = temperature is None and "top_k" not in asked and "top_p" not in asked
    if asked.get("top_k") == 0:
        del asked["top_k"]
    if asked.get("top_p") == 0:
        del asked["top_p"]
        greedy = True
    try:
        return Sampling(
            max_new_tokens=asked.pop("max_tokens", DEFAULT_MAX_TOKENS),
            temperature=0.0 if greedy else 1.0 if temperature is None else temperature,
            stop=stop,
            **asked,
        )
    except ValueError as error:
        raise ValueError(SAMPLING_PREFIX + str(error).replace("max_new_tokens", "max_tokens")) from None


def _scalar(tensors: Mapping[str, np.ndarray], name: str, default: Any = None) -> Any:
    """The one value of a tensor as a Python number or bool."""
    if name not in tensors:
        return default
    if tensors[name].size != 1:
        raise ValueError(f"{name} has {tensors[name].size} values: send one")
    return tensors[name].item()


def _decode(text: bytes | str, name: str) -> str:
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 (byte {error.start}, {error.reason}): send text in UTF-8") from None
