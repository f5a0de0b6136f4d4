"""Text from a model: sampling, stop strings, streaming, batches, and a cache that slides."""

from scratch_llm.generation.decoder import Decoder, window_start
from scratch_llm.generation.packing import pack
from scratch_llm.generation.sampling import Sampler, SamplingConfig, processed_logits
from scratch_llm.generation.stop_strings import StopStringFilter
from scratch_llm.generation.text import Generator
from scratch_llm.generation.tokens import TokenStream, clear_generate_tokens, generate_tokens

__all__ = [
    "Decoder",
    "Generator",
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
