"""Shuffling on disk: a permutation, the same whatever the memory, and none likelier than another (scipy's tests)."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
from scipy import stats

from bloomery.corpus.shuffle import row_key, shuffled


def _order(folder: Path, count: int, seed: int, *, bucket_bytes: int = 1 << 20, size: int = 0) -> list[int]:
    rows = [(row_key(seed, str(n).encode()), str(n).encode()) for n in range(count)]
    total = size or sum(len(content) for _, content in rows)
    return [int(line) for line in shuffled(rows, folder, size=total, bucket_bytes=bucket_bytes)]


def test_every_row_once_and_the_same_whatever_the_memory(tmp_path: Path):
    whole = _order(tmp_path, 5000, 7)
    assert sorted(whole) == list(range(5000)) and whole != list(range(5000))
    for bucket_bytes in (150, 500, 4000):  # two levels of files, and one
        assert _order(tmp_path, 5000, 7, bucket_bytes=bucket_bytes) == whole
    assert _order(tmp_path, 5000, 7, bucket_bytes=500, size=1 << 40) == whole  # a size that was guessed too high
    assert _order(tmp_path, 5000, 8) != whole
    assert not list(tmp_path.iterdir())


def test_rows_may_come_in_any_order(tmp_path: Path):
    rows = [(row_key(0, str(n).encode()), str(n).encode()) for n in range(300)]
    both = [list(shuffled(given, tmp_path, size=2000, bucket_bytes=100)) for given in (rows, rows[::-1])]
    assert both[0] == both[1]


def test_a_row_larger_than_memory_is_still_a_row(tmp_path: Path):
    rows = [(row_key(0, bytes([n])), bytes([n]) * size) for n, size in enumerate((5000, 10, 9000, 0, 7000))]
    found = list(shuffled(rows, tmp_path, size=21_010, bucket_bytes=1024))
    assert sorted(found) == sorted(content for _, content in rows)


def test_no_permutation_is_likelier_than_another(tmp_path: Path):
    """All 24 orders of four rows over 2,400 seeds against equal chances: chi-square, p above one in a thousand."""
    seen = Counter(tuple(_order(tmp_path, 4, seed)) for seed in range(2400))
    counts = [seen[order] for order in permutations(range(4))]
    assert sum(counts) == 2400
    assert stats.chisquare(counts).pvalue > 0.001


def test_places_do_not_depend_on_where_a_row_came_from(tmp_path: Path):
    """20,000 rows through two levels of files: tenths they come from by tenths they go to, runs and fixed points."""
    count = 20_000
    order = np.array(_order(tmp_path, count, 3, bucket_bytes=1000))
    table = np.zeros((10, 10))
    np.add.at(table, (order * 10 // count, np.arange(count) * 10 // count), 1)
    assert stats.chisquare(table.ravel(), ddof=18).pvalue > 0.001  # 81 degrees of freedom: both margins are fixed
    assert abs(stats.spearmanr(order, np.arange(count)).statistic) < 4 / np.sqrt(count)
    # A uniform permutation has about one fixed point (Poisson) and (n - 1) / 2 descents, variance (n + 1) / 12.
    assert int((order == np.arange(count)).sum()) < 8
    descents = int((np.diff(order) < 0).sum())
    assert abs(descents - (count - 1) / 2) < 4 * np.sqrt((count + 1) / 12)
