"""Where indexes lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.core.workspace import Workspace
from bloomery.retrieve import index
from bloomery.retrieve.places import existing_index, index_folder, known_indexes, remove_index, unmake_index


def test_names_and_paths(tmp_path, documents):
    home = Workspace(tmp_path)
    assert index_folder("docs", home) == tmp_path / "indexes" / "docs"
    assert index_folder("./docs", home) == Path("docs")
    for bad in ("", "..", "a b", ".x"):
        with pytest.raises(ConfigError):
            index_folder(bad, home)
    index(documents, into="docs", workspace=home)
    assert known_indexes(home) == ["docs"] and existing_index("docs", home).is_dir()
    with pytest.raises(ArtifactError) as caught:
        existing_index("doks", home)
    assert "docs" in caught.value.hint


def test_only_indexes_are_removed(tmp_path, documents):
    index(documents, into=tmp_path / "i", workspace=tmp_path)
    (tmp_path / "i" / "letter.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="no part of an index"):
        remove_index(tmp_path / "i")
    (tmp_path / "i" / "letter.txt").unlink()
    for name in ("anew.txt", "vectors-of-mine.csv", "graph-000001.png"):  # called like ours, and not ours
        (tmp_path / "i" / name).write_text("mine")
        with pytest.raises(ArtifactError, match=name):
            remove_index(tmp_path / "i")
        unmade = tmp_path / "unmade"
        unmade.mkdir(exist_ok=True)
        for one in (name, "index.sqlite", "writer.lock", "vectors-000001.raw"):
            (unmade / one).write_text("")
        unmake_index(unmade)
        assert [path.name for path in unmade.iterdir()] == [name]
        (unmade / name).unlink()
        (tmp_path / "i" / name).unlink()
    remove_index(tmp_path / "i")
    remove_index(tmp_path / "i")
    assert not (tmp_path / "i").exists()
