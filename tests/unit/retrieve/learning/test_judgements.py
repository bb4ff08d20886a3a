"""Judgements, read as BEIR keeps them."""

from __future__ import annotations

import json

import pytest

from bloomery.core.errors import DataError
from bloomery.retrieve.learning.judgements import Judgements


def write(folder, *, qrels: str = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td2\t2\n"):
    (folder / "qrels").mkdir(exist_ok=True)
    queries = [{"_id": "q1", "text": "one"}, {"_id": "q2", "text": "two"}, {"_id": "q3", "text": "three"}]
    corpus = [{"_id": "d1", "title": "T", "text": "first"}, {"_id": "d2", "title": "", "text": "second"}]
    for name, rows in (("queries", queries), ("corpus", corpus)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "qrels" / "train.tsv").write_text(qrels)
    return folder


def test_a_folder(tmp_path):
    found = Judgements.read(write(tmp_path))
    assert found.queries == {"q1": "one", "q2": "two"} and found.passages == {"d1": "T first", "d2": "second"}
    assert found.relevant == {"q1": frozenset({"d1"}), "q2": frozenset({"d2"})}
    assert found.only(["q2"]).relevant == {"q2": frozenset({"d2"})}
    assert found.fingerprint == Judgements.read(tmp_path).fingerprint != found.only(["q2"]).fingerprint


@pytest.mark.parametrize("qrels", ["", "q1\td1\n", "q1\td9\t1\n", "q9\td1\t1\n", "a\tb\tc\nq1\td1\tx\n"])
def test_damage(tmp_path, qrels):
    with pytest.raises(DataError):
        Judgements.read(write(tmp_path, qrels=qrels))


def test_rows_that_are_none(tmp_path):
    write(tmp_path)
    (tmp_path / "corpus.jsonl").write_text('{"_id": 1}')
    with pytest.raises(DataError, match="_id and text"):
        Judgements.read(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        Judgements.read(tmp_path / "none")
