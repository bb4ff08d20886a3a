"""Curation under SIGKILL at random instants: the run that follows ends with the same bytes, and nothing is left over.

BLOOMERY_KILLS sets the number of kills; `benchmarks/kill_curate.py` does fifty on more text.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = int(os.environ.get("BLOOMERY_KILLS", "5"))
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_curate.py"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_curations_end_equal():
    command = [sys.executable, str(SCRIPT), "--kills", str(KILLS), "--megabytes", "2", "--pages", "20"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{KILLS} kills" in done.stdout and "equal" in done.stdout
