"""Resident memory against an allocation of a known size."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from scratch_llm import process_memory


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_freed_block_is_in_the_peak_and_not_in_what_is_resident():
    """In a process of its own: elsewhere memory freed before would be used again."""
    code = (
        "from scratch_llm.process_memory import peak_resident_bytes, resident_bytes\n"
        "before, high = resident_bytes(), peak_resident_bytes()\n"
        "block = bytearray(100_000_000); during = resident_bytes(); del block\n"
        "print(during - before, resident_bytes() - before, peak_resident_bytes() - high)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    during, after, peak = map(int, child.stdout.split())
    assert 99e6 < during < 105e6 and abs(after) < 5e6 and 95e6 < peak < 105e6


def test_without_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(process_memory, "STATUS", tmp_path / "status")
    with pytest.raises(OSError, match="status, which this system does not have: measure on Linux") as caught:
        process_memory.resident_bytes()
    assert "\n" not in str(caught.value)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = process_memory.peak_resident_bytes()
    assert 0 < peak <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
