"""What goes into and comes out of the served model: one table for the model repository, the engines and the client.

Names and types are those of the ``llmapi`` model of TensorRT-LLM 1.2 (triton_backend/all_models/llmapi), so that a
client cannot tell the engines apart.  Rows marked ``extension`` are ours: optional inputs that TensorRT-LLM's
SamplingParams know too, and token counts, named as in its older Triton models.

Streaming, as there: one response a step, whose ``text_output`` is the *whole* answer so far; several steps may share a
response when the engine is faster than the wire.  The last response has the finish reason and Triton's final flag.
Without ``streaming`` there is that last response alone.  This module imports nothing but the standard library: it is
read in the server's environment too.
"""

from __future__ import annotations

from typing import NamedTuple

#: The model's name in the repository, as TensorRT-LLM's.
MODEL_NAME = "tensorrt_llm"


class Tensor(NamedTuple):
    """One input or output: ``datatype`` in the protocol's words ("BYTES" is a text), ``dims`` without a batch."""

    name: str
    datatype: str
    dims: tuple[int, ...] = (1,)
    optional: bool = True
    extension: bool = False


SAMPLING_PREFIX = "sampling_param_"

INPUTS = (
    Tensor("text_input", "BYTES", (-1,), optional=False),
    Tensor("streaming", "BOOL"),
    Tensor("sampling_param_best_of", "INT32"),
    Tensor("sampling_param_temperature", "FP32"),
    Tensor("sampling_param_top_k", "INT32"),
    Tensor("sampling_param_top_p", "FP32"),
    Tensor("sampling_param_frequency_penalty", "FP32"),
    Tensor("sampling_param_presence_penalty", "FP32"),
    Tensor("sampling_param_max_tokens", "INT32"),
    Tensor("sampling_param_stop", "BYTES", (-1,)),
    Tensor("sampling_param_seed", "UINT64"),
    Tensor("sampling_param_exclude_input_from_output", "BOOL"),
    Tensor("sampling_param_return_perf_metrics", "BOOL"),
    Tensor("return_finish_reason", "BOOL"),
    Tensor("return_stop_reason", "BOOL"),
    Tensor("return_cumulative_logprob", "BOOL"),
    Tensor("stop", "BOOL"),
    Tensor("sampling_param_min_p", "FP32", extension=True),
    Tensor("sampling_param_repetition_penalty", "FP32", extension=True),
    Tensor("return_num_input_tokens", "BOOL", extension=True),
    Tensor("return_num_output_tokens", "BOOL", extension=True),
)

OUTPUTS = (
    Tensor("text_output", "BYTES", (-1,), optional=False),
    Tensor("finish_reason", "BYTES", (-1,)),
    Tensor("stop_reason", "BYTES", (-1,)),
    Tensor("cumulative_logprob", "FP32", (-1,)),
    Tensor("arrival_time_ns", "INT64"),
    Tensor("first_scheduled_time_ns", "INT64"),
    Tensor("first_token_time_ns", "INT64"),
    Tensor("last_token_time_ns", "INT64"),
    Tensor("num_input_tokens", "INT32", extension=True),
    Tensor("num_output_tokens", "INT32", extension=True),
)

#: In config.pbtxt ``parameters``: the served model's ModelInfo (engine.py) as JSON, for clients to read.
MODEL_INFO = "model_info"

#: Messages of errors begin so: an error inside a gRPC stream has no code, and UNAVAILABLE is also what a dead server gives.
BUSY = "busy: "
INVALID = "invalid request: "
PROMPT_TOO_LONG = "prompt too long: "  # then "N tokens, at most M", which clients parse

#: Prometheus metrics of ours, beside Triton's own (nv_inference_...); each has the labels model and instance.
METRIC_TOKENS = "workshop_generated_tokens_total"
METRIC_PROMPT_TOKENS = "workshop_prompt_tokens_total"
METRIC_REQUESTS = "workshop_requests_total"  # also labelled outcome: stop, length, cancelled, busy, invalid, error
METRIC_STEPS = "workshop_steps_total"
METRIC_FIRST_TOKEN = "workshop_time_to_first_token_seconds"  # histogram where the server has them, else _sum and _count
METRIC_WAITING = "workshop_requests_waiting"
METRIC_RUNNING = "workshop_requests_running"
