"""What was cut: the pieces put back give the text."""

from __future__ import annotations

from pathlib import Path

from bloomery.corpus.document import Document
from bloomery.corpus.removed_texts import REMOVED_FILE, Cut, RemovedTexts
from bloomery.corpus.shards import read_lines


def test_pieces_are_written_with_their_reasons_and_can_be_put_back(tmp_path: Path):
    removed = RemovedTexts(tmp_path)
    document = Document.of("one\ntwo\nthree\nfour\n", "s", {"line": 3})
    after = removed.cut(document, [Cut(0, 4, "x"), Cut(8, 14, "y")], "repeated_line")
    assert after.text == "two\nfour\n" and after.id == Document.of("two\nfour\n", "").id
    assert after.metadata == {"line": 3, "repeated_lines": 2, "cut_from": document.id}
    last = removed.cut(after, [Cut(3, 9, "z")], "repeated_substring")
    assert last.text == "two" and last.metadata["cut_from"] == document.id
    nothing = removed.cut(last, [Cut(0, 3, "z")], "repeated_line")
    assert nothing.text == ""
    report = removed.report("repeated_line")
    assert (report["documents_cut"], report["pieces"], report["characters"]) == (2, 3, 13)
    assert [example["text"] for example in report["longest"]] == ["three\n", "one\n", "two"]
    removed.close()
    rows = list(read_lines(tmp_path / REMOVED_FILE))
    assert rows[0] == {
        "id": document.id, "became": after.id, "source": "s", "reason": "repeated_line", "start": 0, "text": "one\n",
        "first": "x",
    }  # fmt: skip
    assert [row["became"] for row in rows] == [after.id, after.id, last.id, ""]
    text = after.text
    for row in rows[:2]:
        text = text[: row["start"]] + row["text"] + text[row["start"] :]
    assert text == document.text


def test_nothing_cut_is_no_file(tmp_path: Path):
    removed = RemovedTexts(tmp_path)
    removed.close()
    assert removed.report("repeated_line") == {"documents_cut": 0, "pieces": 0, "characters": 0, "longest": []}
    assert not list(tmp_path.iterdir())
