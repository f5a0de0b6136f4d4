"""Our models in the formats of other programs: GGUF for llama.cpp and Ollama, ModelOpt for TensorRT-LLM.

ONNX is left out: torch's exporter needs two further packages (onnxscript and onnxruntime) and gives one pass of the
model without a cache, so that nothing here would generate with it.
"""

from llm_workshop.export.checkpoint import Checkpoint
from llm_workshop.export.gguf_file import GGUF_TYPES, write_gguf
from llm_workshop.export.gguf_tokenizer import LLAMA_CPP_PATTERNS, agreement, exact_pre_tokenizer

__all__ = [
    "GGUF_TYPES",
    "LLAMA_CPP_PATTERNS",
    "Checkpoint",
    "agreement",
    "exact_pre_tokenizer",
    "write_gguf",
]
