"""Which number format to train in: bfloat16 only where the machine computes it faster than float32."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

import torch

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# How Linux names the bf16 matrix units: AVX-512 (Zen 4, Cooper Lake), AMX (Sapphire Rapids), Arm.
_CPU_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512", "avx_bf16": "AVX", "sve_bf16": "SVE", "bf16": "NEON"}


def choose_dtype(precision: str, device: str | torch.device = "cpu") -> tuple[torch.dtype, str]:
    """The dtype for ``precision`` ("auto", "float32" or "bfloat16") and one line that says why.

    >>> dtype, reason = choose_dtype("auto", "cpu")
    """
    if precision in _DTYPES:
        return _DTYPES[precision], f"{precision}: as asked"
    if precision != "auto":
        raise ValueError(f"precision {precision!r} is unknown; choose 'auto', 'float32' or 'bfloat16'")
    units = bfloat16_units(torch.device(device).type)
    if units:
        return torch.bfloat16, f"bfloat16: {units}"
    return torch.float32, "float32: no bfloat16 units here, where bfloat16 would be slower"


@functools.cache
def bfloat16_units(device_type: str) -> str:
    """What makes bfloat16 fast on this device ("AVX-512 bfloat16 units"); "" where nothing does."""
    if device_type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        # Before Ampere (8.0) bf16 is emulated: is_bf16_supported() still says yes there.
        return f"tensor cores of compute capability {major}.{minor}" if major >= 8 else ""
    if device_type == "cpu":
        names = [name for flag, name in _CPU_UNITS.items() if flag in _cpu_flags()]
        return f"{names[0]} bfloat16 units" if names else ""
    return ""


@functools.cache
def _cpu_flags() -> frozenset[str]:
    """The feature words of the first processor in /proc/cpuinfo (x86 "flags", Arm "Features")."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


# Compiling takes 20 to 40 seconds on two cores and makes steps about a quarter faster.
_WORTH_COMPILING_SECONDS = 120


def choose_compile(compile: str, estimated_seconds: float, before: bool | None = None) -> tuple[bool, str]:
    """Whether to run ``torch.compile``, and one line that says why.

    ``before`` is what an interrupted run did: "auto" follows it, since the two round differently.
    """
    compiler = find_compiler()
    if compile == "on" and not compiler:
        raise ValueError("compile=on needs a C++ compiler and none is found; install g++ or set compile=off")
    if compile != "auto":
        return compile == "on", f"{compile}: as asked"
    if before is not None and (compiler or not before):
        return before, f"{'on' if before else 'off'}: as before the interruption"
    if not compiler:
        return False, "off: no C++ compiler found"
    if estimated_seconds < _WORTH_COMPILING_SECONDS:
        return False, "off: too short a run to win it back"
    return True, "on: the run is long enough to win it back; the first step compiles"


def find_compiler() -> str | None:
    """The C++ compiler torch.compile would call ($CXX, else g++ or clang++); None where there is none."""
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return next((path for name in candidates if (path := shutil.which(name))), None)
