"""`python -m bloomery` is the script: the same answers, the same one line for a mistake."""

from __future__ import annotations

import subprocess
import sys

from bloomery import __version__


def _ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bloomery", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_as_a_module():
    assert _ask("--version").stdout.strip() == __version__
    done = _ask("curat")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "curate" in done.stderr
