"""FilePlan: files are divided by their size and format alone; line ends and quotation marks are counted right."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.corpus import reading_plan
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.reading_plan import FilePlan
from bloomery.corpus.source_file import SourceFile
from bloomery.corpus.span import Span


def _plan(path: Path, **config) -> FilePlan:
    return FilePlan(SourceFile(path, named=True), CurateConfig(**config))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading_plan, "LINE_BYTES", 100)
    monkeypatch.setattr(reading_plan, "GROUP_BYTES", 1)
    monkeypatch.setattr(reading_plan, "REGION_BYTES", 100)


def test_counts_are_those_before_the_byte_before(tmp_path: Path):
    data = b'one,"two\nthree"\n\n' * 50
    (tmp_path / "a.csv").write_bytes(data)
    plan = _plan(tmp_path / "a.csv")
    spans = list(plan.spans())
    assert len(spans) == 8
    for span in [*spans[1:], plan.from_place(17 * 30, None), plan.from_place(17 * 3, 100)]:
        assert span.lines == data[: span.start - 1].count(b"\n")
        assert span.quotes == data[: span.start - 1].count(b'"')


def test_parquet_goes_by_row_groups(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [str(n) for n in range(100)]}), tmp_path / "a.parquet", row_group_size=10)
    assert [(s.start, s.stop) for s in _plan(tmp_path / "a.parquet").spans()][-2:] == [(8, 9), (9, None)]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz", "a.html", "a.parquet", "none.jsonl"])
def test_what_does_not_divide_is_one_span(tmp_path: Path, name: str):
    if name != "none.jsonl":
        (tmp_path / name).write_bytes(b"x\n" * 500)
    assert list(_plan(tmp_path / name).spans()) == [Span()]


def test_only_utf8_divides_by_lines(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(b"x\n" * 500)
    assert len(list(_plan(tmp_path / "a.jsonl").spans())) == 10
    assert len(list(_plan(tmp_path / "a.jsonl", encoding="latin-1").spans())) == 1
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe" + b"x\0\n\0" * 500)
    assert len(list(_plan(tmp_path / "a.jsonl").spans())) == 1
