"""Does this GPU go with this build of torch, and which formats it multiplies fast."""

from __future__ import annotations

import re
from typing import Any

#: Compute capability from which tensor cores have a format, and the family that brought it (CUDA C++ Programming Guide,
#: table "Tensor Core input precisions").
FORMATS = {"float16": (7, 0), "bfloat16": (8, 0), "tf32": (8, 0), "float8": (8, 9), "float4": (10, 0)}
FAMILIES = {(7, 0): "Volta", (7, 5): "Turing", (8, 0): "Ampere", (8, 6): "Ampere", (8, 9): "Ada", (9, 0): "Hopper", (10, 0): "Blackwell", (12, 0): "Blackwell"}


def supports(capability: tuple[int, int], arch_list: list[str]) -> bool:
    """Whether a build of torch has code for a GPU.

    ``arch_list`` is ``torch.cuda.get_arch_list()``: ``sm_80`` is machine code, which runs on its own generation (8.x) of
    that minor number or later; ``compute_80`` is PTX, which the driver translates for any later GPU.
    """
    for name in arch_list:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name)
        if match is None:
            continue
        have = int(match[2]), int(match[3])
        if match[1] == "compute" and have <= capability:
            return True
        if match[1] == "sm" and have[0] == capability[0] and have[1] <= capability[1]:
            return True
    return False


def fast_formats(capability: tuple[int, int]) -> list[str]:
    """Formats that the GPU's tensor cores multiply."""
    return [name for name, since in FORMATS.items() if capability >= since]


def family(capability: tuple[int, int]) -> str:
    """Name of the architecture; "?" for one that is not in the table."""
    return FAMILIES.get(capability, "?")


def gpu_rows() -> list[dict[str, Any]]:
    """Each GPU that torch sees; an empty list without one."""
    import torch

    if not torch.cuda.is_available():
        return []
    arch_list = torch.cuda.get_arch_list()
    rows = []
    for number in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(number)
        memory = torch.cuda.get_device_properties(number).total_memory
        rows.append({
            "GPU": torch.cuda.get_device_name(number), "세대": f"{family(capability)} (sm_{capability[0]}{capability[1]})",
            "메모리 (GB)": round(memory / 1e9, 1), "이 torch에 맞는 코드": "있음" if supports(capability, arch_list) else "없음",
            "빠른 형식": ", ".join(fast_formats(capability)),
        })  # fmt: skip
    return rows
