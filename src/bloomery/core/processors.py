"""Processors: how many this process may use. This module does not know what for."""

from __future__ import annotations

import os


def processors() -> int:
    """Those that the system lets this process run on, where it tells; else all of the machine's, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
