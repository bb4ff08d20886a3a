"""Hard negatives: what was found first and is not known to answer."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.retrieve.chunk import Chunk, Hit
from bloomery.retrieve.learning.judgements import Judgements
from bloomery.retrieve.learning.mining import MiningConfig, hard_negatives, pairs_of

NAMES = [f"d{n}" for n in range(20)]
JUDGED = Judgements(
    queries={"q": "x", "r": "y"},
    passages={name: name for name in NAMES},
    relevant={"q": frozenset({"d0", "d2"}), "r": frozenset({"d1"})},
)


class Ordered:
    name = "ordered"

    def __init__(self, found: int = 20) -> None:
        self.found = found

    def search(self, query, k=10, filters=None):
        chunks = [Chunk(id=f"{one}-{n}", document_id=one, text=one, start=0, end=2) for one in NAMES for n in (0, 1)]
        return [Hit(chunk=one, score=1.0) for one in chunks][: min(k, self.found)]


def test_they_are_found_first_and_not_relevant():
    mined = hard_negatives(Ordered(), JUDGED, MiningConfig(count=3, depth=3))
    assert set(mined["q"]) <= set(NAMES) - {"d0", "d2"} and len(set(mined["q"])) == 3
    assert mined["q"][0] == "d1" and mined == hard_negatives(Ordered(), JUDGED, MiningConfig(count=3, depth=3))
    skipped = hard_negatives(Ordered(40), JUDGED, MiningConfig(count=2, depth=8, skip=2))
    assert not {"d1", "d3"} & set(skipped["q"])


def test_chance_fills_up():
    mined = hard_negatives(Ordered(0), JUDGED, MiningConfig(count=5))
    assert all(len(set(found)) == 5 and not set(found) & JUDGED.relevant[q] for q, found in mined.items())


def test_pairs_for_a_reranker():
    mined = {"q": ("d5",), "r": ()}
    assert pairs_of(JUDGED, mined) == [("q", "d0", 1.0), ("q", "d2", 1.0), ("q", "d5", 0.0), ("r", "d1", 1.0)]


def test_mistakes():
    with pytest.raises(ConfigError):
        MiningConfig(count=5, depth=4)
    with pytest.raises(ConfigError, match="too few"):
        hard_negatives(Ordered(), JUDGED, MiningConfig(count=19))
