"""Weights in fewer bits: what they are rounded to, and back."""

from scratch_llm.quantization.int8 import dequantize_rows, quantize_rows

__all__ = ["dequantize_rows", "quantize_rows"]
