"""Web records: every record of a file is a document or has its reason; bodies are as warcio decodes them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastwarc.warc import ArchiveIterator

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.problems import Problems
from bloomery.corpus.web_records import read_web_archive

PAGE = b"<html lang=de><head><title>A  title</title></head><body><main><p>" + b"Some words stand here. " * 20


def _read(path: Path, **config: Any) -> tuple[list[Document], list[tuple[str, str, str]], Problems]:
    drops: list[tuple[str, str, str]] = []
    problems = Problems(dropped=lambda *told: drops.append(told))
    return list(read_web_archive(path, CurateConfig(**config), problems)), drops, problems


def _record(kind: str, content: str, block: bytes) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a.org/x\r\nContent-Type: {content}\r\n"
    return gzip.compress(f"{head}Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n")


def _write(path: Path, *pages: tuple[str, list[tuple[str, str]], bytes]) -> None:
    records = []
    for status, headers, body in pages:
        head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers) + "\r\n"
        records.append(_record("response", "application/http; msgtype=response", head.encode() + body))
    path.write_bytes(b"".join(records))


def test_every_record_of_every_sample_is_accounted_for(shared_data: Path):
    for path in sorted((shared_data / "web" / "warc").rglob("*.warc*")):
        documents, drops, _ = _read(path)
        try:
            with path.open("rb") as stream:
                records = sum(1 for _ in ArchiveIterator(stream, quirks_mode=True))
        except OSError:  # fastwarc stops at the damage
            continue
        if "trunc" not in path.name:
            assert len(documents) + len(drops) == records, path


def test_the_samples_give_their_pages(shared_data: Path):
    folder = shared_data / "web" / "warc"
    expected = {
        "daft_example.warc": 1,
        "dolma_sample-0000.warc.gz": 24,
        "jwarc/cc.warc.gz": 1,
        "warcio/example.arc.gz": 1,
        "warcio/example-iana.org-chunked.warc": 1,
        "whirlwind/whirlwind.warc.wet.gz": 1,
    }
    assert {name: len(_read(folder / name)[0]) for name in expected} == expected
    document = _read(folder / "whirlwind/whirlwind.warc.gz")[0][0]
    assert document.source.endswith("whirlwind.warc.gz, offset 1023")
    assert document.metadata["url"] == "https://an.wikipedia.org/wiki/Escopete"
    assert document.metadata["language"] == "an"
    assert document.metadata["captured"] == "2024-05-18T01:58:10Z"
    hosts = {urlsplit(link).hostname for link in document.metadata["links"]}
    assert len(hosts) > 10 and "an.wikipedia.org" not in hosts


def test_codings_are_undone_and_wrong_ones_told(tmp_path: Path):
    html = [("Content-Type", "text/html; charset=utf-8")]
    chunked = b"%x\r\n" % len(PAGE) + PAGE + b"\r\n0\r\n\r\n"
    _write(
        tmp_path / "a.warc.gz",
        ("200 OK", html, PAGE),
        ("200 OK", [*html, ("Content-Encoding", "gzip")], gzip.compress(PAGE)),
        ("200 OK", [*html, ("Transfer-Encoding", "chunked")], chunked),
        ("200 OK", [*html, ("Content-Encoding", "gzip")], PAGE),
        ("200 OK", [*html, ("Content-Encoding", "gzip")], b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 60),
        ("404 Not Found", html, PAGE),
        ("200 OK", [("Content-Type", "image/png")], b"\x89PNG"),
        ("200 OK", html, b"<html></html>"),
    )
    documents, drops, problems = _read(tmp_path / "a.warc.gz")
    assert len({document.text for document in documents}) == 1
    assert [document.metadata.get("coding", "") for document in documents] == ["", "", "", "stored_decoded"]
    assert [reason for reason, _, _ in drops] == ["damaged_body", "http_status", "content_type", "no_text"]
    assert problems.counts == {"damaged_body": 1}
    assert documents[0].metadata["title"] == "A title"


def test_wat_records_are_titles_and_descriptions(tmp_path: Path):
    head = {"Title": "The title", "Metas": [{"name": "description", "content": "What it says."}]}
    html = {"Head": head, "Links": [{"path": "A@/href", "url": "https://b.org/"}, {"url": "/inside"}]}
    envelope = {"WARC-Header-Metadata": {"WARC-Target-URI": "http://a.org/", "WARC-Type": "response"}}
    envelope["Payload-Metadata"] = {"HTTP-Response-Metadata": {"HTML-Metadata": html}}
    bodies = (json.dumps({"Envelope": envelope}).encode(), b'{"Envelope": 3', b'{"Envelope": []}')
    (tmp_path / "a.warc.wat.gz").write_bytes(b"".join(_record("metadata", "application/json", b) for b in bodies))
    documents, drops, _ = _read(tmp_path / "a.warc.wat.gz")
    assert [document.text for document in documents] == ["The title\n\nWhat it says."]
    assert documents[0].metadata["links"] == ["https://b.org/"]
    assert [reason for reason, _, _ in drops] == ["broken_json", "broken_json"]


def test_a_record_beyond_the_limit_is_refused_and_the_next_is_read(tmp_path: Path):
    html = [("Content-Type", "text/html")]
    _write(tmp_path / "a.warc.gz", ("200 OK", html, PAGE + b"x" * 100_000), ("200 OK", html, PAGE))
    documents, drops, _ = _read(tmp_path / "a.warc.gz", max_document_bytes=50_000)
    assert len(documents) == 1
    assert drops[0][0] == "record_too_large"
    assert drops[0][1].endswith("offset 0")


@pytest.mark.parametrize("how", ["fast", "quality"])
def test_both_ways_of_extracting(tmp_path: Path, how: str):
    _write(tmp_path / "a.warc.gz", ("200 OK", [("Content-Type", "text/html")], PAGE))
    document = _read(tmp_path / "a.warc.gz", extract=how)[0][0]
    assert document.text.startswith("Some words stand here.")
    assert document.metadata["title"] == "A title"
    assert document.metadata["language"] == "de"
