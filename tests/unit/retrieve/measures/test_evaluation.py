"""Measures held to their formulas by hand, and to ir-measures over the whole."""

from __future__ import annotations

import math

import pytest

from bloomery.core.errors import DataError
from bloomery.retrieve.chunk import Chunk, Hit
from bloomery.retrieve.measures.evaluation import by_document, difference, evaluate, per_query

pytest.importorskip("ir_measures")
JUDGED = {"1": {"a": 1, "b": 0}, "2": {"c": 2, "d": 1}, "3": {"x": 1}, "4": {"y": 0}}
RANKED = {"1": [("b", 1.0), ("a", 1.0)], "2": [("d", 3.0), ("z", 2.0), ("c", 1.0)], "3": [], "4": [("y", 1.0)]}


def test_by_hand():
    found = per_query(RANKED, JUDGED, ("nDCG@10", "RR", "R@10", "AP"))
    assert set(found["RR"]) == {"1", "2", "3"}
    assert found["RR"] == {"1": 0.5, "2": 1.0, "3": 0.0}  # equal scores keep their places
    ideal = 2 + 1 / math.log2(3)
    assert found["nDCG@10"]["2"] == pytest.approx((1 + 2 / math.log2(4)) / ideal)
    assert found["AP"]["2"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["R@10"] == {"1": 1.0, "2": 1.0, "3": 0.0}


def test_intervals_and_differences():
    measured = evaluate(RANKED, JUDGED)["RR"]
    assert measured.value == pytest.approx(0.5) and measured.low < 0.5 < measured.high
    better = {**RANKED, "1": [("a", 1.0)]}
    assert difference(better, RANKED, JUDGED, "RR").value == pytest.approx(0.5 / 3)


def test_what_makes_no_sense():
    with pytest.raises(DataError, match="unknown measure"):
        per_query(RANKED, JUDGED, ("nonsense@3",))
    with pytest.raises(DataError, match="no query"):
        per_query({"9": []}, JUDGED)
    with pytest.raises(DataError, match="different queries"):
        difference(RANKED, {"1": []}, JUDGED)


def test_a_document_stands_where_its_best_chunk_does():
    hits = [
        Hit(chunk=Chunk(id=str(n), document_id=name, text="t", start=0, end=1), score=9.0 - n)
        for n, name in enumerate("abac")
    ]
    assert by_document(hits, 10) == [("a", 9.0), ("b", 8.0), ("c", 6.0)] and len(by_document(hits, 2)) == 2
