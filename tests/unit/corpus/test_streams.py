"""Streams: every compression written by its own library, whole, truncated, damaged or a bomb."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bloomery.corpus import streams
from bloomery.corpus.streams import BrokenStream, as_utf8, decode, lines, read_blocks

_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
_DATA = random.Random(0).randbytes(300_000) + b"hello world\n" * 300_000


def _read(path: Path, max_expansion: int = 1 << 30) -> bytes:
    return b"".join(read_blocks(path, max_expansion=max_expansion))


@pytest.mark.parametrize("suffix", _COMPRESS)
def test_members_are_read_one_after_another(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_COMPRESS[suffix](_DATA) + _COMPRESS[suffix](b"more") + b"\0" * 8)
    assert _read(path) == _DATA + b"more"
    path.write_bytes(_COMPRESS[suffix](b""))
    assert _read(path) == b""


@pytest.mark.parametrize("suffix", _COMPRESS)
@pytest.mark.parametrize("cut", [1, 20, 100_000])
def test_what_comes_before_a_truncation_is_given(tmp_path: Path, suffix: str, cut: int):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_COMPRESS[suffix](_DATA)[:-cut])
    got = b""
    with pytest.raises(BrokenStream) as caught:
        for block in read_blocks(path, max_expansion=1 << 30):
            got += block
    assert caught.value.reason == "truncated"
    assert _DATA.startswith(got)


@pytest.mark.parametrize("suffix", _COMPRESS)
def test_damage_is_found(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    whole = bytearray(_COMPRESS[suffix](_DATA))
    whole[len(whole) // 2] ^= 0x55
    for content in (bytes(whole), b"plain text, not compressed at all"):
        path.write_bytes(content)
        with pytest.raises(BrokenStream) as caught:
            _read(path)
        assert caught.value.reason == "damaged"


@pytest.mark.parametrize("suffix", _COMPRESS)
def test_a_decompression_bomb_is_stopped(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "_BOMB_BYTES", 1 << 20)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_COMPRESS[suffix](b" " * (32 << 20)))
    given_bytes = 0
    with pytest.raises(BrokenStream) as caught:
        for block in read_blocks(path, max_expansion=10):
            given_bytes += len(block)
    assert caught.value.reason == "decompression_bomb"
    assert given_bytes <= 1 << 20


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path):
    with pytest.raises(BrokenStream) as caught:
        _read(tmp_path / "none.txt")
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (b"", "cp1251"),
    ],
)
def test_a_byte_order_mark_or_the_setting_decides(mark: bytes, encoding: str):
    text = "Привет, мир\n" * 3000
    data = mark + text.encode(encoding)
    blocks = [data[i : i + 1001] for i in range(0, len(data), 1001)]
    assert b"".join(as_utf8(blocks, "utf-8" if mark else encoding)).decode() == text


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01\0\0", b"\x89PNG\r\n\x1a\n\0", random.Random(1).randbytes(5000)])
def test_binary_data_is_refused(data: bytes):
    with pytest.raises(BrokenStream) as caught:
        list(as_utf8([data], "utf-8"))
    assert caught.value.reason == "binary"


def test_what_is_invalid_in_another_encoding_is_counted_too():
    data = codecs.BOM_UTF16_LE + "fine ".encode("utf-16-le") * 100 + b"\x00\xd8" + "x".encode("utf-16-le")
    text, invalid, line = decode(b"".join(as_utf8([data], "utf-8")))
    assert (invalid, line) == (1, 1)
    assert text == "fine " * 100 + "\ufffdx"


def test_replacements_that_the_text_already_had_are_not_counted():
    assert decode("a\ufffdb".encode()) == ("a\ufffdb", 0, 0)
    assert decode(b"one\ntwo\n\xff " + "\ufffd".encode()) == ("one\ntwo\n\ufffd \ufffd", 1, 3)


@given(st.lists(st.binary(max_size=30)), st.integers(1, 40))
def test_lines_are_those_of_bytes_split(blocks: list[bytes], limit: int):
    expected = b"".join(blocks).split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    got = list(lines(blocks, max_bytes=limit))
    assert [number for number, _ in got] == list(range(1, len(expected) + 1))
    assert [line for _, line in got] == [line if len(line) <= limit else None for line in expected]


@pytest.mark.parametrize("suffix", _COMPRESS)
def test_a_file_of_zeros_is_damaged_and_not_empty(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(bytes(100_000))
    with pytest.raises(BrokenStream, match="begins with zeros") as caught:
        list(read_blocks(path, max_expansion=200))
    assert caught.value.reason == "damaged"
    path.write_bytes(b"")
    assert list(read_blocks(path, max_expansion=200)) == []
