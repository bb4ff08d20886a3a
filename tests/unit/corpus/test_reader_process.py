"""ReaderProcess: tasks in, frames out; what a worker's end looks like."""

from __future__ import annotations

import json
import os
import select
import signal
from pathlib import Path

from bloomery.core.config import to_dict
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.reader_process import ReaderProcess
from bloomery.corpus.record import Record


def _task(path: Path) -> dict:
    span = {"start": 0, "stop": None, "sure": True, "lines": 0, "quotes": 0}
    task = {"path": str(path), "kind": "", "metadata": {}, "config": to_dict(CurateConfig())}
    return {**task, "span": span, "resume": 0, "refused": None}


def _frames(process: ReaderProcess) -> list[list]:
    found: list[list] = []
    while not process.ended and not any(frame[0] in ("done", "broken") for frame in found):
        select.select([process], [], [], 60)
        found += [json.loads(frame) for frame in process.frames(1 << 20)]
    return found


def test_one_process_reads_one_file_after_the_other(tmp_path: Path):
    process = ReaderProcess()
    try:
        (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{broken\n')
        process.give(_task(tmp_path / "a.jsonl"))
        begin, items, done = _frames(process)
        assert (begin[0], done) == ("begin", ["done", 0, None])
        first, second = (Record(*row) for row in items[1])
        assert (first.kind, second.kind, items[2]) == ("document", "problem", 2)
        assert (first.text, first.source, first.metadata) == ("one", str(tmp_path / "a.jsonl"), {"line": 1})
        process.give(_task(tmp_path / "none.txt"))
        assert _frames(process)[-1][:2] == ["broken", "unreadable"]
    finally:
        process.end()


def test_a_process_that_is_killed_has_ended(tmp_path: Path):
    process = ReaderProcess()
    try:
        os.kill(process.pid, signal.SIGKILL)
        process.give(_task(tmp_path / "none.txt"))
        assert _frames(process) == []
        assert process.ended
        assert process.code() == -signal.SIGKILL
        assert process.last_words() == ""
    finally:
        process.end()
