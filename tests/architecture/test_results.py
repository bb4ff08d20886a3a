"""docs/results.md is what the kept results say: no number in it was typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_results_are_written_by_the_command():
    script = PROJECT / "experiments" / "write_results.py"
    done = subprocess.run([sys.executable, script, "--check"], timeout=60, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
