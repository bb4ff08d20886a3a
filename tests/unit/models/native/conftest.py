"""The library, or a reason to skip: where there is a compiler it is to be there."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from bloomery.models.native.build import compiler
from bloomery.models.native.library import library


@pytest.fixture(autouse=True)
def _no_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial knows of those before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def calls() -> ctypes.CDLL:
    found = library()
    if found.calls is None:
        if compiler() is not None and os.environ.get("CI"):
            pytest.fail(found.text)
        pytest.skip(found.text)
    return found.calls
