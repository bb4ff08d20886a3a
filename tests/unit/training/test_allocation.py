"""keep_memory: asked once, answered with whether it was possible."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from bloomery.training.allocation import keep_memory

COUNT = """
import resource, torch
from bloomery.training.allocation import keep_memory
print(keep_memory())
for turn in range(6):
    if turn == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(1 << 21)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="another C library")
def test_memory_that_was_freed_is_not_asked_for_again():
    found = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    asked, faults = found.stdout.split()
    # Twelve tensors of 8 MB would fault on 2,048 pages each.
    assert asked == "True" and int(faults) < 2048
    assert keep_memory() is keep_memory()
