"""The server under 64 connections that cancel and leave: the short form of benchmarks/load_server.py."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest

LOAD = Path(__file__).resolve().parents[2] / "benchmarks" / "load_server.py"
SECONDS = float(os.environ.get("BLOOMERY_LOAD_SECONDS") or (180 if os.environ.get("CI") == "true" else 20))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_leaks(tmp_path: Path):
    seen = runpy.run_path(str(LOAD))["run"](SECONDS, 64, tmp_path)
    assert not seen.wrong, seen.wrong[:5]
    assert min(seen.counts[kind] for kind in ("whole", "streamed", "refused")) > 5
