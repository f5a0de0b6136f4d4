"""The matrix-product speed this device really reaches: the 100 % of MFU.

Model FLOPs utilisation (Chowdhery et al., "PaLM", 2022, appendix B) divides the FLOP/s a model needs by the
hardware's peak.  A data sheet's peak says little about the two cores or the power limit at hand, so the peak
is measured: the fastest of several large products in the dtype that training uses.
"""

from __future__ import annotations

import functools
import time

import torch

_SIZES = ((1024, 1024, 1024), (2048, 1024, 1024), (2048, 2048, 2048))
_LARGE_SIZES = ((4096, 4096, 4096), (8192, 8192, 8192))  # a GPU needs these to show its peak


def measure_matmul_peak(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32,
                        seconds: float = 0.5) -> float:
    """FLOP/s of the fastest of a few large matrix products, in about ``seconds``.

    A product of (m, k) by (k, n) counts 2 * m * k * n FLOPs.  The best time counts, not the mean: what is
    asked is the hardware's ability, not how busy the machine happens to be.
    """
    device = torch.device(device)
    sizes = _LARGE_SIZES if device.type == "cuda" else _SIZES
    return max(_flops_per_second(device, dtype, size, seconds / len(sizes)) for size in sizes)


@functools.cache
def matmul_peak(device_type: str, dtype: torch.dtype) -> float:
    """``measure_matmul_peak``, once per process."""
    return measure_matmul_peak(device_type, dtype)


def _flops_per_second(device: torch.device, dtype: torch.dtype, size: tuple[int, int, int], seconds: float) -> float:
    m, k, n = size
    generator = torch.Generator(device).manual_seed(0)
    left = torch.randn(m, k, device=device, generator=generator).to(dtype)
    right = torch.randn(n, k, device=device, generator=generator).to(dtype).t()  # as a linear layer's weight lies
    result = torch.empty(m, n, device=device, dtype=dtype)
    torch.mm(left, right, out=result)  # loads the kernel
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(left, right, out=result)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * m * k * n / best
