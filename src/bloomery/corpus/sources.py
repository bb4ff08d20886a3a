"""Sources: from what the user named to documents.

A source is "python-docs", a file, a folder or a glob. This module does not know splits or shards.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from bloomery.core.config import digest
from bloomery.core.errors import ConfigError
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.problems import Problems
from bloomery.corpus.python_docs import NAME, missing_packages, python_documents, versions


def fingerprint(config: CurateConfig) -> str:
    """A digest of what the sources are now."""
    parts: list[list[object]] = []
    for source in config.sources:
        if source == NAME:
            parts.append([NAME, versions(config.packages)])
        else:
            for path in files(source):
                status = path.stat()
                parts.append([str(path), status.st_size, status.st_mtime_ns])
    return digest(parts)


def files(source: str) -> Iterator[Path]:
    """The files of a source, in name order."""
    path = Path(source)
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from sorted(p for p in path.rglob("*") if p.is_file() and p.suffix in (".txt", ".text", ".rst", ".md"))
    elif found := sorted(glob.glob(source, recursive=True)):  # noqa: PTH207
        yield from (Path(p) for p in found if os.path.isfile(p))  # noqa: PTH113
    else:
        raise ConfigError(f"no such file, folder or glob: {source}", hint="check the path")


def read_sources(config: CurateConfig, problems: Problems) -> Iterator[Document]:
    """Every document of every source, in order."""
    for source in config.sources:
        if source == NAME:
            for package in missing_packages(config.packages):
                problems.add("package_not_installed", package)
            yield from python_documents(config.packages, problems.add)
        else:
            for path in files(source):
                yield Document.of(path.read_text("utf-8", "replace"), str(path))
