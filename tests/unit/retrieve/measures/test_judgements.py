"""Queries and judgements in TREC's and BEIR's forms; the real SciFact files."""

from __future__ import annotations

import gzip

import pytest

from bloomery.core.errors import DataError
from bloomery.retrieve.measures.judgements import read_judgements, read_queries


def test_both_forms(tmp_path):
    beir, trec = tmp_path / "b.tsv", tmp_path / "t.txt"
    beir.write_text("query-id\tcorpus-id\tscore\n1\td1\t1\n1\td2\t0\n")
    trec.write_text("1 0 d1 1\n1 0 d2 0\n\n")
    assert read_judgements(beir) == read_judgements(trec) == {"1": {"d1": 1, "d2": 0}}
    lines, packed = tmp_path / "q.jsonl", tmp_path / "q.tsv.gz"
    lines.write_text('{"_id": "1", "text": "iron?"}\n{"id": 2, "text": "coal"}\n')
    packed.write_bytes(gzip.compress(b"1\tiron?\n2\tcoal\n"))
    assert read_queries(lines) == read_queries(packed) == {"1": "iron?", "2": "coal"}


@pytest.mark.parametrize("text", ["", "1 d", "1 0 d x", "{", '{"text": "x"}', "1\t \n", "1\ta\n1\tb\n"])
def test_what_is_neither(tmp_path, text):
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(DataError):
        read_queries(path)
    if "\t" not in text:
        with pytest.raises(DataError):
            read_judgements(path)
    with pytest.raises(DataError, match="cannot read"):
        read_queries(tmp_path / "absent")
