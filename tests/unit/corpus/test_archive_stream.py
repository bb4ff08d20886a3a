"""ArchiveStream: places in plain, gzip and zstd files, dictionaries, and the way on after damage."""

from __future__ import annotations

import gzip
import random
import re
import struct
from pathlib import Path

import pytest
import zstandard

from bloomery.corpus.archive_stream import ArchiveStream, Damage, Place

MARKER = re.compile(rb"REC \d+\n")
RECORDS = [b"REC %d\n" % n + random.Random(n).randbytes(300).hex().encode() + b"\n" for n in range(20)]


def _write(path: Path, members: list[bytes]) -> list[int]:
    """Offsets of the members of a file."""
    offsets, data = [], b""
    for member in members:
        offsets.append(len(data))
        data += member
    path.write_bytes(data)
    return offsets


def _places(path: Path) -> list[Place]:
    with ArchiveStream(path) as stream:
        places, more = [], stream.seek(0, None, MARKER)
        while more:
            places.append(stream.place())
            more = stream.find(MARKER)
        return places


def _trained() -> zstandard.ZstdCompressionDict:
    return zstandard.train_dictionary(2048, [b"REC %d\nsome words that return" % n * 9 for n in range(500)])


@pytest.mark.parametrize("kind", ["plain", "gzip", "zstd"])
def test_every_record_has_the_offset_of_its_member(tmp_path: Path, kind: str):
    pack = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[kind]
    offsets = _write(tmp_path / "a", [pack(record) for record in RECORDS])
    assert _places(tmp_path / "a") == [Place(offset) for offset in offsets]


def test_records_of_one_member_stand_inside_it(tmp_path: Path):
    (tmp_path / "a").write_bytes(gzip.compress(b"".join(RECORDS)))
    assert [str(p) for p in _places(tmp_path / "a")][:2] == ["offset 0", f"offset 0+{len(RECORDS[0])}"]


def test_members_that_end_anywhere_are_one_stream(tmp_path: Path):
    data = b"".join(RECORDS)
    cut = [gzip.compress(data[start : start + 777]) for start in range(0, len(data), 777)]
    _write(tmp_path / "a", cut)
    assert len(_places(tmp_path / "a")) == len(RECORDS)
    with ArchiveStream(tmp_path / "a") as stream:
        assert stream.take(len(data) + 9, keep=len(data)) == data
        assert stream.ended()


@pytest.mark.parametrize("packed", [False, True])
def test_a_zstd_file_may_begin_with_its_dictionary(tmp_path: Path, packed: bool):
    trained = _trained()
    raw = zstandard.ZstdCompressor().compress(trained.as_bytes()) if packed else trained.as_bytes()
    frame = b"\x5d\x2a\x4d\x18" + struct.pack("<I", len(raw)) + raw
    pack = zstandard.ZstdCompressor(dict_data=trained).compress
    offsets = _write(tmp_path / "a.zst", [frame, *(pack(record) for record in RECORDS)])
    assert _places(tmp_path / "a.zst") == [Place(offset) for offset in offsets[1:]]
    _write(tmp_path / "b.zst", [pack(record) for record in RECORDS])
    with ArchiveStream(tmp_path / "b.zst") as stream, pytest.raises(Damage, match="needs the dictionary"):
        stream.ended()


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_damage_costs_its_member_alone(tmp_path: Path, kind: str):
    pack = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor(write_checksum=True).compress}[kind]
    members = [bytearray(pack(record)) for record in RECORDS]
    members[7][30:60] = b"\xff" * 30
    offsets = _write(tmp_path / "a", [bytes(member) for member in members])
    with ArchiveStream(tmp_path / "a", start=offsets[7]) as stream:
        with pytest.raises(Damage):
            stream.take(1000, keep=0)
            stream.ended()
        assert stream.find(MARKER)
        assert stream.place() == Place(offsets[8])
    with ArchiveStream(tmp_path / "a") as stream:
        assert not stream.seek(offsets[7], offsets[8], MARKER) or stream.place().offset == offsets[7]


def test_a_bomb_and_an_end_that_comes_too_early_are_damage(tmp_path: Path):
    (tmp_path / "bomb").write_bytes(gzip.compress(b"0" * 80_000_000))
    with ArchiveStream(tmp_path / "bomb", max_expansion=1) as stream, pytest.raises(Damage) as caught:
        stream.take(80_000_000, keep=0)
    assert caught.value.reason == "decompression_bomb"
    whole = gzip.compress(b"".join(RECORDS))
    (tmp_path / "short").write_bytes(whole[: len(whole) // 2])
    with ArchiveStream(tmp_path / "short") as stream, pytest.raises(Damage) as caught:
        stream.take(1 << 20, keep=0)
    assert caught.value.reason == "truncated"
