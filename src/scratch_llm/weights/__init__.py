"""Model files: Hugging Face folders, read and written."""

from scratch_llm.weights.huggingface import load_model, save_model
from scratch_llm.weights.rules import Rule, from_huggingface, to_huggingface

__all__ = ["Rule", "from_huggingface", "load_model", "save_model", "to_huggingface"]
