"""How much memory a piece of work takes at its highest."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch


class MemoryPeak:
    """Bytes that this process, or its GPU, took above where it stood when this was made."""

    def __init__(self, device: str = "cpu"):
        self.device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._start = self._high()

    def bytes(self) -> int:
        return self._high() - self._start

    def _high(self) -> int:
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated()
        return peak_resident_bytes()


def peak_resident_bytes() -> int:
    """The process's largest resident size so far.

    On Linux from VmHWM: ``ru_maxrss`` of a child begins at its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
