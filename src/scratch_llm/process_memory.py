"""Resident memory of this process, as the kernel counts it: now, and at its highest."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """Bytes in memory now, pages of mapped files included.

    Raises:
        OSError: a system without /proc.
    """
    if not STATUS.is_file():
        raise OSError(
            f"resident memory is read from {STATUS}, which this system does not have: measure on Linux"
        )
    return _field("VmRSS")


def peak_resident_bytes() -> int:
    """The largest ``resident_bytes`` so far: the kernel keeps it itself, so no moment is missed.

    On Linux from VmHWM: ``ru_maxrss`` of a child begins at its parent's peak.
    """
    if STATUS.is_file():
        return _field("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _field(name: str) -> int:
    """A field in kB of /proc/self/status, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
