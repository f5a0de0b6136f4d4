"""A request in the model's own inputs: what the person set, and nothing that the model does not have."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from llm_workshop.serving.engine import Sampling
from llm_workshop.serving.triton.interface import INPUTS, SAMPLING_PREFIX

_FORMATS = {"BOOL": "?", "INT32": "i", "INT64": "q", "UINT32": "I", "UINT64": "Q", "FP32": "f", "FP64": "d"}
_EXTENSIONS = {tensor.name for tensor in INPUTS if tensor.extension}


class Input(NamedTuple):
    """A model's input as the server tells it: ``n_dims`` counts the batch where the model has one."""

    datatype: str
    n_dims: int


@dataclass(frozen=True)
class Interface:
    """Names of the model's inputs and outputs."""

    inputs: Mapping[str, Input]
    outputs: frozenset[str]


def with_seed(sampling: Sampling) -> Sampling:
    """A seed for every answer that draws: servers differ in what they do without one (some always take the same)."""
    if sampling.seed is not None or sampling.temperature == 0:
        return sampling
    return replace(sampling, seed=secrets.randbelow(2**63))


def input_values(
    text: str, sampling: Sampling, interface: Interface, *, model: str, seed_is_chosen: bool = True, logprob: bool = False
) -> dict[str, Any]:
    """Input name -> value (a number, a bool, a text or a list of texts).

    Raises ValueError for what was set and the model has no input for; ``seed_is_chosen`` False marks a seed that
    nobody asked for.
    """
    if "text_input" not in interface.inputs:
        raise ValueError(f"model {model!r} has no input text_input, it is no text model: its inputs are {', '.join(sorted(interface.inputs))}")
    prefix = SAMPLING_PREFIX
    asked: dict[str, Any] = {f"{prefix}max_tokens": sampling.max_new_tokens, f"{prefix}temperature": float(sampling.temperature)}
    for name, off in (("top_k", None), ("top_p", None), ("min_p", None), ("repetition_penalty", 1.0),
                      ("frequency_penalty", 0.0), ("presence_penalty", 0.0), ("seed", None)):  # fmt: skip
        if (value := getattr(sampling, name)) not in (None, off):
            asked[prefix + name] = value
    if sampling.stop:
        asked[f"{prefix}stop"] = list(sampling.stop)
    values: dict[str, Any] = {"text_input": text}
    for name, value in asked.items():
        if name in interface.inputs:
            values[name] = value
        elif name != f"{prefix}seed" or seed_is_chosen:
            raise ValueError(_missing(name.removeprefix(prefix), value, model, name in _EXTENSIONS))
    wishes = {"streaming": True, f"{prefix}exclude_input_from_output": True, "return_finish_reason": True,
              "return_num_input_tokens": True, "return_num_output_tokens": True, "return_cumulative_logprob": logprob}  # fmt: skip
    values |= {name: True for name, wanted in wishes.items() if wanted and name in interface.inputs}
    return values


def raw_bytes(value: Any, datatype: str) -> tuple[int, bytes]:
    """(number of elements, contents) as ``raw_input_contents`` has them: little-endian, a text with its length first."""
    elements = value if isinstance(value, list) else [value]
    if datatype == "BYTES":
        texts = [element.encode("utf-8", "ignore") for element in elements]
        return len(texts), b"".join(struct.pack("<I", len(text)) + text for text in texts)
    if datatype not in _FORMATS:
        raise ValueError(f"the model wants an input of type {datatype}, which this client cannot send: use one of {', '.join(_FORMATS)}")
    try:
        return len(elements), struct.pack(f"<{len(elements)}{_FORMATS[datatype]}", *elements)
    except struct.error:
        raise ValueError(f"{value!r} does not fit the model's input of type {datatype}: use a smaller number") from None


def _missing(name: str, value: Any, model: str, extension: bool) -> str:
    why = "an addition of this workshop's engines" if extension else "which this server does not have"
    return f"{name}={value!r}: model {model!r} has no input for it ({why}): leave {name} out"
