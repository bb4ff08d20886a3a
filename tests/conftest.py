"""Fixtures that every test may use."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """What is remembered between processes is remembered elsewhere, and forgotten with the system's temporary files."""
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="bloomery-tests-")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data: $BLOOMERY_DATA, or ../shared/data beside the project."""
    folder = Path(os.environ.get("BLOOMERY_DATA") or PROJECT.parent / "shared" / "data")
    if not (folder / "README.md").is_file():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the test data is missing: {folder}")
        pytest.skip(f"no test data at {folder}; set BLOOMERY_DATA")
    return folder


@pytest.fixture
def workspace(tmp_path: Path):
    """An empty workspace of its own."""
    from bloomery.core.workspace import Workspace

    return Workspace(tmp_path / "home")
