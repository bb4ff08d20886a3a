"""Sources: files, folders and globs, in order; what names nothing is one clear line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.problems import Problems
from bloomery.corpus.sources import fingerprint, read_sources, source_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "deep" / "er").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for name in ("b.md", "a.txt", "deep/c.rst", "deep/er/d.md", ".hidden/no.txt", "picture.png", "deep/.no.txt"):
        (root / name).write_text(f"text of {name}")
    (root / "loop").symlink_to(root)
    return root


def _names(source: str, root: Path) -> list[str]:
    return [file.path.relative_to(root).as_posix() for file in source_files(source)]


def test_a_folder_is_read_whole_and_in_order(folder: Path):
    assert _names(str(folder), folder) == ["a.txt", "b.md", "deep/c.rst", "deep/er/d.md"]


def test_a_glob_takes_what_it_matches(folder: Path):
    assert _names(f"{folder}/**/*.md", folder)[:2] == ["b.md", "deep/er/d.md"]
    assert _names(f"{folder}/*.png", folder) == ["picture.png"]


def test_a_relative_source_keeps_the_users_words(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    documents = list(read_sources(CurateConfig(sources=("docs/b.md", "docs/deep/*.rst")), Problems()))
    assert [d.source for d in documents] == ["docs/b.md", "docs/deep/c.rst"]


@pytest.mark.parametrize(
    "source", ["none.txt", "none/at/all.txt", "*.none", "empty", "pipe", "nul\0", "~nobody-of-this-name/a.txt"]
)
def test_what_names_nothing_is_refused(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError) as caught:
        list(source_files(source))
    assert caught.value.hint
    assert "\n" not in caught.value.one_line()


def test_a_binary_file_is_an_error_by_name_and_a_problem_in_a_folder(folder: Path):
    binary = folder / "zeros.txt"
    binary.write_bytes(b"\x7fELF\0\0\0")
    with pytest.raises(DataError, match=r"zeros\.txt is binary"):
        list(read_sources(CurateConfig(sources=(str(binary),)), Problems()))
    problems = Problems()
    assert len(list(read_sources(CurateConfig(sources=(str(folder),)), problems))) == 4
    assert problems.counts == {"binary": 1}
    with pytest.raises(BloomeryError, match="binary"):
        list(read_sources(CurateConfig(sources=(str(folder),)), Problems(strict=True)))


def test_long_documents_are_cut_when_asked(tmp_path: Path):
    text = "\n\n".join(f"paragraph {n} " + "word " * 50 for n in range(40))
    (tmp_path / "book.txt").write_text(text)
    documents = list(read_sources(CurateConfig(sources=(str(tmp_path),), cut_characters=1000), Problems()))
    assert "".join(d.text for d in documents) == text
    assert [d.metadata["cut"] for d in documents] == list(range(len(documents)))
    assert len(documents) > 8


def test_the_fingerprint_follows_size_time_and_names(folder: Path):
    config = CurateConfig(sources=(str(folder),))
    before = fingerprint(config)
    assert fingerprint(config) == before
    os.utime(folder / "a.txt", ns=(1, 1))
    touched = fingerprint(config)
    (folder / "new.txt").write_text("new")
    assert len({before, touched, fingerprint(config)}) == 3
    (folder / "picture.png").write_text("not a source")
    (folder / "new.txt").unlink()
    assert fingerprint(config) == touched


def test_python_docs_are_fingerprinted_by_versions():
    first = fingerprint(CurateConfig(packages=("numpy",)))
    assert first == fingerprint(CurateConfig(packages=("numpy",)))
    assert first != fingerprint(CurateConfig(packages=("numpy", "rich")))
    assert first != fingerprint(CurateConfig(packages=("numpy", "surely_not_installed")))


def test_a_link_to_itself_is_skipped_with_its_reason(tmp_path: Path):
    (tmp_path / "a.txt").write_text("iron")
    (tmp_path / "b.txt").symlink_to(tmp_path / "b.txt")
    (tmp_path / "c").symlink_to(tmp_path / "d")
    (tmp_path / "d").symlink_to(tmp_path / "c")
    problems = Problems()
    config = CurateConfig(sources=(str(tmp_path),))
    assert [one.text for one in read_sources(config, problems)] == ["iron"]
    assert problems.counts == {"unreadable": 1} and "b.txt" in problems.first()
    assert fingerprint(config) == fingerprint(config)
