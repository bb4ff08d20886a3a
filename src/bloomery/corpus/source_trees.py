"""Source trees: `code:FOLDER` names every file of a tree of source code, with its path and its license.

Hidden files and folders (.git) are left out. A file's license is that of the nearest license file in its folder or one
above it, within the tree. This module does not know how a file is read (`code_files`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bloomery.core.errors import ConfigError
from bloomery.corpus.document import readable
from bloomery.corpus.formats import CODE
from bloomery.corpus.licenses import FILE, UNKNOWN, license_of
from bloomery.corpus.source_file import SourceFile

PREFIX = "code:"
_LICENSE_BYTES = 256 * 1024
_LICENSE_SUFFIXES = ("", ".txt", ".md", ".rst", ".html", ".mit", ".apache", ".bsd")


def tree_files(source: str) -> Iterator[SourceFile]:
    """The files of `code:FOLDER` in name order; ConfigError if there is no such folder, or nothing in it."""
    root = Path(source.removeprefix(PREFIX)).expanduser()
    if not root.is_dir():
        raise ConfigError(f"no such folder: {root}", hint="code:FOLDER names a tree of source code")
    found = False
    for file in _walk(root, root, ("", UNKNOWN)):
        found = True
        yield file
    if not found:
        raise ConfigError(f"{root} holds no file", hint="hidden files are left out")


def _walk(folder: Path, root: Path, license_: tuple[str, str]) -> Iterator[SourceFile]:
    with os.scandir(folder) as entries:
        ordered = sorted((e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)) for e in entries)
    named = [name for name, _, is_file in ordered if is_file and _is_license(name)]
    if named:
        license_ = _license(folder, named, root)
    for name, is_folder, is_file in ordered:
        if name.startswith("."):
            continue
        path = folder / name
        if is_folder:
            yield from _walk(path, root, license_)
        elif is_file:
            metadata = {"path": readable(path.relative_to(root).as_posix()), "license": license_[1]}
            if license_[0]:
                metadata["license_from"] = license_[0]
            yield SourceFile(path, named=False, kind=CODE, metadata=metadata)


def _is_license(name: str) -> bool:
    return FILE.fullmatch(name) is not None and Path(name).suffix.lower() in _LICENSE_SUFFIXES


def _license(folder: Path, names: list[str], root: Path) -> tuple[str, str]:
    """(the file that says it, identifiers): several license files in one folder are a choice, joined by OR."""
    found: dict[str, str] = {}
    for name in names:
        try:
            with (folder / name).open("rb") as stream:
                text = stream.read(_LICENSE_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        found.setdefault(license_of(text), readable((folder / name).relative_to(root).as_posix()))
    known = {key: value for key, value in found.items() if key != UNKNOWN} or found
    return ", ".join(known.values()), " OR ".join(known) or UNKNOWN
