"""Text from a model: sampling, stop strings, streaming, batches, a cache that slides, and continuous batching."""

from scratch_llm.generation.continuous import ContinuousBatch, QueueFullError, Request
from scratch_llm.generation.decoder import Decoder, window_start
from scratch_llm.generation.packing import pack
from scratch_llm.generation.sampling import Sampler, SamplingConfig, processed_logits
from scratch_llm.generation.stop_strings import StopStringFilter
from scratch_llm.generation.text import Generator
from scratch_llm.generation.tokens import TokenStream, clear_generate_tokens, generate_tokens

__all__ = [
    "ContinuousBatch",
    "Decoder",
    "Generator",
    "QueueFullError",
    "Request",
    "Sampler",
    "SamplingConfig",
    "StopStringFilter",
    "TokenStream",
    "clear_generate_tokens",
    "generate_tokens",
    "pack",
    "processed_logits",
    "window_start",
]
