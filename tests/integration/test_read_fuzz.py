"""Strangers' files: mutated archives, pages, sequences and tables are read or refused; no crash, no hang.

The longer form is `python benchmarks/fuzz_readers.py SECONDS`.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

Fuzz = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "fuzz_readers.py"))["Fuzz"]
SEEDS = range(1000, 1150)


@pytest.mark.slow
def test_no_mutated_file_is_fatal(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOOMERY_DATA", str(shared_data))
    fuzz = Fuzz(tmp_path)
    with fuzz.pool:
        failed = {seed: wrong for seed in SEEDS if (wrong := fuzz.case(seed))}
    assert failed == {}
    assert fuzz.counts["cases"] == len(SEEDS)
    assert fuzz.counts["documents"] > 500
