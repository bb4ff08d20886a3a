"""Event logs survive a torn last line."""

from __future__ import annotations

from pathlib import Path

from bloomery.core.events import Event, EventLog, read_events


def test_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(Event(kind="note", run="r", stage="s", data={"text": "ü"}, time=1.0))
    log.close()
    log.append(Event(kind="note", run="r", stage="s"))  # after the end: ignored
    with path.open("a") as stream:
        stream.write('{"time": 2, "ki')
    assert list(read_events(path)) == [{"time": 1.0, "kind": "note", "text": "ü"}]


def test_a_name_that_is_not_utf8_comes_back(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append(Event(kind="note", run="r", stage="s", data={"text": "caf\udce9"}, time=1.0))
    log.close()
    assert next(read_events(tmp_path / "events.jsonl"))["text"] == "caf\udce9"
