"""Allocation: memory that a training step frees is kept for the next one, in huge pages, where glibc manages it.

Every tensor of some megabytes is otherwise asked of the system, zeroed page by page as it is touched, and given back,
hundreds of times a step; and each of its small pages is looked up again by every pass over it. This module does not
know tensors.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import psutil

# From glibc's malloc.h and Linux' mman.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1
_HUGE_PAGES = 14
_HUGE = 1 << 21
_MOST_HUGE = 16 << 30


@cache
def keep_memory() -> bool:
    """From now on this process keeps what it frees, for its own later use; False where that cannot be asked for."""
    libc = _glibc()
    if libc is None:
        return False
    mallopt = libc.mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    kept = bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
    if kept:
        _in_huge_pages(libc)
    return kept


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL(None)
        _ = libc.mallopt, libc.gnu_get_libc_version  # other libraries have a mallopt that does nothing
    except (AttributeError, OSError):
        return None
    return libc


def _in_huge_pages(libc: ctypes.CDLL) -> bool:
    """Ask for huge pages where the heap will grow to; a page is taken when it is touched, not before. The kernel's
    setting "madvise", which most have, gives them to who asks."""
    libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = (ctypes.c_void_p,), None
    libc.madvise.argtypes, libc.madvise.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    size = min(_MOST_HUGE, psutil.virtual_memory().available // 2) // _HUGE * _HUGE
    place = libc.malloc(size)  # the heap grows by it, and keeps it: nothing is ever given back
    if not place:
        return False
    start = -(-place // _HUGE) * _HUGE
    asked = libc.madvise(start, size - _HUGE, _HUGE_PAGES) == 0
    libc.free(place)
    return asked
