"""The worker: a line of JSON in, a line of JSON out, errors too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bloomery.core.config import to_dict
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.near_worker import work
from bloomery.corpus.shards import SplitWriter
from bloomery.corpus.spill import PARTITIONS


def test_tasks_are_done_one_after_another_and_what_fails_is_said(tmp_path: Path):
    with SplitWriter(tmp_path, "s", shard_bytes=1 << 30) as writer:
        for text in ("one two three four five six seven", "One, two: three four five six seven.", "another"):
            writer.write(Document.of(text, ""))
    same = {"config": to_dict(DedupConfig(near=True)), "sketches": str(tmp_path / "sketches")}
    sign = {"do": "sign", "folder": str(tmp_path), "name": "s", "first": 0, "out": str(tmp_path / "records"), **same}
    nowhere = {**sign, "sketches": str(tmp_path / "no" / "where"), "out": str(tmp_path / "other")}
    lines = "".join(json.dumps(task) + "\n" for task in (sign, nowhere, {**sign, "config": {"bands": 2}}))
    command = [sys.executable, "-m", "bloomery.corpus.near_worker"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[0] == {"count": 3} and answers[1]["errno"] == 2
    assert answers[2]["error"].startswith('unknown key "bands"')
    join = {
        "do": "join",
        "folders": [sign["out"]],
        "scratch": str(tmp_path / "s"),
        "out": str(tmp_path / "edges"),
        **same,
    }
    counts = [work({**join, "partition": partition}) for partition in range(PARTITIONS)]
    assert sum(counts) <= 14 and sum(count > 0 for count in counts) > 0
