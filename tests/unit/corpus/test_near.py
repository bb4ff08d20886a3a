"""Near duplicates: clusters against brute force over every pair, and the same for any number of workers."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.events import Event
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, DedupConfig, curate, read_documents, staged
from bloomery.corpus.document import Document
from bloomery.corpus.minhash import s_curve, words_of
from bloomery.corpus.near import NearDuplicates
from bloomery.corpus.shards import DROPPED_FILE, read_lines
from bloomery.corpus.split import SPLITS


def made_texts(seed: int, count: int, *, copies: int = 2, words: int = 60) -> list[str]:
    """Texts of words by chance, every third with copies in which a few words are others, in mixed order."""
    rng = random.Random(seed)
    vocabulary = [f"w{n}" for n in range(3000)]
    texts = []
    for n in range(count):
        text = rng.choices(vocabulary, k=words)
        texts.append(" ".join(text))
        for _ in range(copies if n % 3 == 0 else 0):
            other = list(text)
            for _ in range(rng.randrange(1, 5)):
                other[rng.randrange(words)] = f"new{rng.random()}"
            texts.append(" ".join(other))
    rng.shuffle(texts)
    return texts


def runs(text: str, size: int = 5) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


def similarity(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


Dropped = list[tuple[Document, str, dict[str, Any]]]


def run(tmp_path: Path, texts: list[str], *, workers: int = 1, **config: Any) -> tuple[list[Document], Dropped, Any]:
    dropped: Dropped = []

    def drop(document: Document, reason: str, detail: str, more: Mapping[str, Any]) -> None:
        dropped.append((document, reason, dict(more)))

    near = NearDuplicates(DedupConfig(near=True, **config), scratch=tmp_path, workers=workers)
    kept = list(near.kept([Document.of(text, f"s:{n}") for n, text in enumerate(texts)], drop))
    return kept, dropped, near.told.report()


def test_pairs_are_found_as_often_as_the_curve_says_and_unlike_ones_never(tmp_path: Path):
    texts = made_texts(1, 120)
    sets = [runs(text) for text in texts]
    kept, dropped, report = run(tmp_path, texts)
    pairs = [(i, j, s) for i, j in combinations(range(len(texts)), 2) if (s := similarity(sets[i], sets[j])) > 0.3]
    place = {Document.of(text, "").id: n for n, text in enumerate(texts)}
    cluster = {d.metadata["near_cluster"]: place[d.id] for d in kept if "near_cluster" in d.metadata}
    label = {n: n for n in range(len(texts))}
    for document, reason, more in dropped:
        assert reason == "near_duplicate"
        label[place[document.id]] = place[more["kept"]]
        assert cluster[more["cluster"]] == place[more["kept"]] < place[document.id]
        true = similarity(sets[place[document.id]], sets[place[more["kept"]]])
        assert abs(more["similarity"] - true) < 4.5 * (true * (1 - true) / 112) ** 0.5 + 1e-3  # of some 100 estimates
    together = [(label[i] == label[j], s) for i, j, s in pairs]
    expected = sum(s_curve(s, bands=14, rows=8) for _, s in together)
    # Two of a family of three also come together through the third, so that there may be more, hardly fewer.
    assert sum(found for found, _ in together) >= expected - 3 * expected**0.5
    assert all(found for found, s in together if s > 0.92)
    alike = {frozenset((i, j)) for i, j, _ in pairs}
    assert all(any(frozenset((n, other)) in alike for other in label) for n, first in label.items() if n != first)
    assert len(kept) + len(dropped) == len(texts) == report["documents"]
    assert [d.text for d in kept] == [text for n, text in enumerate(texts) if label[n] == n]


def test_the_first_in_source_order_is_kept_and_told_with_its_cluster(tmp_path: Path):
    first = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    second = first.upper() + "!"
    kept, dropped, report = run(tmp_path, ["alone here", first, "", second, "...", "short", "SHORT.", first + "?"])
    assert [d.text for d in kept] == ["alone here", first, "", "...", "short"]
    assert kept[1].metadata == {"near_cluster": 0, "near_cluster_size": 3}
    assert [(d.text, more) for d, _, more in dropped] == [
        (second, {"cluster": 0, "kept": kept[1].id, "similarity": 1.0}),
        ("SHORT.", {"cluster": 1, "kept": kept[4].id, "similarity": 1.0}),
        (first + "?", {"cluster": 0, "kept": kept[1].id, "similarity": 1.0}),
    ]
    assert (report["clusters"], report["cluster_sizes"], report["largest"]) == (2, {"2": 1, "3": 1}, 3)
    assert not any(tmp_path.iterdir())


def test_one_worker_and_four_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts = made_texts(2, 90)
    alone = run(tmp_path / "a", texts)
    monkeypatch.setattr(staged, "SHARD_BYTES", 12_000)
    assert run(tmp_path / "b", texts, workers=4) == alone
    assert run(tmp_path / "c", texts, workers=1) == alone
    assert len(alone[1]) > 10


def test_pairs_that_meet_may_be_held_to_a_least_similarity(tmp_path: Path):
    texts = made_texts(2, 90)
    loose, strict = run(tmp_path, texts), run(tmp_path, texts, near_similarity=0.85)
    assert 5 < len(strict[1]) < len(loose[1])
    assert strict[2]["pairs_by_similarity"].keys() <= {"0.85", "0.90", "0.95", "1.00"}
    pairs = loose[2]["pairs_by_similarity"]
    assert pairs.keys() > strict[2]["pairs_by_similarity"].keys()


def test_a_corpus_without_near_duplicates_says_why_each_one_went(workspace: Workspace, tmp_path: Path):
    texts = made_texts(3, 90)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    ids = []
    for workers in (1, 4):
        config = CurateConfig(dedup=DedupConfig(near=True), decontaminate_words=0)
        corpus = curate(tmp_path / "a.jsonl", config=config, workspace=tmp_path / str(workers), workers=workers)
        ids.append(corpus.id)
    assert ids[0] == ids[1]
    rows = [row for row in read_lines(corpus.file(DROPPED_FILE)) if row["reason"] == "near_duplicate"]
    kept = {d.id: d for split in SPLITS for d in read_documents(corpus, split)}
    assert rows and all(kept[row["kept"]].metadata["near_cluster"] == row["cluster"] for row in rows)
    report = json.loads((corpus.path / "report.json").read_text())["dedup"]["near"]
    assert report["dropped"] == len(rows) == sum(report["dropped_by_similarity_to_kept"].values())
    assert report["examples"][0]["least_similar"]["similarity"] == min(
        row["similarity"] for row in rows if row["cluster"] == report["examples"][0]["cluster"]
    )


def test_what_takes_long_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(staged, "SHARD_BYTES", 8000)
    monkeypatch.setattr(sys.modules["bloomery.corpus.curate"], "_PROGRESS_SECONDS", 0.0)
    heard: list[tuple[str, float, float | None]] = []

    def hear(event: Event) -> None:
        if event.kind == "progress":
            heard.append((event.data["unit"], event.data["done"], event.data["total"]))

    texts = made_texts(2, 60)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = CurateConfig(dedup=DedupConfig(near=True, substring_words=30))
    workspace = Workspace(tmp_path / "h", listeners=[hear])
    curate(tmp_path / "a.jsonl", config=config, workspace=workspace, workers=1)
    totals = {unit: total for unit, _, total in heard}
    assert totals["partitions joined"] == 64 and totals["shards signed"] == max(
        done for unit, done, _ in heard if unit == "shards signed"
    )
    assert totals["documents compared"] == len(texts) and totals["documents searched for runs"]
