"""Rows of every format, packed or within archives; what is broken is told with file and line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from pathlib import Path

import pytest

from bloomery.core.errors import DataError
from bloomery.evaluate.tasks.rows import members, read_rows, split_archive

ROWS = [{"question": "Why?\nSo.", "n": 1}, {"question": 'é, "x"', "n": 2}]
TABBED = [{"question": '"Why? So.', "n": 1}, {"question": 'é, "x"', "n": 2}]  # quotes are text
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def write(path: Path) -> Path:
    kind = path.name.partition(".")[2]
    if kind.endswith("parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    data = LINES
    if kind.startswith("json") and not kind.startswith("jsonl"):
        data = json.dumps(ROWS).encode()
    if kind.startswith("tsv"):
        data = "".join(f"{row['question']}\t{row['n']}\n" for row in [{"question": "question", "n": "n"}, *TABBED])
        data = data.encode()
    if kind.startswith("csv"):
        import csv

        text = io.StringIO()
        writer = csv.DictWriter(text, ["question", "n"])
        writer.writeheader()
        writer.writerows(ROWS)
        data = b"\xef\xbb\xbf" + text.getvalue().encode()
    packers = {"xz": lzma.compress, "gz": gzip.compress, "bz2": bz2.compress}
    path.write_bytes(packers.get(path.suffix[1:], bytes)(data))
    return path


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.xz", "a.jsonl.gz", "a.jsonl.bz2", "a.json", "a.csv", "a.tsv", "a.csv.gz", "a.parquet"]
)
def test_formats(tmp_path: Path, name: str):
    found = list(read_rows(write(tmp_path / name)))
    numbers = str if name[2:].startswith(("csv", "tsv")) else int
    rows = TABBED if name.endswith("tsv") else ROWS
    assert [row.values for row in found] == [{**row, "n": numbers(row["n"])} for row in rows]
    assert all(row.file == "a" and str(tmp_path) in row.where for row in found)
    assert len({row.where for row in found}) == 2


def test_lines_by_another_name(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(LINES)
    assert [row.values for row in read_rows(tmp_path / "a.json")] == ROWS


@pytest.mark.parametrize("kind", ["xz", "gz"])
def test_archives(tmp_path: Path, kind: str):
    path = tmp_path / f"set.tar.{kind}"
    with tarfile.open(path, f"w:{kind}") as tar:  # type: ignore[call-overload]
        info = tarfile.TarInfo("inner/a.jsonl")
        info.size = len(LINES)
        tar.addfile(info, io.BytesIO(LINES))
    assert members(path) == ["inner/a.jsonl"]
    found = list(read_rows(path, member="inner/a.jsonl"))
    assert [row.values for row in found] == ROWS and found[1].where == f"{path}/inner/a.jsonl:2"
    assert split_archive(f"set.tar.{kind}/inner/*.jsonl") == (f"set.tar.{kind}", "inner/*.jsonl")
    assert split_archive("plain/a.jsonl") == ("", "")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError):
        list(read_rows(path, member="inner/a.jsonl"))


@pytest.mark.parametrize(
    ("name", "data", "where"),
    [
        ("a.jsonl", b'{"a": 1}\n[1]\n', ":2"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', ":2"),
        ("a.jsonl", b"[" * 100_000, ":1"),
        ("a.jsonl", b'{"a": "\xff"}\n', ""),
        ("a.json", b"[1, 2]", "[1]"),
        ("a.csv", b"q,c\n1,2\n1\n", ":3"),
        ("a.csv", b'q,c\n"1,2\n', ""),
        ("a.csv", b"q,c\n1,2,3\n", ":2"),
        ("a.parquet", b"PAR1 no", ""),
        ("a.jsonl.xz", b"no", ""),
        ("a.txt", b"x", ""),
    ],
)
def test_what_is_broken(tmp_path: Path, name: str, data: bytes, where: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        list(read_rows(tmp_path / name))
    line = caught.value.one_line()
    assert f"{tmp_path / name}{where}" in line and "\n" not in line and len(line) < 600


def test_no_file(tmp_path: Path):
    with pytest.raises(DataError):
        list(read_rows(tmp_path / "nowhere.jsonl"))
