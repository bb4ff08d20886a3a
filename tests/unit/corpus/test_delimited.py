"""Delimited: the rows that pandas reads, their lines, and what is broken; spans joined are the file."""

from __future__ import annotations

import csv
import gzip
import random
from pathlib import Path
from typing import Any

import pandas
import pytest

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.delimited import read_delimited
from bloomery.corpus.document import Document
from bloomery.corpus.problems import Problems
from bloomery.corpus.reading_plan import FilePlan
from bloomery.corpus.source_file import SourceFile


def _read(path: Path, span: Any = None, **config: Any) -> tuple[list[Document], Problems]:
    problems = Problems()
    return list(read_delimited(path, CurateConfig(**config), problems, span=span)), problems


def _table(path: Path, rows: int, delimiter: str = ",") -> None:
    rng = random.Random(7)
    pieces = ["plain", "with, comma", "semi; colon", 'a "quote"', "two\nlines", "three\n\n\nlines", "", "\t", "é 日本"]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(["id", "text", "label"])
        for n in range(rows):
            writer.writerow([n, "".join(rng.choices(pieces, k=3)) + str(n), rng.choice("ab")])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_rows_are_those_of_pandas(tmp_path: Path, delimiter: str):
    path = tmp_path / "a.csv"
    _table(path, 300, delimiter)
    frame = pandas.read_csv(path, sep=delimiter, dtype=str, keep_default_na=False)
    documents, problems = _read(path, metadata_fields=("id", "label"))
    assert [d.text for d in documents] == list(frame["text"])
    assert [d.metadata["id"] for d in documents] == list(frame["id"])
    assert problems.total == 0
    lines = path.read_text(encoding="utf-8").split("\n")
    assert all(lines[d.metadata["line"] - 1].startswith(d.metadata["id"] + delimiter) for d in documents)


def test_tsv_has_no_quoting(shared_data: Path):
    path = shared_data / "massive" / "en.tsv.xz"
    frame = pandas.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False)
    documents, problems = _read(path, text_field="utt", metadata_fields=("intent",))
    assert [d.text for d in documents] == list(frame["utt"])
    assert [d.metadata["intent"] for d in documents] == list(frame["intent"])
    assert problems.total == 0


def test_a_number_counts_columns_where_there_is_no_header(shared_data: Path):
    documents, problems = _read(shared_data / "classify" / "sms_spam.tsv.xz", text_field="2", metadata_fields=("1",))
    assert len(documents) > 5000
    assert {d.metadata["1"] for d in documents} == {"ham", "spam"}
    assert problems.total == 0


def test_broken_rows_are_named_and_the_others_kept(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,n\none,1\ntwo\n\nthree,3,3\n"open,4\nfive,5\n' + b"x,9\n" * 600)
    documents, problems = _read(path, max_document_bytes=1024)
    assert [d.text for d in documents][:2] == ["one", "five"]
    assert len(documents) == 602
    assert [(p["reason"], p["where"]) for p in problems.listed] == [
        ("broken_row", f"{path}, line 3"),
        ("broken_row", f"{path}, line 5"),
        ("row_too_long", f"{path}, line 6"),
    ]


def test_a_missing_column_says_which_there_are(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("body,n\none,1\ntwo,2\n")
    documents, problems = _read(path)
    assert documents == []
    assert problems.listed[0]["detail"] == 'no column "text"; there is: body, n; without a header: 1, 2'


def test_a_truncated_gzip_keeps_its_whole_rows(tmp_path: Path):
    _table(tmp_path / "a.csv", 3000)
    data = gzip.compress((tmp_path / "a.csv").read_bytes())
    (tmp_path / "b.csv.gz").write_bytes(data[: len(data) // 2])
    documents, problems = _read(tmp_path / "b.csv.gz")
    whole, _ = _read(tmp_path / "a.csv")
    assert 100 < len(documents) < 3000
    assert [d.text for d in documents[:-1]] == [d.text for d in whole[: len(documents) - 1]]
    assert problems.counts == {"truncated": 1}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_spans_joined_are_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: bytes):
    path = tmp_path / "a.csv"
    _table(path, 300)
    path.write_bytes(mark + path.read_bytes())
    whole, _ = _read(path)
    for step in (100, 777, 3000):
        monkeypatch.setattr("bloomery.corpus.reading_plan.LINE_BYTES", step)
        plan = FilePlan(SourceFile(path, named=True), CurateConfig())
        parts, end = [], 0
        for span in plan.spans():
            if end is None or (span.stop is not None and end >= span.stop):
                continue
            found, _ = _read(path, span)
            if span.start and span.begin != end:
                found, _ = _read(path, span := plan.from_place(end, span.stop))
            parts += found
            end = span.end
        assert parts == whole
