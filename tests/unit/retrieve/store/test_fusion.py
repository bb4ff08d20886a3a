"""Fusion held to the formulas of its papers."""

from __future__ import annotations

import pytest

from bloomery.retrieve.store.fusion import fuse

LEXICAL, VECTOR = [(1, 9.0), (2, 5.0), (3, 1.0)], [(3, 0.9), (4, 0.5)]


def test_reciprocal_ranks():
    found = dict(fuse({"lexical": LEXICAL, "vector": VECTOR}, {}))
    assert found == pytest.approx({1: 1 / 61, 2: 1 / 62, 3: 1 / 63 + 1 / 61, 4: 1 / 62})


def test_equal_scores_come_by_row_and_weights_weigh():
    assert [row for row, _ in fuse({"lexical": LEXICAL, "vector": VECTOR}, {})] == [3, 1, 2, 4]
    assert [row for row, _ in fuse({"lexical": LEXICAL, "vector": VECTOR}, {"vector": 0.0})] == [1, 2, 3, 4]


def test_scores():
    found = dict(fuse({"lexical": LEXICAL, "vector": VECTOR}, {"lexical": 0.5, "vector": 2.0}, "scores"))
    assert found == pytest.approx({1: 0.5, 2: 0.25, 3: 2.0, 4: 0.0})
    assert fuse({"lexical": [], "vector": [(1, 0.3)]}, {}, "scores") == [(1, 1.0)]
