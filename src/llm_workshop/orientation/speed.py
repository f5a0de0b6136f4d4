"""What this machine does: matrix products by format, reading memory, importing libraries."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import torch

FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def product_speeds(device: str, n: int, seconds: float = 0.3) -> dict[str, float]:
    """FLOP/s of an n x n product by format, the fastest of those that fit into ``seconds``; on a GPU TF32, too.

    A format that the device cannot multiply is left out.
    """
    speeds = {}
    for name, dtype in FORMATS.items():
        speeds[name] = _fastest(device, n, dtype, seconds)
    if device == "cuda":
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        speeds["tf32"] = _fastest(device, n, torch.float32, seconds)
        torch.set_float32_matmul_precision(before)
    return {name: speed for name, speed in speeds.items() if speed}


def _fastest(device: str, n: int, dtype: torch.dtype, seconds: float) -> float | None:
    """A smaller product is tried first; a format that is so slow that the large one would take seconds stays with it."""
    try:
        small = _best_time(device, n // 4, dtype, seconds=0)
        size = n if 64 * small < 2 else n // 4
        return 2 * size**3 / _best_time(device, size, dtype, seconds)
    except RuntimeError:
        return None


def _best_time(device: str, n: int, dtype: torch.dtype, seconds: float) -> float:
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    (a @ b)[0, 0].item()  # the first one also loads kernels
    best, ends = float("inf"), time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for a GPU
        best = min(best, time.perf_counter() - started)
        if time.perf_counter() >= ends:
            return best


def copy_bandwidth(device: str, megabytes: int = 256, repeats: int = 5) -> float:
    """Bytes per second that a copy within the device's memory reads and writes."""
    source = torch.ones(megabytes * 250_000, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(repeats + 1):
        started = time.perf_counter()
        target.copy_(source)
        target[0].item()
        best = min(best, time.perf_counter() - started)
    return 2 * source.numel() * 4 / best


def import_seconds(modules: Sequence[str]) -> list[tuple[str, float, float]]:
    """(module, first, again): seconds that a new Python takes to import it, the first time and at best of three more.

    The first may compile bytecode and read the files from disk; after it they are in the system's cache.  A single
    repetition may well be slower than the first where the machine is busy, so the least of them counts, the first too.
    """
    found = []
    for module in modules:
        times = []
        for _ in range(4):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=True, timeout=300)
            times.append(time.perf_counter() - started)
        found.append((module, times[0], min(times)))
    return found


def fetch_tiktoken(seconds: float = 30) -> str:
    """Have tiktoken keep GPT-2's vocabulary (about 1.5 MB) for later weeks; says in Korean what came of it.

    In a process of its own, which is ended after ``seconds``: a network that swallows packets must not hold up a class.
    """
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import tiktoken; tiktoken.get_encoding('gpt2')"], capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"{seconds:.0f}초 안에 받지 못했습니다. 네트워크가 있는 곳에서 다시 해 보세요"
    if done.returncode != 0:
        return "받지 못했습니다. 필요한 실습은 이 토크나이저를 빼고 돌아갑니다"
    return f"준비되었습니다 ({time.perf_counter() - started:.1f}초)"
