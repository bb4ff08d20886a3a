"""RayCrew without Ray: what a task answers. That Ray does them is in test_ray_engine, which has the one cluster."""

from __future__ import annotations

from pathlib import Path

from bloomery.core.config import to_dict
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.ray_crew import answer
from bloomery.corpus.shards import SplitWriter


def test_a_task_counts_or_says_why_not(tmp_path: Path):
    with SplitWriter(tmp_path, "s", shard_bytes=1 << 30) as writer:
        for n in range(3):
            writer.write(Document.of(f"text {n}", ""))
    task = {"do": "sign", "folder": str(tmp_path), "name": "s", "first": 0, "out": str(tmp_path / "out")}
    task |= {"sketches": str(tmp_path / "sketches"), "config": to_dict(DedupConfig(near=True))}
    assert answer(task) == {"count": 3} == answer(task)  # again, as after a node that was lost
    assert answer({**task, "sketches": str(tmp_path / "none" / "sketches")})["errno"] == 2
    (tmp_path / "s-00000.jsonl.zst").write_bytes(b"no shard")
    said = answer(task)
    assert "cannot read the shard" in said["error"] and said["hint"]
