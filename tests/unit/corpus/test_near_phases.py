"""Phases: shards signed apart and in any order give what one shard gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloomery.corpus.clusters import read_edges
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.near_phases import SKETCH, Sketches, batches, join, sign, sign_shard, signer_of
from bloomery.corpus.shards import SplitWriter
from bloomery.corpus.spill import PARTITIONS

CONFIG = DedupConfig(near=True)
TEXTS = [f"word{n % 7} and some more words of number {n % 5} that stand here" for n in range(40)]


def _edges(tmp_path: Path, folders: list[Path], config: DedupConfig = CONFIG) -> list[list[int]]:
    files = []
    for partition in range(PARTITIONS):
        files.append(tmp_path / f"edges-{partition}")
        given = {"sketches": tmp_path / "sketches", "scratch": tmp_path / "s", "out": files[-1]}
        count = join(partition, folders, config, **given)
        assert count == join(partition, folders, config, **given) == sum(map(len, read_edges([files[-1]])))
    return sorted(edge for block in read_edges(files) for edge in block.tolist())


def test_shards_in_any_order_give_the_edges_and_sketches_of_one(tmp_path: Path):
    assert sign([TEXTS], 0, CONFIG, folder=tmp_path / "all", sketches=tmp_path / "sketches") == 40
    whole, one = (tmp_path / "sketches").read_bytes(), _edges(tmp_path, [tmp_path / "all"])
    (tmp_path / "sketches").unlink()
    folders = []
    for start, end in ((25, 40), (0, 10), (10, 25)):
        folders.append(tmp_path / f"from{start}")
        sign([TEXTS[start:end]], start, CONFIG, folder=folders[-1], sketches=tmp_path / "sketches")
    assert (tmp_path / "sketches").read_bytes() == whole and _edges(tmp_path, folders) == one
    assert {(a % 35, b % 35) for a, b in one if b >= 35} >= {(n, n) for n in range(5)}


def test_sketches_estimate_and_hold_pairs_to_a_least_similarity(tmp_path: Path):
    sign([TEXTS], 0, CONFIG, folder=tmp_path / "all", sketches=tmp_path / "sketches")
    signatures = signer_of(CONFIG).signatures(TEXTS)[0].astype(SKETCH)
    some, others = np.arange(30, dtype=np.uint64), np.arange(10, 40, dtype=np.uint64)
    estimated = Sketches(tmp_path / "sketches", CONFIG).similarity(some, others)
    assert estimated.tolist() == (signatures[:30] == signatures[10:]).mean(axis=1).tolist()
    strict = DedupConfig(near=True, near_similarity=0.999)
    same = [[a, b] for a, b in _edges(tmp_path, [tmp_path / "all"], strict)]
    assert same and all(TEXTS[a] == TEXTS[b] for a, b in same)


def test_documents_of_shards_are_read_in_batches(tmp_path: Path):
    with SplitWriter(tmp_path, "part", shard_bytes=2000) as writer:
        for text in TEXTS:
            writer.write(Document.of(text, ""))
    assert sign_shard(tmp_path, "part", 0, CONFIG, out=tmp_path / "out", sketches=tmp_path / "sketches") == 40
    width = CONFIG.near_bands * CONFIG.near_rows * SKETCH.itemsize
    assert (tmp_path / "sketches").stat().st_size == 40 * width
    large = [Document.of("x" * 600_000, "")] * 5
    assert [len(batch) for batch in batches(large)] == [2, 2, 1]
