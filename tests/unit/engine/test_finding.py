"""Where a model's files are."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.core.artifact import publish
from bloomery.core.errors import ArtifactError, DamagedError, DataError
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.engine import finding
from bloomery.engine.finding import find_model, is_gguf


@pytest.fixture
def home(tiny_folder: Path, tmp_path: Path) -> Workspace:
    """A workspace with one model."""
    workspace = Workspace(tmp_path / "home")
    made = tmp_path / "home" / "made"
    shutil.copytree(tiny_folder, made)
    none: dict[str, object] = {"config": {}, "provenance": {}, "metrics": {}}
    publish(made, workspace.artifacts, kind="model", parents=(), energy_joules=Quantity.unknown(), **none)  # type: ignore[arg-type]
    return workspace


def test_a_folder_is_itself(tiny_folder: Path):
    assert find_model(tiny_folder, None) == (tiny_folder, tiny_folder.name)


def test_an_artifact_by_name_and_id_and_folder(home: Workspace):
    folder = next(home.artifacts.iterdir())
    for reference in (folder.name, folder.name.rpartition("-")[2], folder):
        assert find_model(reference, home) == (folder, folder.name)


def test_its_bytes_are_read_unless_that_is_left_out(home: Workspace):
    folder = next(home.artifacts.iterdir())
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for reference in (folder.name, folder):
        with pytest.raises(DamagedError, match=r"model\.safetensors"):
            find_model(reference, home)
        assert find_model(reference, home, hasty=True) == (folder, folder.name)


@pytest.mark.parametrize("reference", ["nothing-here", "model-0123456789ab", "./x"])
def test_what_is_not_there(home: Workspace, reference: str):
    with pytest.raises(ArtifactError, match="no model"):
        find_model(reference, home)


def test_folders_and_files_that_are_no_models(tmp_path: Path, home: Workspace):
    with pytest.raises(DataError, match=r"no config\.json"):
        find_model(tmp_path, home)
    file = tmp_path / "some"
    file.write_bytes(b"GGUF and more")
    assert is_gguf(file) and is_gguf(tmp_path / "none.gguf") and not is_gguf(tmp_path) and not is_gguf(3)
    with pytest.raises(DataError, match=r"file of llama\.cpp"):
        find_model(file, home)


def test_in_haste_the_hub_is_not_asked(home: Workspace, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(finding, "_download", lambda name: asked.append(name) or home.root)
    assert find_model("org/name", home) == (home.root, "org/name") and asked == ["org/name"]
    with pytest.raises(ArtifactError, match="no model"):
        find_model("org/name", home, hasty=True)
    assert asked == ["org/name"]


def test_pytorch_is_not_needed():
    code = "import sys, bloomery.engine.finding; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
