"""Archive records: the same as warcio's where a file is sound; what is broken has its place and reason."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator

from bloomery.corpus.archive_records import ArchiveRecord, read_records
from bloomery.corpus.archive_stream import ArchiveStream
from bloomery.corpus.span import Span, plan

SOUND = (
    "daft_example.warc",
    "dolma_sample-0000.warc.gz",
    "dolma_sample-0001.warc.gz",
    "jwarc/cc.warc.gz",
    "jwarc/gzip_extra_sl.warc.gz",
    "warcio/example.arc",
    "warcio/example.arc.gz",
    "warcio/example.warc",
    "warcio/example.warc.gz",
    "warcio/example-iana.org-chunked.warc",
    "warcio/example-resource.warc.gz",
    "warcio/post-test.warc.gz",
    "whirlwind/whirlwind.warc",
    "whirlwind/whirlwind.warc.gz",
    "whirlwind/whirlwind.warc.wat.gz",
    "whirlwind/whirlwind.warc.wet.gz",
)
BROKEN = {
    "warcio/bad.arc": [("broken_header", "offset 0"), ("broken_header", "offset 134"), ("broken_header", "offset 262")],
    "warcio/example-trunc.warc": [("wrong_length", "offset 1197")],
    "warcio/example-space-in-url.arc": [("truncated", "offset 151")],
    "warcio/example-bad.warc.gz.bad": [],
    "warcio/example-bad-non-chunked.warc.gz": [],
    "warcio/example-digest.warc": [],
    "warcio/example-wrong-chunks.warc.gz": [],
    "warcio/example-space-in-target-uri.warc.gz": [],
    "warcio/example-wget-bad-target-uri.warc.gz": [],
}


def _read(path: Path, span: Span | None = None) -> tuple[list[ArchiveRecord], list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    with ArchiveStream(path) as stream:
        reading = read_records(
            stream, span or Span(), limit=1 << 24, refuse=lambda reason, place, _: told.append((reason, str(place)))
        )
        return list(reading), told


@pytest.mark.parametrize("name", SOUND)
def test_records_are_those_of_warcio(shared_data: Path, name: str):
    path = shared_data / "web" / "warc" / name
    records, told = _read(path)
    expected, offsets = [], []
    with path.open("rb") as stream:
        iterator = ArchiveIterator(stream, no_record_parse=True)
        for record in iterator:
            expected.append(b"".join(iter(partial(record.raw_stream.read, 1 << 20), b"")))
            offsets.append(iterator.get_record_offset())
    assert told == []
    assert [record.place.offset for record in records] == offsets
    first = 1 if ".arc" in name else 0  # warcio takes ARC's description for headers
    assert [record.block for record in records[first:]] == expected[first:]


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_has_its_offset_and_reason(shared_data: Path, name: str):
    _, told = _read(shared_data / "web" / "warc" / name)
    assert told == BROKEN[name]


def test_every_sample_is_in_a_list_above(shared_data: Path):
    folder = shared_data / "web" / "warc"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names - {*SOUND, *BROKEN} <= {"whirlwind/whirlwind.warc.wat", "whirlwind/whirlwind.warc.wet"}


def _warc(*bodies: bytes) -> list[bytes]:
    head = b"WARC/1.0\r\nWARC-Type: resource\r\nWARC-Target-URI: urn:x\r\nContent-Length: %d\r\n\r\n"
    return [head % len(body) + body + b"\r\n\r\n" for body in bodies]


def test_a_length_that_swallows_the_next_record_costs_its_own_alone(tmp_path: Path):
    records = _warc(b"one", b"two", b"three")
    records[0] = records[0].replace(b"Content-Length: 3", b"Content-Length: 60")
    (tmp_path / "a.warc").write_bytes(b"".join(records))
    found, told = _read(tmp_path / "a.warc")
    assert [record.block for record in found] == [b"two", b"three"]
    assert told == [("wrong_length", "offset 0")]
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(b"".join(records)))
    assert [record.block for record in _read(tmp_path / "a.warc.gz")[0]] == [b"two", b"three"]


def test_a_header_without_end_or_length_is_refused(tmp_path: Path):
    records = _warc(b"one", b"two")
    records[0] = records[0].replace(b"Content-Length: 3", b"Content-Length: many")
    (tmp_path / "a.warc").write_bytes(b"junk before\n" + b"".join(records) + b"WARC/1.0\r\nWARC-Type: x")
    found, told = _read(tmp_path / "a.warc")
    assert [record.block for record in found] == [b"two"]
    assert [reason for reason, _ in told] == ["not_a_record", "broken_header", "truncated"]


@pytest.mark.parametrize("name", ["dolma_sample-0000.warc.gz", "whirlwind/whirlwind.warc"])
def test_spans_joined_are_the_file(shared_data: Path, name: str):
    path = shared_data / "web" / "warc" / name
    whole, _ = _read(path)
    for step in (1000, 20_000, 50_000):
        parts, end = [], 0
        for span in plan(path.stat().st_size, step):
            found, told = _read(path, span)
            assert told == []
            if span.begin is not None:
                assert span.begin == end
                parts += found
                end = span.end
        assert [record.place for record in parts] == [record.place for record in whole]
        assert end is None


def test_a_length_beyond_the_file_costs_its_own_record_alone(tmp_path: Path):
    parts = _warc(b"one", b"two", *[b"x" * 1000] * 200)
    parts[1] = parts[1].replace(b"Content-Length: 3", b"Content-Length: 99999999")
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(parts))
    told: list[str] = []
    with ArchiveStream(path) as stream:  # more follows than a record may hold
        found = list(read_records(stream, Span(), limit=10_000, refuse=lambda reason, place, _: told.append(reason)))
    assert len(found) == 201 and told == ["truncated"]
