"""The folder of images: by what one is found, what is thrown away, and what is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact, publish
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.engine import images
from bloomery.engine.images import Wanted, has_room, images_folder, make_room, told_of_images, wanted

pytestmark = pytest.mark.usefixtures("own_images")


def asked(reference: str | Path, home: Workspace, weights: str | None = None) -> Wanted:
    found = wanted(str(reference), home, weights)
    assert found is not None
    return found


def published(folder: Path, home: Workspace, text: str) -> Path:
    made = Path(shutil.copytree(folder, home.root / "made"))
    (made / "README.md").write_text(text)
    none: dict[str, Any] = {"config": {}, "provenance": {}, "metrics": {}}
    return publish(made, home.artifacts, kind="model", parents=(), energy_joules=Quantity.unknown(), **none).path


def test_the_same_files_are_the_same_model(folder: Path, home: Workspace, tmp_path: Path):
    first = asked(folder, home)
    assert first == asked(folder, home) and first.path == images_folder() / first.key
    (tmp_path / "link").symlink_to(folder)
    assert asked(tmp_path / "link", home).key == first.key
    assert asked(folder, home, "int8").key != first.key
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert asked(copy, home).key != first.key


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_that_was_written_is_another_model(folder: Path, home: Workspace, name: str):
    before = asked(folder, home)
    (folder / name).write_bytes((folder / name).read_bytes())
    assert asked(folder, home) != before
    (folder / "more.json").write_text("{}")
    assert asked(folder, home) != before


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_so_are_other_settings(folder: Path, home: Workspace, name: str, monkeypatch: pytest.MonkeyPatch):
    before = asked(folder, home)
    monkeypatch.setenv(name, "7")
    assert asked(folder, home) != before


def test_so_are_another_pytorch_fewer_processors_and_other_code(
    folder: Path, home: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = asked(folder, home)
    for name, other in (("version", lambda _: "1.0"), ("_processors", lambda: 99), ("processor", lambda: "other")):
        with monkeypatch.context() as there:
            there.setattr(images, name, other)
            assert asked(folder, home) != before
    package = tmp_path / "bloomery"
    (package / "models").mkdir(parents=True)
    (package / "models" / "one.py").write_text("1")
    monkeypatch.setattr(images.bloomery, "__file__", str(package / "__init__.py"))
    here = asked(folder, home)
    (package / "models" / "one.py").write_text("2 or more")
    assert asked(folder, home) != here


def test_without_a_name_it_is_the_newest_of_the_workspace_not_a_folder_of_that_name(
    folder: Path, home: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    artifact = Artifact.open(published(folder, home, "one"))
    monkeypatch.setattr(home, "latest", lambda kind, verify: artifact)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "latest")
    assert asked("", home).folder == artifact.path
    assert asked("latest", home).folder == Path("latest")


@pytest.mark.parametrize("reference", ["org/name", "nothing-here", "model-0123456789ab", ""])
def test_what_is_not_here_is_not_asked_for(home: Workspace, reference: str):
    assert wanted(reference, home, None) is None


def test_it_can_be_turned_off(folder: Path, home: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOOMERY_IMAGES", "off")
    assert wanted(str(folder), home, None) is None and "BLOOMERY_IMAGES=off" in told_of_images()


def named(name: str) -> str:
    """As images are."""
    return name if name.startswith(".") else name.encode().hex().ljust(64, "0")


def there() -> list[str]:
    return sorted(path.name for path in images_folder().iterdir())


def put(name: str, size: int, age: float) -> Path:
    path = images_folder() / named(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def test_those_asked_for_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "_is_orphaned", lambda path: path.name == named("orphan"))
    monkeypatch.setattr(images, "MAX_ALL_BYTES", 350)
    for name, age in (("new", 1.0), ("orphan", 2.0), ("old", 100.0), ("older", 200.0), ("oldest", 300.0)):
        put(name, 100, age)
    make_room(100)
    assert there() == sorted([named("new"), named("old")])


def test_a_month_is_long_enough(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "_is_orphaned", lambda path: False)
    put("month", 10, 31 * 86400)
    put("week", 10, 7 * 86400)
    make_room(10)
    assert there() == [named("week")]


def test_what_is_half_written_is_left_alone_for_an_hour(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "_is_orphaned", lambda path: False)
    put(".a.partial", 10, 4000)
    put(".b.partial", 10, 10)
    make_room(10)
    assert there() == [".b.partial"]
    assert told_of_images().startswith("0 kept")


def test_what_is_no_image_but_called_so_is_thrown_away_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    put("something", 10, 1.0)
    (images_folder() / "thesis.pdf").write_bytes(bytes(1000))
    (images_folder() / "dangling").symlink_to("nowhere")
    (images_folder() / ("a" * 64)).mkdir()
    monkeypatch.setattr(images, "MAX_ALL_BYTES", 20)
    make_room(10)
    assert there() == ["a" * 64, "dangling", "thesis.pdf"]


def test_room(monkeypatch: pytest.MonkeyPatch):
    assert has_room(1000) and images_folder().stat().st_mode & 0o777 == 0o700
    assert not has_room(images.MAX_BYTES + 1)
    monkeypatch.setattr(images, "_FREE_SHARE", 1 << 60)
    assert not has_room(1000)


def test_what_is_kept_is_told():
    assert told_of_images() == f"0 kept for quick starts, 0 MB in {images_folder()}"
    put("one", 2_000_000, 0.0)
    assert told_of_images() == f"1 kept for quick starts, 2 MB in {images_folder()}"


def test_nobody_has_a_home(folder: Path, home: Workspace, monkeypatch: pytest.MonkeyPatch):
    def refuse(name: str) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(images, "cached", refuse)
    assert wanted(str(folder), home, None) is None and "no home" in told_of_images()


def test_pytorch_is_not_needed():
    code = "import sys, bloomery.engine.images; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
