"""Formats: by suffix below a compression's, else by the first bytes; what a format needs is asked for by name."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import pytest

from bloomery.core.errors import MissingExtraError
from bloomery.corpus.formats import PAGE, SEQUENCE, TABLE, TEXT, WEB, check_packages_of, extracted, format_of, kind_of


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.warc.gz", WEB), ("a.warc.wet.gz", WEB), ("a.HTM", PAGE), ("a.fa.xz", SEQUENCE), ("a.csv.zst", TABLE)],
)
def test_suffixes(name: str, kind: str):
    assert format_of(Path(name)) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"WARC/1.0\r\n", WEB),
        (gzip.compress(b"WARC/1.1\r\n"), WEB),
        (gzip.compress(b"filedesc://a"), WEB),
        (b"%PDF-1.7", PAGE),
        (b"PAR1", "parquet"),
        (b"words", TEXT),
        (b"\x1f\x8b\x08broken", TEXT),
    ],
)
def test_an_unknown_suffix_is_looked_into(tmp_path: Path, data: bytes, kind: str):
    (tmp_path / "a.bad").write_bytes(data)
    assert format_of(tmp_path / "a.bad") == kind
    assert kind_of(tmp_path / "a.bad") == ".bad"


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    there = importlib.util.find_spec
    missing = {"trafilatura", "pypdfium2"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else there(name))
    check_packages_of(WEB, Path("a.warc"), "fast")
    check_packages_of(TEXT, Path("a.txt"), "quality")
    for kind, path, extract in ((WEB, "a.warc", "quality"), (PAGE, "a.html", "quality"), (PAGE, "a.pdf", "fast")):
        with pytest.raises(MissingExtraError) as caught:
            check_packages_of(kind, Path(path), extract)
        assert caught.value.hint == 'pip install "bloomery[web]"'


def test_pages_are_what_is_taken_apart():
    assert [extracted(kind) for kind in (WEB, PAGE, TEXT, TABLE)] == [True, True, False, False]
