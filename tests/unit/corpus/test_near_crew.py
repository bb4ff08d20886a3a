"""NearCrew: tasks in order, one error told, no process left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from bloomery.core.config import to_dict
from bloomery.core.errors import DataError
from bloomery.corpus import near_crew
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.near_crew import NearCrew
from bloomery.corpus.shards import SplitWriter


def _tasks(folder: Path, counts: list[int]) -> list[dict[str, Any]]:
    tasks, first = [], 0
    for n, count in enumerate(counts):
        with SplitWriter(folder, f"s{n}", shard_bytes=1 << 30) as writer:
            for place in range(count):
                writer.write(Document.of(f"text {place}", ""))
        task = {"do": "sign", "folder": str(folder), "name": f"s{n}", "first": first, "out": str(folder / f"out{n}")}
        tasks.append({**task, "sketches": str(folder / "sketches"), "config": to_dict(DedupConfig(near=True))})
        first += count
    return tasks


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_processes_do_what_one_does_and_end(tmp_path: Path):
    before = _children()
    tasks = _tasks(tmp_path, [3, 1, 4])
    alone = NearCrew(1).run(tasks), (tmp_path / "sketches").read_bytes()
    (tmp_path / "sketches").unlink()
    assert (NearCrew(2).run(tasks), (tmp_path / "sketches").read_bytes()) == alone
    assert alone[0] == [3, 1, 4] and _children() <= before


def test_what_fails_in_a_process_is_told_as_it_would_be_here(tmp_path: Path):
    tasks = _tasks(tmp_path, [1, 1])
    broken = {**tasks[0], "sketches": str(tmp_path / "missing" / "sketches")}
    for workers in (1, 2):
        with pytest.raises(OSError, match="No such file"):
            NearCrew(workers).run([broken, tasks[1]])
    (tmp_path / "s1-00000.jsonl.zst").write_bytes(b"no shard")
    with pytest.raises(DataError, match="cannot read the shard"):
        NearCrew(2).run(tasks)


def test_a_process_that_dies_is_an_error_in_one_line(tmp_path: Path):
    worker = near_crew._Worker()
    worker._process.kill()
    with pytest.raises(DataError, match="died \\(exit code -9") as caught:
        worker.do({})
    assert "--workers 1" in caught.value.hint and "\n" not in caught.value.one_line()
    worker.end()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_done_is_told(tmp_path: Path, workers: int):
    told: list[int] = []
    NearCrew(workers).run(_tasks(tmp_path, [3, 1, 4]), told.append)
    assert told == [1, 2, 3]
