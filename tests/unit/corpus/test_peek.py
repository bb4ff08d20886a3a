"""peek: the first documents, and what was refused before them, each named once."""

from __future__ import annotations

from pathlib import Path

from bloomery.corpus import peek


def test_the_first_documents_and_what_was_refused(shared_data: Path):
    seen = peek([shared_data / "web" / "warc" / "warcio" / "example-trunc.warc"])
    assert (seen.documents, seen.ended) == ([], True)
    assert seen.refused == {"record_type": 3, "wrong_length": 1}
    assert [row["reason"] for row in seen.listed] == ["record_type", "record_type", "wrong_length", "record_type"]


def test_it_stops_when_it_has_seen_enough(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{broken\n{"text": "two"}\n{"text": "three"}\n')
    seen = peek([tmp_path / "a.jsonl"], documents=2)
    assert [document.text for document in seen.documents] == ["one", "two"]
    assert not seen.ended
    assert seen.refused == {"broken_json": 1}
