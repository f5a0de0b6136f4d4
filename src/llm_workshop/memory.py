"""How much memory a piece of work takes at its highest."""

from __future__ import annotations

import torch

from scratch_llm.process_memory import peak_resident_bytes


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
