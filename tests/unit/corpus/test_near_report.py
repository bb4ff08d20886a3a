"""The report of near duplicates: what it counts, from what it is told."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.near_report import NearReport


def test_sizes_similarities_and_examples():
    told = NearReport(DedupConfig(near=True))
    sizes = np.array([3, 0, 0, 1, *([2, 0] * 6)], np.uint32)
    told.watch(sizes)
    told.documents = len(sizes)
    told.add_pairs([np.array([0.7, 0.749, 1.0]), np.array([0.95])])
    for cluster, place in enumerate(np.flatnonzero(sizes > 1).tolist()):
        told.add_kept(place, cluster, int(sizes[place]), Document.of(f"kept {place}", "s"))
    for number, similarity in ((1, 0.9), (2, 0.71)):
        told.add_dropped(0, Document.of(f"dropped {number}", "s"), similarity)
    report = told.report()
    assert report["pairs_by_similarity"] == {"0.70": 2, "0.95": 1, "1.00": 1}
    assert report["dropped_by_similarity_to_kept"] == {"0.70": 1, "0.90": 1}
    assert (report["would_drop_at_least"]["0.70"], report["would_drop_at_least"]["0.75"]) == (2, 1)
    assert report["cluster_sizes"] == {"2": 6, "3": 1} and report["largest"] == 3 and report["clusters"] == 7
    assert [example["documents"] for example in report["examples"]] == [3, 2, 2, 2, 2]
    assert report["examples"][0]["least_similar"]["text"] == "dropped 2"
    assert report["found_at"]["0.80"] == pytest.approx(1 - (1 - 0.8**8) ** 14, abs=1e-4)
