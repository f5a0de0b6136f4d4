"""What accelerators can do at most: dense matrix products per second, memory, bandwidth.

Four traps make published MFU figures wrong, and this table avoids them:

* *Sparse figures.*  Data sheets since Ampere print the speed with 2:4 structured sparsity, twice the real one, often
  with nothing but an asterisk.  All figures here are dense.
* *Figures without tensor cores.*  An A100 multiplies float32 matrices at 19.5 TFLOP/s outside the tensor cores, TF32 at
  156 and bfloat16 at 312 inside.  A run in bfloat16 that is held against 19.5 seems to reach 500 %.
* *Accumulation in float16.*  GeForce cards are twice as fast when they sum in float16; PyTorch sums in float32, and so
  do the figures here.
* *The name alone.*  An H100 PCIe has three quarters of the SXM module's speed.

A figure that we could not trace to the vendor is left out rather than guessed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

_DTYPE_NAMES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
_DTYPE_NAMES |= {torch.float8_e4m3fn: "float8", torch.float8_e5m2: "float8"}


@dataclass(frozen=True)
class Device:
    """One accelerator: dense peaks with float32 accumulation, and its memory."""

    name: str
    """What people call it."""
    pattern: str
    """Regular expression of the whole ``torch.cuda.get_device_name()``."""
    peaks: Mapping[str, float]
    """FLOP/s of matrix products by format: float32 (no tensor cores), tf32, float16, bfloat16, float8."""
    memory_bytes: float
    """Memory as sold, in units of 10^9.  The chip has about 7 % more; the CUDA context and the allocator's gaps take it."""
    bandwidth: float
    """Bytes per second between memory and chip."""
    source: str
    """The vendor's document that the figures are from."""

    def peak(self, precision: torch.dtype | str) -> float:
        """Dense FLOP/s for a dtype or a key of ``peaks``; ValueError lists what there is.

        ``torch.float32`` is the speed without TF32, PyTorch's default; ask for "tf32" where
        ``torch.backends.cuda.matmul.allow_tf32`` is on.
        """
        key = _DTYPE_NAMES.get(precision, precision) if isinstance(precision, torch.dtype) else precision
        if key not in self.peaks:
            raise ValueError(f"no {key} peak is known for the {self.name}: there are {', '.join(self.peaks)}")
        return self.peaks[key]


def _device(
    name: str, pattern: str, memory: float, bandwidth: float, source: str, **teraflops: float
) -> Device:
    """``memory`` in GB, ``bandwidth`` in GB/s."""
    peaks = {key: value * 1e12 for key, value in teraflops.items()}
    return Device(name, pattern, peaks, memory * 1e9, bandwidth * 1e9, source)


_V100 = "NVIDIA V100 data sheet"
_V100_SXM = {"float32": 15.7, "float16": 125}
_V100_PCIE = {"float32": 14, "float16": 112}
_A100 = "NVIDIA A100 data sheet"
_GA100 = {"float32": 19.5, "tf32": 156, "float16": 312, "bfloat16": 312}
_HOPPER = "NVIDIA H100 Tensor Core GPU Architecture white paper"
_GH100_SXM = {"float32": 66.9, "tf32": 494.7, "float16": 989.4, "bfloat16": 989.4, "float8": 1978.9}

DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        _device("T4", r"(Tesla|NVIDIA) T4", 16, 320, "NVIDIA T4 product brief", float32=8.1, float16=65),
        _device("V100 SXM2 16GB", r"(Tesla|NVIDIA) V100-SXM2-16GB", 16, 900, _V100, **_V100_SXM),
        _device("V100 SXM2 32GB", r"(Tesla|NVIDIA) V100-SXM2-32GB", 32, 900, _V100, **_V100_SXM),
        _device("V100 PCIe 16GB", r"(Tesla|NVIDIA) V100-PCIE-16GB", 16, 900, _V100, **_V100_PCIE),
        _device("V100 PCIe 32GB", r"(Tesla|NVIDIA) V100-PCIE-32GB", 32, 900, _V100, **_V100_PCIE),
        _device(
            "A10", r"NVIDIA A10", 24, 600, "NVIDIA A10 data sheet",
            float32=31.2, tf32=62.5, float16=125, bfloat16=125,
        ),
        _device("A100 SXM 40GB", r"(NVIDIA )?A100-SXM4-40GB", 40, 1555, _A100, **_GA100),
        _device("A100 SXM 80GB", r"(NVIDIA )?A100-SXM4-80GB", 80, 2039, _A100, **_GA100),
        _device("A100 PCIe 40GB", r"(NVIDIA )?A100-PCIE-40GB", 40, 1555, _A100, **_GA100),
        _device("A100 PCIe 80GB", r"(NVIDIA )?A100 80GB PCIe", 80, 1935, _A100, **_GA100),
        # The data sheets of L4, H100 NVL, H200 and B200 print sparse figures only: halved here.
        _device(
            "L4", r"NVIDIA L4", 24, 300, "NVIDIA L4 data sheet (sparse figures halved)",
            float32=30.3, tf32=60, float16=121, bfloat16=121, float8=242.5,
        ),
        _device(
            "L40S", r"NVIDIA L40S", 48, 864, "NVIDIA L40S data sheet",
            float32=91.6, tf32=183, float16=362.05, bfloat16=362.05, float8=733,
        ),
        _device(
            "RTX 3090", r"(NVIDIA )?GeForce RTX 3090", 24, 936, "NVIDIA Ampere GA102 white paper",
            float32=35.6, tf32=35.6, float16=71, bfloat16=71,
        ),
        _device(
            "RTX 4090", r"(NVIDIA )?GeForce RTX 4090", 24, 1008, "NVIDIA Ada GPU Architecture white paper",
            float32=82.6, tf32=82.6, float16=165.2, bfloat16=165.2, float8=330.3,
        ),
        _device(
            "RTX 5090", r"(NVIDIA )?GeForce RTX 5090", 32, 1792, "NVIDIA RTX Blackwell GPU Architecture white paper",
            float32=104.8, tf32=104.8, float16=209.5, bfloat16=209.5, float8=419,
        ),
        _device("H100 SXM", r"(NVIDIA )?H100 80GB HBM3", 80, 3350, _HOPPER, **_GH100_SXM),
        _device(
            "H100 PCIe", r"(NVIDIA )?H100 PCIe", 80, 2000, _HOPPER,
            float32=51.2, tf32=378, float16=756, bfloat16=756, float8=1513,
        ),
        _device(
            "H100 NVL", r"(NVIDIA )?H100 NVL", 94, 3900, "NVIDIA H100 data sheet (sparse figures halved)",
            float32=60, tf32=417.5, float16=835.5, bfloat16=835.5, float8=1670.5,
        ),
        _device(
            "H200", r"(NVIDIA )?H200", 141, 4800, "NVIDIA H200 data sheet (sparse figures halved)",
            float32=67, tf32=494.5, float16=989.5, bfloat16=989.5, float8=1979,
        ),
        _device(
            "B200", r"(NVIDIA )?B200", 180, 8000, "NVIDIA DGX B200 data sheet (an eighth, sparse figures halved)",
            float16=2250, bfloat16=2250, float8=4500,
        ),
    )
}  # fmt: skip


def find_device(name: str) -> Device | None:
    """The device that ``torch.cuda.get_device_name()`` calls ``name``; None where it is not in the table.

    The whole name counts: a "RTX 4090 Laptop GPU", a "3090 Ti" or a MIG slice is not the card it is named after.
    """
    return next((device for device in DEVICES.values() if re.fullmatch(device.pattern, name.strip())), None)


def device_named(name: str) -> Device:
    """The device with a name of ``DEVICES`` (case does not matter); ValueError suggests the nearest."""
    by_lower = {known.lower(): device for known, device in DEVICES.items()}
    if name.lower() not in by_lower:
        near = [known for known in DEVICES if known.lower().startswith(name.lower())] or [
            by_lower[match].name for match in difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.5)
        ]
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise ValueError(f"device {name!r} is not in the table{hint}: it has {', '.join(DEVICES)}")
    return by_lower[name.lower()]


def nominal_peak(device: torch.device | str, dtype: torch.dtype) -> float | None:
    """The data sheet's dense FLOP/s of the device that holds a model; None on a CPU or where it is not known."""
    device = torch.device(device)
    found = find_device(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    if found is None:
        return None
    tf32 = dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return found.peaks.get("tf32" if tf32 else _DTYPE_NAMES.get(dtype, ""))
