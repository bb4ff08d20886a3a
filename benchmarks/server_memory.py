"""What a process's memory is made of, told by itself: keys and values, malloc in use and free, stacks, files.

    runpy.run_path("benchmarks/server_memory.py")["watch"](path, seconds)

starts a thread that appends a line of JSON to `path` every so many seconds; benchmarks/load_server.py has its server do
so. Linux and glibc only; elsewhere what cannot be known is left out. All in bytes but what is named otherwise:

    rss             all of it, as the system counts
    keys_values     pages of key/value memory that were touched; the engine's bound is all of it
    malloc_used     what malloc has given out (keys and values left out)
    malloc_free     what it holds back for later: freed, and not given back to the system
    python          Python's own small objects; `python_blocks` is their number
    stacks          of threads
    files           code and data mapped from files
    other           the rest; below zero where malloc counts what was never touched
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
HEADER = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+)\s*(.*)$")


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def touched(address: int, size: int) -> int:
    """Bytes of a stretch of memory that the system has given."""
    start = address // PAGE * PAGE
    length = -(-(address + size - start) // PAGE)
    seen = (ctypes.c_ubyte * length)()
    if ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(start), ctypes.c_size_t(length * PAGE), seen):
        return 0
    return sum(one & 1 for one in seen) * PAGE


def keys_values() -> tuple[int, int]:
    """(touched, whole) bytes of the key/value memory of all engines."""
    from bloomery.models.paged import PagedMemory

    tensors = [one for found in gc.get_objects() if type(found) is PagedMemory for one in (*found.keys, *found.values)]
    return sum(touched(one.data_ptr(), one.nbytes) for one in tensors), sum(one.nbytes for one in tensors)


def python_bytes() -> int:
    """Bytes of the arenas of Python's allocator of small objects."""
    # It tells them on the C library's stderr only.
    with tempfile.TemporaryFile() as told:
        kept = os.dup(2)
        try:
            os.dup2(told.fileno(), 2)
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        told.seek(0)
        found = re.search(rb"arenas \* \d+ bytes/arena\s*=\s*([\d,]+)", told.read())
    return int(found[1].replace(b",", b"")) if found else 0


def mappings() -> dict[str, int]:
    """Resident bytes of stacks (by their size and guard) and of files."""
    stacks = files = 0
    usual, name, size = 8 << 20, "", 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        header = HEADER.match(line)
        if header:
            size, name = int(header[2], 16) - int(header[1], 16), header[5]
        elif line.startswith("Rss:"):
            resident = int(line.split()[1]) * 1024
            stacks += resident if name.startswith("[stack") or (not name and size == usual) else 0
            files += resident if name.startswith("/") else 0
    return {"stacks": stacks, "files": files}


def sample() -> dict[str, Any]:
    """See the module."""
    told: dict[str, Any] = {"python_blocks": sys.getallocatedblocks(), "threads": threading.active_count()}
    told["rss"] = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    told["keys_values"], whole = keys_values()
    told["keys_values_bound"] = whole
    told |= mappings()
    library = ctypes.CDLL(None)
    if hasattr(library, "mallinfo2"):
        library.mallinfo2.restype = _Mallinfo
        info = library.mallinfo2()
        told["malloc_used"], told["malloc_free"] = info.uordblks + info.hblkhd - whole, info.fordblks
    told["python"] = python_bytes()
    parts = ("keys_values", "malloc_used", "malloc_free", "python", "stacks", "files")
    told["other"] = told["rss"] - sum(told.get(part, 0) for part in parts)
    return told


def watch(path: str, seconds: float) -> None:
    """See the module."""
    began = time.monotonic()

    def look() -> None:
        while True:
            time.sleep(seconds)
            told = {"seconds": round(time.monotonic() - began, 1), **sample()}
            with Path(path).open("a") as out:
                out.write(json.dumps(told) + "\n")

    threading.Thread(target=look, daemon=True, name="memory").start()
