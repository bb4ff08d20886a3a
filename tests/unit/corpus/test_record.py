"""Record: the same after any of its two plain forms."""

from __future__ import annotations

import json

import pytest

from bloomery.corpus.document import Document
from bloomery.corpus.record import Record

DOCUMENT = Document.of("text \u2028 with\nlines", "a.jsonl", {"line": 3, "tags": ["x", None], "ä": 0.1})


@pytest.mark.parametrize(
    "record",
    [
        Record.of(DOCUMENT),
        Record("taken", 7, id="a", source="s", reason="rule", detail="0.1", more={"score": 0.1 + 0.2}),
        Record("document", 1, 2, "a", "b", "c", {}, scores={"rule": "", "x": None}, lines={"x": [1, -1], "y": None}),
        Record("problem", source="a, line 1", reason="broken_json", detail="why", metadata={}),
        Record.of_broken("a.bin", "binary", "zeros", named=True),
    ],
)
def test_forms(record: Record):
    assert Record(*json.loads(json.dumps(record.to_list()))) == record
    row = record.row()
    assert all(isinstance(value, (str, int)) for value in row.values())
    assert Record.of_row(row) == record


def test_a_document_is_put_and_taken():
    record = Record.of(Document.of("long", "s", {"a": 1}))
    record.item = 4
    assert record.put(DOCUMENT).document == DOCUMENT and record.item == 4
    taken = record.take("rule", "said", {"score": 1})
    assert (taken.kind, taken.id, taken.source, taken.text) == ("taken", DOCUMENT.id, "a.jsonl", "")
