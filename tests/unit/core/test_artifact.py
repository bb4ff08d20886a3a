"""Artifacts: whole or not at all, and every change is seen."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

import pytest

from bloomery.core import artifact as module
from bloomery.core.artifact import Artifact, publish
from bloomery.core.errors import ArtifactError, DamagedError
from bloomery.core.quantity import Quantity


def make(root: Path, name: str = "work") -> Path:
    folder = root / name
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"hello")
    (folder / "sub" / "manifest.json").write_text("{}")
    return folder


def put(folder: Path, root: Path) -> Artifact:
    return publish(
        folder,
        root / "artifacts",
        kind="model",
        parents=["p"],
        config={"x": 1},
        provenance={"run": "r"},
        metrics={},
        energy_joules=Quantity.unknown(),
    )


def test_publish_twice_gives_one(tmp_path: Path) -> None:
    first, second = put(make(tmp_path), tmp_path), put(make(tmp_path), tmp_path)
    assert first.id == second.id and not (tmp_path / "work").exists()
    assert first.parents == ("p",) and first.file("a.bin").read_bytes() == b"hello"
    assert [f["path"] for f in first.manifest["files"]] == ["a.bin", "sub/manifest.json"]
    with pytest.raises(ArtifactError):
        first.file("none")


@pytest.mark.parametrize("call", range(12))
def test_a_crash_at_any_flush_or_rename_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    count = iter(range(1000))
    for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "replace")):
        original = getattr(owner, name)

        def crash(*arguments, _original=original):
            if next(count) == call:
                raise KeyboardInterrupt
            return _original(*arguments)

        monkeypatch.setattr(owner, name, crash)
    folder = make(tmp_path)
    with contextlib.suppress(KeyboardInterrupt):
        put(folder, tmp_path)
    monkeypatch.undo()
    for found in (tmp_path / "artifacts").glob("*"):
        Artifact.open(found)
    again = put(folder if folder.exists() else make(tmp_path), tmp_path)
    assert Artifact.open(again.path).id == again.id


def test_no_space_is_one_error_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(ArtifactError) as caught:
        put(make(tmp_path), tmp_path)
    assert "free some space" in caught.value.hint and (tmp_path / "work" / "a.bin").exists()


def test_changes_are_seen(tmp_path: Path) -> None:
    made = put(make(tmp_path), tmp_path)
    file = made.path / "a.bin"

    def refused(text: str) -> None:
        with pytest.raises(ArtifactError, match=text):
            Artifact.open(made.path)

    file.write_bytes(b"hellp")
    refused("SHA-256")
    file.write_bytes(b"hell")
    refused("bytes")
    file.unlink()
    refused("missing")
    file.symlink_to("/etc/hostname")
    with pytest.raises(ArtifactError):
        Artifact.open(made.path)
    file.unlink()
    file.write_bytes(b"hello")
    nested = made.path / "sub" / "manifest.json"
    nested.write_text("[]")
    refused("SHA-256")
    nested.write_text("{}")
    (made.path / "extra").write_text("x")
    refused("does not list")
    (made.path / "extra").unlink()
    with pytest.raises(ArtifactError, match="not a corpus"):
        Artifact.open(made.path, kind="corpus")
    assert Artifact.open(made.path).id == made.id


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "a\0b"])
def test_a_manifest_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    made = put(make(tmp_path), tmp_path)
    manifest = json.loads((made.path / "manifest.json").read_text())
    manifest["files"][0]["path"] = name
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="outside"):
        Artifact.open(made.path)


def test_links_and_empty_folders_are_not_published(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "link").symlink_to("a.bin")
    with pytest.raises(ArtifactError, match="link"):
        put(folder, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="nothing"):
        put(tmp_path / "empty", tmp_path)


@pytest.mark.parametrize("key", ["parents", "config", "metrics", "energy_joules", "files", "kind", "id"])
def test_a_manifest_that_lacks_a_key_is_refused(tmp_path: Path, key: str) -> None:
    made = put(make(tmp_path), tmp_path)
    manifest = json.loads((made.path / "manifest.json").read_text())
    del manifest[key]
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=key):
        Artifact.open(made.path)


def test_a_manifest_nested_beyond_reason_is_damaged(tmp_path: Path) -> None:
    made = put(make(tmp_path), tmp_path)
    (made.path / "manifest.json").write_text("[" * 200_000)
    with pytest.raises(DamagedError):
        Artifact.open(made.path)
