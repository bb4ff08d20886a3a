"""Allocation: memory that a training step frees is kept for the next one, where glibc manages it.

Every tensor of some megabytes is otherwise asked of the system, zeroed page by page as it is touched, and given back,
hundreds of times a step. Huge pages were tried for that memory (madvise on the heap; 15M parameters, 288 and 512 wide,
two threads) and were no faster, so they are not asked for. This module does not know tensors.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1


@cache
def keep_memory() -> bool:
    """From now on this process keeps what it frees, for its own later use; False where that cannot be asked for."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018  # other libraries have a mallopt that does nothing
    except (AttributeError, OSError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
