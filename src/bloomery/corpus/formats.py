"""Formats: which files hold what, by their suffix below a compression's; unknown ones are looked into.

This module does not know how any of them is read.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from bloomery.core.errors import MissingExtraError
from bloomery.corpus.streams import COMPRESSIONS, BrokenStream, read_blocks

TEXT, JSONL, PARQUET, TABLE, SEQUENCE, PAGE, WEB = "text", "jsonl", "parquet", "table", "sequence", "page", "web"
CODE = "code"
"""A file of a source tree, whatever its suffix."""
_SUFFIXES = {
    TEXT: (".txt", ".text", ".rst", ".md", ".markdown", ".mdx", ".adoc", ".org", ".tex"),
    JSONL: (".jsonl", ".ndjson"),
    PARQUET: (".parquet",),
    TABLE: (".csv", ".tsv"),
    SEQUENCE: (".fasta", ".fa", ".fna", ".ffn", ".faa", ".frn", ".fastq", ".fq", ".gb", ".gbk", ".gbff", ".genbank"),
    PAGE: (".html", ".htm", ".xhtml", ".pdf"),
    WEB: (".warc", ".wet", ".wat", ".arc"),
}
KINDS = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
"""The format of every suffix that a folder is searched for."""
TEXT_SUFFIXES, JSONL_SUFFIXES, PARQUET_SUFFIXES = _SUFFIXES[TEXT], _SUFFIXES[JSONL], _SUFFIXES[PARQUET]
_SIGNS = (
    (re.compile(rb"WARC/[01]\.\d|filedesc://"), WEB),
    (re.compile(rb"%PDF-"), PAGE),
    (re.compile(rb"PAR1"), PARQUET),
)
_MAGIC = ((b"\x1f\x8b\x08", ".gz"), (b"\x28\xb5\x2f\xfd", ".zst"), (b"\x5d\x2a\x4d\x18", ".zst"))
_PAGES_VERSION = "2"  # raised when what is taken from a page changes; 2: pages of bytes that are no text are refused
_PACKAGES = {WEB: ("fastwarc", "resiliparse"), PAGE: ("resiliparse",)}


def kind_of(path: Path) -> str:
    """The suffix that decides how a file is read: the last one before a compression's, in lower case."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return name.suffix.lower()


def format_of(path: Path) -> str:
    """The format of a file; an unknown suffix is text, unless its first bytes say what it is."""
    return KINDS.get(kind_of(path)) or _looked_into(path)


def _looked_into(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
        suffix = next((suffix for magic, suffix in _MAGIC if head.startswith(magic)), path.suffix.lower())
        first = next(read_blocks(path, max_expansion=200, suffix=suffix or ".none"), b"")[:16]
    except (OSError, BrokenStream):
        return TEXT
    return next((kind for sign, kind in _SIGNS if sign.match(first)), TEXT)


def extracted(kind: str) -> bool:
    """Files of this format are taken apart by libraries that a hostile page may hang or crash."""
    return kind in (WEB, PAGE)


def web_versions() -> dict[str, str]:
    """Versions of the libraries that take pages apart, and of what we do with them: what their texts depend on."""
    found = {"bloomery": _PAGES_VERSION}
    for package in ("fastwarc", "pypdfium2", "resiliparse", "trafilatura"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def check_packages_of(kind: str, path: Path, extract: str) -> None:
    """MissingExtraError where a file of this format cannot be read for want of a library."""
    from importlib.util import find_spec

    needed = ("pypdfium2",) if kind_of(path) == ".pdf" else _PACKAGES.get(kind, ())
    if extract == "quality" and needed and needed != ("pypdfium2",):
        needed = (*needed, "trafilatura")
    for package in needed:
        if find_spec(package) is None:
            raise MissingExtraError(package, "web", f"reading {path.name}")
