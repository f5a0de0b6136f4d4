"""Memory that one step frees is there for the next, without page faults."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from scratch_llm.training.allocator import keep_freed_memory
if {keep}: assert keep_freed_memory()
def step():
    for _ in range(3):
        torch.full((20_000_000,), 1.0)  # 80 MB: above glibc's largest mmap threshold
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):  # small allocations may cut a freed block once or twice before the heap settles
    step()
before = faults()
for _ in range(3):
    step()
print(faults() - before)
"""


def faults(keep: bool) -> int:
    return int(subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True,
                              check=True, timeout=60).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_steps_take_no_page_faults_once_the_heap_has_settled():
    returned, kept = faults(keep=False), faults(keep=True)
    if returned < 2000:  # transparent huge pages everywhere: 2 MB a fault
        pytest.skip(f"this kernel takes only {returned} faults for 720 MB: there is nothing to save")
    assert kept < returned / 100
