"""Weights in fewer bits: what they are rounded to, and back."""

from scratch_llm.quantization.affine import (
    QuantizationError,
    QuantizedTensor,
    quantization_error,
    quantize,
)
from scratch_llm.quantization.awq import awq
from scratch_llm.quantization.dynamic import DynamicInt8Linear
from scratch_llm.quantization.gptq import gptq, hessian
from scratch_llm.quantization.int4 import Int4Linear, pack_int4, unpack_int4
from scratch_llm.quantization.int8 import dequantize_rows, quantize_rows
from scratch_llm.quantization.linear import QuantizedLinear
from scratch_llm.quantization.model import Scheme, model_bytes, quantizable, quantize_model, schemes
from scratch_llm.quantization.saving import load_quantized, save_quantized
from scratch_llm.quantization.smoothquant import smooth, smoothing_scales

__all__ = [
    "DynamicInt8Linear",
    "Int4Linear",
    "QuantizationError",
    "QuantizedLinear",
    "QuantizedTensor",
    "Scheme",
    "awq",
    "dequantize_rows",
    "gptq",
    "hessian",
    "load_quantized",
    "model_bytes",
    "pack_int4",
    "quantizable",
    "quantization_error",
    "quantize",
    "quantize_model",
    "quantize_rows",
    "save_quantized",
    "schemes",
    "smooth",
    "smoothing_scales",
    "unpack_int4",
]
