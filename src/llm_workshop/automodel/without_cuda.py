"""NeMo AutoModel and Megatron core on a machine without a GPU; imported by the Python of ``.envs/nemo``.

Both name CUDA outright in a few places where they need no GPU.  With one nothing is touched.
"""

from __future__ import annotations

import types


def without_cuda() -> None:
    """Ask for the current device and get the CPU."""
    import torch

    if not torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats = lambda *_, **__: None
        torch.cuda.current_device = lambda: torch.device("cpu")


def automodel_without_cuda() -> None:
    """The same, and where AutoModel builds ``torch.device("cuda", n)`` by hand it gets the CPU."""
    import torch

    without_cuda()
    if not torch.cuda.is_available():
        import nemo_automodel._transformers.auto_model as auto_model

        stand_in = types.ModuleType("torch")
        stand_in.__getattr__ = lambda name: getattr(torch, name)
        stand_in.device = lambda *_: torch.device("cpu")
        auto_model.torch = stand_in
