"""One tiny model for the engine's tests."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, load
from bloomery.models.native.library import library

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> LanguageModel:
    return load(tiny_folder, device="cpu")


@pytest.fixture
def own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of the test's own; skipped where no images are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if library().calls is None:
        pytest.skip(library().text)


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the test's own, to be changed."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "tiny"))


@pytest.fixture
def home(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return Workspace(tmp_path / "home")
