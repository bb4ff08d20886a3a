"""Spill: what is brought together by key is what a dictionary brings together, whatever fits in memory."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.corpus import spill
from bloomery.corpus.spill import PARTITIONS, Spill, firsts_of, groups, partition_file, records_of

_KEYS = st.sampled_from([0, 1, 2, 1 << 57, (1 << 57) + 1, 1 << 58, 5 << 58, (5 << 58) + 7, (1 << 64) - 1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    batches=st.lists(st.lists(st.tuples(_KEYS, st.integers(0, 50)), max_size=20), max_size=4), fits=st.integers(1, 9)
)
def test_firsts_and_others_are_those_of_a_dictionary(
    tmp_path: Path, batches: list[list[tuple[int, int]]], fits: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spill, "SORTED_RECORDS", fits)
    monkeypatch.setattr(spill, "_READ_RECORDS", 3)
    by_key: dict[int, set[int]] = defaultdict(set)
    folders = []
    for place, batch in enumerate(batches):
        folders.append(tmp_path / str(place))
        written = Spill(folders[-1])
        for key, number in batch:
            by_key[key].add(number)
        written.write(records_of(np.array([k for k, _ in batch], np.uint64), np.array([n for _, n in batch], int)))
    found: set[tuple[int, int]] = set()
    for partition in range(PARTITIONS):
        for records, whole in groups([partition_file(f, partition) for f in folders], tmp_path / "scratch"):
            assert whole or len(set(records["key"].tolist())) == 1
            assert len(records) <= max(fits, 3 + 1)
            firsts, others = firsts_of(records)
            found |= set(zip(firsts.tolist(), others.tolist(), strict=True))
    assert found == {(min(n), other) for n in by_key.values() for other in n if other != min(n)}


def test_what_an_earlier_attempt_left_is_not_read(tmp_path: Path):
    for _ in range(2):
        Spill(tmp_path / "a").write(records_of(np.array([1, 1], np.uint64), np.array([3, 4])))
    assert partition_file(tmp_path / "a", 0).stat().st_size == 2 * 16
