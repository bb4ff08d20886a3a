"""load: folders, artifacts by name and id, damage, devices, dtypes; no network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from bloomery.core.artifact import publish
from bloomery.core.errors import ArtifactError, BloomeryError, ConfigError, DataError, DeviceError
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.engine import load
from bloomery.engine.loading import choose_device


@pytest.fixture
def artifact(tiny_folder: Path, workspace: Workspace):
    folder = workspace.scratch / "model"
    shutil.copytree(tiny_folder, folder)
    return publish(
        folder,
        workspace.artifacts,
        kind="model",
        parents=[],
        config={},
        provenance={},
        metrics={},
        energy_joules=Quantity.unknown(),
    )


def test_an_artifact_by_every_reference(artifact, workspace: Workspace):
    for reference in (artifact, artifact.path, str(artifact.path), artifact.name, artifact.id, artifact.id[:8]):
        model = load(reference, device="cpu", workspace=workspace)
        assert model.name == artifact.name
        model.close()


def test_a_flipped_bit_is_found(artifact, workspace: Workspace):
    path = artifact.path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="SHA-256"):
        load(artifact.name, device="cpu", workspace=workspace)


def test_a_truncated_file_in_a_plain_folder_is_found(tiny_folder: Path, tmp_path: Path):
    folder = tmp_path / "cut"
    shutil.copytree(tiny_folder, folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError):
        load(folder, device="cpu")


def test_what_is_no_model(tmp_path: Path, workspace: Workspace, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"config\.json"):
        load(tmp_path)
    for reference in ("nothing here", "model-0123456789ab", "latest"):
        with pytest.raises(ArtifactError, match="no model"):
            load(reference)
    assert not (tmp_path / ".bloomery").exists()  # looking creates nothing
    with pytest.raises(ArtifactError, match="no model in"):
        load("latest", workspace=workspace)


def test_a_hub_id_without_a_network_is_one_clear_line(monkeypatch, workspace: Workspace):
    import huggingface_hub

    def offline(*args, **options):
        assert options["allow_patterns"] == ["*.safetensors", "*.json", "*.jinja", "vocab.txt", "merges.txt", "*.model"]
        raise ConnectionError("no route to host\nand much more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ArtifactError, match="no route to host") as caught:
        load("nobody/nothing", workspace=workspace)
    assert "and much more" not in caught.value.one_line()


def test_a_hub_id_is_loaded_from_what_the_hub_gives(monkeypatch, tiny_folder: Path, workspace: Workspace):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tiny_folder))
    assert load("some/model", device="cpu", workspace=workspace).name == "some/model"


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device(None).type == "cpu"
    for device in ("cuda", "cuda:3", "abacus", "meta"):
        with pytest.raises(DeviceError):
            choose_device(device)


def test_dtypes(tiny_folder: Path):
    assert next(load(tiny_folder, device="cpu").decoder.parameters()).dtype == torch.float32
    assert next(load(tiny_folder, device="cpu", dtype="bfloat16").decoder.parameters()).dtype == torch.bfloat16
    for dtype in ("bfloat61", torch.int8):
        with pytest.raises(ConfigError):
            load(tiny_folder, device="cpu", dtype=dtype)


def test_a_damaged_tokenizer_is_a_user_error(tiny_folder: Path, tmp_path: Path):
    folder = tmp_path / "bad"
    shutil.copytree(tiny_folder, folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(BloomeryError):
        load(folder, device="cpu")
