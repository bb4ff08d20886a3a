"""Paired differences: scipy's tests, permutations one by one, ways that do not fit."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.paired import paired_difference, sign_flip_p

RNG = np.random.default_rng(9)
A = RNG.random(80)
B = np.clip(A + 0.15 * RNG.normal(size=80) - 0.02, 0, 1)


def test_t_is_scipys():
    wanted = stats.ttest_rel(A, B)
    found = paired_difference(A, B, test="t")
    assert found.p_value == pytest.approx(wanted.pvalue, abs=1e-12)
    ends = wanted.confidence_interval()
    assert (found.difference.low, found.difference.high) == pytest.approx((ends.low, ends.high), abs=1e-12)
    assert found.correlation == pytest.approx(np.corrcoef(A, B)[0, 1]) and found.sd == pytest.approx(
        (A - B).std(ddof=1)
    )
    assert paired_difference(A, A, test="t").p_value == 1.0
    assert paired_difference(A, A - 1, test="t").p_value < 1e-30


def test_few_signs_are_all_tried():
    apart = np.array([0.3, -0.1, 0.25, 0.0, 0.4, 0.05])
    parts = apart[apart != 0]
    sums = [abs(float((np.array(signs) * parts).sum())) for signs in product((1, -1), repeat=len(parts))]
    wanted = np.mean([one >= abs(parts.sum()) - 1e-12 for one in sums])
    assert sign_flip_p(apart) == pytest.approx(wanted, abs=1e-12)
    assert sign_flip_p(np.zeros(4)) == 1.0
    assert sign_flip_p(np.array([0.0, 3.0, 0.0])) == 1.0  # one cluster alone tells nothing


def test_the_permutation_is_near_the_t_test_and_repeats():
    """9,999 sign patterns: a p-value of .1 is known to .003."""
    p = paired_difference(A, B, test="permutation", seed=1).p_value
    assert p == pytest.approx(stats.ttest_rel(A, B).pvalue, abs=0.015)
    assert p == paired_difference(A, B, test="permutation", seed=1).p_value


def test_clusters_are_kept_whole():
    one, other = np.repeat(A[:20], 4), np.repeat(B[:20], 4)
    clusters = np.repeat(np.arange(20), 4).tolist()
    whole = paired_difference(one, other, clusters=clusters, seed=2)
    alone = paired_difference(A[:20], B[:20], seed=2)
    assert whole.test == "sign-flip permutation" and whole.p_value == pytest.approx(alone.p_value, abs=1e-12)
    assert (whole.difference.low, whole.difference.high) == pytest.approx((alone.difference.low, alone.difference.high))
    assert whole.design_effect == pytest.approx(4, rel=0.06)  # 79/19 of variances with ddof 1
    assert whole.difference.clusters == 20


def test_right_and_wrong():
    a, b = (A > 0.4).astype(float), (B > 0.5).astype(float)
    found = paired_difference(a, b)
    assert found.binary and found.test == "exact McNemar" and found.difference.method == "Tango's score"
    assert found.discordance == np.mean(a != b)
    assert paired_difference(a, b, way="bca", resamples=499).difference.method == "bootstrap, BCa"
    assert paired_difference(a, b, test="mcnemar mid-p").p_value < found.p_value
    assert paired_difference([1.0] * 5, [1.0] * 5).correlation is None
    assert set(found.to_dict()["difference"]) >= {"low", "high", "value"}


def test_what_does_not_fit():
    clusters = [str(i // 2) for i in range(80)]
    for call in (
        lambda: paired_difference(A, B[:-1]),
        lambda: paired_difference(A, B, way="score"),
        lambda: paired_difference(A, B, test="mcnemar"),
        lambda: paired_difference(A > 0.5, B > 0.5, clusters=clusters, test="mcnemar"),
        lambda: paired_difference(A > 0.5, B > 0.5, clusters=clusters, way="score"),
    ):
        with pytest.raises(DataError):
            call()
