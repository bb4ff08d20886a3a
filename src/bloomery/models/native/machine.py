"""The machine: what is remembered of it, and of models on it, is kept by these, and where.

Read without PyTorch. This module does not know what is kept.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from bloomery.core.config import digest


@cache
def processor() -> str:
    """Its name and what it can do, as the system tells, in 64 hex digits where there is more than a name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return " ".join((platform.machine(), platform.processor()))
    told = dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
    return digest(list(told))


def cached(name: str) -> Path:
    """The file or folder of that name among what may be thrown away at any time: $XDG_CACHE_HOME/bloomery, or
    ~/.cache/bloomery. RuntimeError for a user who has no home."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home else Path.home() / ".cache") / "bloomery" / name
