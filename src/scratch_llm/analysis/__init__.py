"""What a model costs: parameters, operations, memory, and how much of a device it uses.

Everything takes a model or a configuration.  A configuration is built on the meta device, where a tensor has a shape
and no memory, so that a model of 70 billion weights is counted in a second on a laptop.
"""

from scratch_llm.analysis.activations import Activations, count_activations, saved_bytes
from scratch_llm.analysis.devices import DEVICES, Device, device_named, find_device, nominal_peak
from scratch_llm.analysis.flops import (
    context_share,
    decode_flops,
    forward_flops,
    generation_flops,
    prefill_flops,
    six_n,
    training_flops,
)
from scratch_llm.analysis.memory import (
    RECIPES,
    TrainingMemory,
    block_activation_bytes,
    cache_bytes,
    kv_bytes_per_token,
    training_memory,
    weight_bytes,
)
from scratch_llm.analysis.mfu import TrainingRun, decode_bytes, fastest_decoding, mbu, mfu, training_run
from scratch_llm.analysis.parameters import Component, active_parameters, count_parameters, total_parameters
from scratch_llm.analysis.published import PUBLISHED, Published, published_config
from scratch_llm.analysis.shapes import as_shapes

__all__ = [
    "DEVICES",
    "PUBLISHED",
    "RECIPES",
    "Activations",
    "Component",
    "Device",
    "Published",
    "TrainingMemory",
    "TrainingRun",
    "active_parameters",
    "as_shapes",
    "block_activation_bytes",
    "cache_bytes",
    "context_share",
    "count_activations",
    "count_parameters",
    "decode_bytes",
    "decode_flops",
    "device_named",
    "fastest_decoding",
    "find_device",
    "forward_flops",
    "generation_flops",
    "kv_bytes_per_token",
    "mbu",
    "mfu",
    "nominal_peak",
    "prefill_flops",
    "published_config",
    "saved_bytes",
    "six_n",
    "total_parameters",
    "training_flops",
    "training_memory",
    "training_run",
    "weight_bytes",
]
