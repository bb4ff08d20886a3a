"""Figures of rankings are scikit-learn's; card precision is the book's definition, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.adapt.classic.ranking import average_precision, card_precision, f1, precision_above, ranked, roc_auc
from bloomery.core.errors import DataError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_against_scikit_learn(ties: bool, weighted: bool):
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    for _ in range(20):
        labels = RNG.random(80) < 0.2
        labels[0], labels[1] = True, False
        scores = RNG.integers(0, 6, 80) / 5 if ties else RNG.random(80)
        weights = RNG.integers(0, 4, 80).astype(float) + (np.arange(80) < 2) if weighted else None
        told = {"sample_weight": weights}
        assert average_precision(labels, scores, weights) == pytest.approx(
            average_precision_score(labels, scores, **told), abs=1e-12
        )
        assert roc_auc(labels, scores, weights) == pytest.approx(roc_auc_score(labels, scores, **told), abs=1e-12)
        said = scores > 0.5
        assert f1(labels, said, weights) == pytest.approx(f1_score(labels, said, **told), abs=1e-12)


def test_nothing_positive_is_unknown():
    assert np.isnan(average_precision([0, 0], [1, 2])) and np.isnan(roc_auc([1, 1], [1, 2]))
    assert f1([1, 0], [0, 0]) == 0.0
    with pytest.raises(DataError):
        average_precision([1], [np.nan])
    with pytest.raises(DataError):
        average_precision([1, 0], [1])


def test_cards_are_counted_once_a_day_and_blocked_when_found():
    labels = [1, 0, 0, 0, 1, 1, 0, 0]
    scores = [9, 8, 7, 3, 9, 5, 6, 4]
    days = [0, 0, 0, 0, 1, 1, 1, 1]
    cards = [1, 2, 2, 3, 1, 2, 3, 4]
    # Day 0: cards 1 and 2 on top, 1 is a fraud. Day 1: 1 is blocked; 3 (6) and 2 (5) on top, 2 is a fraud.
    np.testing.assert_allclose(card_precision(labels, scores, days, cards, k=2), [0.5, 0.5])
    np.testing.assert_allclose(card_precision(labels, scores, days, cards, k=2, known=[1]), [0.0, 0.5])
    np.testing.assert_allclose(card_precision(labels, scores, days, cards, k=10), [0.1, 0.1])


def test_intervals_over_clusters_are_wider_where_rows_of_a_cluster_are_alike():
    labels = np.repeat(RNG.random(60) < 0.4, 5)
    scores = labels + RNG.normal(size=60).repeat(5)
    rows = ranked(labels, scores, resamples=300)["average_precision"]
    cards = ranked(labels, scores, clusters=np.arange(60).repeat(5).tolist(), resamples=300)["average_precision"]
    assert rows.low < rows.value < rows.high and cards.n == 60 and rows.n == 300
    assert cards.high - cards.low > 1.5 * (rows.high - rows.low)
    assert ranked(labels, scores, resamples=300)["average_precision"] == rows


def test_an_interval_covers_what_it_says():
    """ROC AUC of two normals one deviation apart is Phi(1 / sqrt 2) = .760; 80 simulated samples."""
    from scipy.stats import norm

    truth = norm.cdf(1 / np.sqrt(2))
    inside = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        labels = np.arange(200) < 60
        found = ranked(labels, rng.normal(size=200) + labels, resamples=120, seed=seed)["roc_auc"]
        inside += found.low <= truth <= found.high
    assert inside / 80 >= 0.87  # 95%, less what 80 draws allow (three deviations of .025)


def test_two_scores_are_measured_on_the_same_resamples():
    """Scores beside themselves are no better; a better one is; the mean of several is that of scikit-learn's."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.2
    good, bad = truth + rng.normal(0, 0.7, 400), truth + rng.normal(0, 3.0, 400)
    same = precision_above(truth, [good], [good], resamples=50)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    found = precision_above(truth, [good, bad], [bad], clusters=(np.arange(400) // 4).tolist(), resamples=200)
    one, two = (metrics.average_precision_score(truth, scores) for scores in (good, bad))
    assert found.value == pytest.approx((one + two) / 2 - two)
    assert 0 < found.low < found.value < found.high
    assert (found.n, found.unit) == (100, "clusters")
    with pytest.raises(DataError, match="nothing to compare"):
        precision_above(truth, [], [bad])
