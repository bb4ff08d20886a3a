"""Readers: every format, and everything that can be wrong with it, named by file and line."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.problems import Problems
from bloomery.corpus.readers import kind_of, read_file
from bloomery.corpus.streams import BrokenStream


def _read(path: Path, **config: Any) -> tuple[list[Document], Problems]:
    problems = Problems()
    return list(read_file(path, CurateConfig(**config), problems)), problems


def test_real_text_is_read_as_it_is(shared_data: Path):
    path = shared_data / "text" / "wagahaiwa_ja.txt.xz"
    documents, problems = _read(path)
    assert "".join(d.text for d in documents).encode() == lzma.decompress(path.read_bytes())
    assert problems.total == 0


def test_real_jsonl_gives_its_rows(shared_data: Path):
    path = shared_data / "text" / "c4_demo.jsonl.xz"
    rows = [json.loads(line) for line in lzma.decompress(path.read_bytes()).splitlines()]
    documents, problems = _read(path)
    assert [d.text for d in documents] == [row["text"] for row in rows]
    assert [d.metadata["line"] for d in documents] == list(range(1, len(rows) + 1))
    assert problems.total == 0


def test_a_truncated_gzip_keeps_its_whole_lines(tmp_path: Path):
    rows = [{"text": f"row {n} {n * 7919 % 1000}"} for n in range(5000)]
    data = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(data[: len(data) // 2])
    documents, problems = _read(path)
    assert 500 < len(documents) < 4500
    assert [d.text for d in documents] == [row["text"] for row in rows[: len(documents)]]
    assert problems.counts == {"truncated": 1}
    assert problems.listed[0]["where"] == f"{path}, line {len(documents) + 1}"
    text = tmp_path / "text.txt.gz"
    lines = [f"line {n} {n * 7919 % 1000}\n" for n in range(5000)]
    data = gzip.compress("".join(lines).encode())
    text.write_bytes(data[: len(data) // 2])
    documents, problems = _read(text)
    kept = documents[0].text.count("\n")
    assert documents[0].text == "".join(lines[:kept])
    assert problems.listed[0]["where"] == f"{text}, line {kept + 1}"


def test_every_broken_line_is_named_and_the_others_are_kept(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = [
        b'{"text": "one", "url": "u", "n": 1e999, "who": {"name": "x"}}',
        b'{"text": "two"',
        b"",
        b'["text"]',
        b'{"body": "three"}',
        b'{"text": 4}',
        b'{"text": "' + b"long " * 1000 + b'"}',
        b"[" * 100_000,
        b'{"text": "lone \\ud83d"}',
        b'{"text": "' + b"good " * 100 + b'\xff"}',
        b'{"text": "\xe9\xe9\xe9\xe9"}',
        b'{"text": "last"}',
    ]
    path.write_bytes(b"\n".join(rows))
    documents, problems = _read(path, max_document_bytes=2048, metadata_fields=("url", "n", "who.name"))
    assert [d.text for d in documents] == ["one", "lone \ufffd", "good " * 100 + "\ufffd", "last"]
    assert documents[0].metadata == {"line": 1, "url": "u", "n": "inf", "who.name": "x"}
    expected = {2: "broken_json", 4: "not_an_object", 5: "missing_text", 6: "missing_text", 7: "line_too_long"}
    expected |= {8: "line_too_long", 9: "invalid_bytes", 10: "invalid_bytes", 11: "other_encoding"}
    assert [(p["where"], p["reason"]) for p in problems.listed] == [
        (f"{path}, line {number}", reason) for number, reason in expected.items()
    ]
    deep = tmp_path / "deep.jsonl"
    deep.write_bytes(b"[" * 100_000 + b"\n")
    assert _read(deep)[1].counts == {"broken_json": 1}


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.dictionaries(st.sampled_from(["text", "a"]), _JSON).map(json.dumps)))
def test_no_line_is_fatal(tmp_path: Path, rows: list[bytes | str]):
    path = tmp_path / "fuzz.jsonl"
    raw = [row.encode() if isinstance(row, str) else row for row in rows]
    path.write_bytes(b'{"text": "first, so that it is text"}\n' + b"\n".join(raw))
    try:
        documents, problems = _read(path, metadata_fields=("a",))
    except BrokenStream as error:
        assert error.reason == "binary"
        return
    assert documents[0].text == "first, so that it is text"
    for document in documents:
        document.text.encode()
        json.dumps(document.metadata, allow_nan=False)
    lines = path.read_bytes().split(b"\n")
    assert len(documents) + problems.total <= 2 * len(lines)


def test_text_in_another_encoding_is_left_out_unless_it_is_named(tmp_path: Path):
    path = tmp_path / "latin.txt"
    text = "première ligne\ndéjà vu à l'été\n" * 20
    path.write_bytes(text.encode("latin-1"))
    documents, problems = _read(path)
    assert documents == []
    assert problems.listed[0]["where"] == f"{path}, line 1"
    assert problems.counts == {"other_encoding": 1}
    assert _read(path, encoding="latin-1")[0][0].text == text
    path.write_bytes(b"sound line\n" * 200 + b"one bad \xff byte\n")
    documents, problems = _read(path)
    assert "one bad \ufffd byte" in documents[0].text
    assert problems.listed[0]["where"] == f"{path}, line 201"


def test_a_text_beyond_the_limit_is_cut_and_nothing_is_lost(tmp_path: Path):
    path = tmp_path / "long.txt"
    for text in ("paragraph äöü\n\n" * 1000, "line 吾輩\n" * 1000, "é" * 5001):
        path.write_text(text)
        documents, problems = _read(path, max_document_bytes=1025)
        assert "".join(d.text for d in documents) == text
        assert all(len(d.text.encode()) <= 1025 for d in documents)
        assert [d.metadata["part"] for d in documents] == list(range(len(documents)))
        assert problems.total == 0


def _parquet(path: Path, columns: dict[str, Any], **options: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path, **options)


def test_parquet_gives_its_rows_from_every_row_group(tmp_path: Path):
    import pyarrow as pa

    texts = [f"row {n} äöü" for n in range(1000)]
    texts[7] = None  # type: ignore[call-overload]
    path = tmp_path / "a.parquet"
    for column in (pa.array(texts), pa.array(texts, pa.large_string()), pa.array(texts).dictionary_encode()):
        _parquet(path, {"id": list(range(1000)), "text": column}, row_group_size=300)
        documents, problems = _read(path, metadata_fields=("id",))
        assert [d.text for d in documents] == [t for t in texts if t is not None]
        assert documents[500].metadata == {"row": 501, "id": 501}
        assert problems.listed[0]["where"] == f"{path}, row 7"
        assert problems.counts == {"missing_text": 1}
    compressed = tmp_path / "a.parquet.gz"
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    assert [d.text for d in _read(compressed)[0]] == [d.text for d in documents]


def test_parquet_columns_may_be_nested_or_bytes_or_not_there(tmp_path: Path):
    path = tmp_path / "a.parquet"
    _parquet(path, {"page": [{"body": "one"}, {"body": "two"}], "raw": [b"good " * 50 + b"\xff", b"\xe9\xe9"]})
    assert [d.text for d in _read(path, text_field="page.body")[0]] == ["one", "two"]
    documents, problems = _read(path, text_field="raw")
    assert [d.text for d in documents] == ["good " * 50 + "\ufffd"]
    assert problems.counts == {"invalid_bytes": 1, "other_encoding": 1}
    documents, problems = _read(path)
    assert documents == []
    assert "page, raw" in problems.listed[0]["detail"]


def test_damaged_parquet_is_a_problem(tmp_path: Path):
    path = tmp_path / "a.parquet"
    _parquet(path, {"text": [f"row {n} {n * n}" for n in range(3000)]}, row_group_size=1000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    documents, problems = _read(path)
    assert (documents, problems.counts) == ([], {"damaged": 1})
    broken = bytearray(whole)
    broken[4:2000] = b"\xff" * 1996
    path.write_bytes(bytes(broken))
    documents, problems = _read(path)
    assert [d.text for d in documents][:1] == ["row 1000 1000000"]
    assert len(documents) == 2000
    assert problems.listed[0]["where"] == f"{path}, row group 0"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.TXT.GZ", ".txt"), ("a.jsonl.zst", ".jsonl"), ("a.b.parquet", ".parquet"), ("a.gz", "")]
)
def test_the_kind_is_the_suffix_below_the_compression(name: str, kind: str):
    assert kind_of(Path(name)) == kind
