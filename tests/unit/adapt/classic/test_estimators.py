"""Scores from the kept arrays are those of scikit-learn's own objects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from bloomery.adapt.classic.estimators import distances, fit_estimator, fit_operations
from bloomery.core.errors import ConfigError

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(200, 6))
BINARY = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 0.8).astype(np.int64)
THREE = np.digitize(ROWS[:, 0] + 0.3 * ROWS[:, 2], [-0.5, 0.5]).astype(np.int64)
COUNTS = csr_matrix(RNG.poisson(0.5, size=(200, 30)).astype(float))


@pytest.mark.parametrize(("labels", "classes"), [(BINARY, 2), (THREE, 3)])
def test_logistic(labels, classes: int):
    from sklearn.linear_model import LogisticRegression

    ours = fit_estimator("logistic", ROWS, labels, classes, {"strength": 3.0, "even": True}).scores(ROWS)
    model = LogisticRegression(C=3.0, max_iter=2000, class_weight="balanced").fit(ROWS, labels)
    # Weights are kept in float32.
    np.testing.assert_allclose(ours, model.decision_function(ROWS).reshape(200, -1), atol=1e-5)


@pytest.mark.parametrize(("labels", "classes"), [(BINARY, 2), (THREE, 3)])
@pytest.mark.parametrize("complement", [False, True])
def test_bayes(labels, classes: int, complement: bool):
    from sklearn.naive_bayes import ComplementNB, MultinomialNB

    settings = {"smoothing": 0.4, "complement": complement}
    ours = fit_estimator("bayes", COUNTS, labels, classes, settings).scores(COUNTS)
    model = (ComplementNB if complement else MultinomialNB)(alpha=0.4).fit(COUNTS, labels)
    theirs = model.predict_joint_log_proba(COUNTS)
    wanted = theirs[:, 1:] - theirs[:, :1] if classes == 2 else theirs
    np.testing.assert_allclose(ours, wanted, atol=1e-4)  # sums of some ten float32 logarithms


@pytest.mark.parametrize(("labels", "classes"), [(BINARY, 2), (THREE, 3)])
def test_trees_with_missing_values(labels, classes: int):
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = ROWS.copy()
    rows[RNG.random(rows.shape) < 0.1] = np.nan
    settings = {"learning_rate": 0.2, "rounds": 12, "leaves": 7, "least_rows": 5, "l2": 1.0}
    ours = fit_estimator("boosted", rows, labels, classes, settings, seed=3)
    model = HistGradientBoostingClassifier(
        learning_rate=0.2,
        max_iter=12,
        max_leaf_nodes=7,
        min_samples_leaf=5,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=3,
    ).fit(rows, labels)
    other = RNG.normal(size=(300, 6)) * 2
    other[RNG.random(other.shape) < 0.2] = np.nan
    np.testing.assert_allclose(ours.scores(other), model.decision_function(other).reshape(300, -1), atol=1e-12)


def test_clusters_have_the_shares_of_their_labels():
    from sklearn.cluster import KMeans

    found = fit_estimator("clusters", ROWS, THREE, 3, {"clusters": 5}, seed=1)
    scores = found.scores(ROWS)
    nearest = KMeans(5, n_init=3, random_state=1).fit(ROWS).predict(ROWS)
    prior = np.bincount(THREE) / 200
    for cluster in range(5):
        inside = nearest == cluster
        wanted = (np.bincount(THREE[inside], minlength=3) + prior) / (inside.sum() + 1)
        np.testing.assert_allclose(np.exp(scores[inside]), np.tile(wanted, (inside.sum(), 1)), atol=1e-9)


def test_what_is_odd_is_far_from_every_centre():
    from sklearn.metrics.pairwise import euclidean_distances

    found = fit_estimator("anomaly", ROWS, BINARY, 2, {"clusters": 4})
    wanted = euclidean_distances(ROWS, found.arrays["centre"]).min(1)
    np.testing.assert_allclose(found.scores(ROWS)[:, 0], wanted, atol=1e-9)
    assert found.scores(np.full((1, 6), 50.0))[0, 0] > wanted.max()
    other = fit_estimator("anomaly", ROWS, 1 - BINARY, 2, {"clusters": 4})
    np.testing.assert_array_equal(found.arrays["centre"], other.arrays["centre"])  # labels are not looked at
    with pytest.raises(ConfigError, match="two classes"):
        fit_estimator("anomaly", ROWS, THREE, 3, {})


def test_distances():
    np.testing.assert_allclose(distances(np.array([[0.0, 3.0]]), np.array([[4.0, 0.0], [0.0, 3.0]])), [[25.0, 0.0]])


def test_an_unknown_kind():
    with pytest.raises(ConfigError, match="no classic model"):
        fit_estimator("svm", ROWS, BINARY, 2, {})  # type: ignore[arg-type]


def test_operations_are_counted_by_rows_and_settings_alone():
    for kind in ("bayes", "logistic", "boosted", "clusters", "anomaly"):
        rows = np.abs(ROWS)
        once, twice = fit_operations(kind, rows, 2, {}), fit_operations(kind, np.vstack([rows, rows]), 2, {})
        assert 0 < once < twice <= 2 * once
    assert fit_operations("bayes", COUNTS, 2, {}) == 4 * COUNTS.nnz
    assert fit_operations("logistic", ROWS, 3, {}) == 3 * fit_operations("logistic", ROWS, 2, {})
    few, many = ({"rounds": rounds} for rounds in (50, 200))
    assert fit_operations("boosted", ROWS, 2, many) == pytest.approx(4 * fit_operations("boosted", ROWS, 2, few))


def test_clusters_of_rows_that_are_the_same():
    rows = np.repeat(ROWS[:5], 20, axis=0)
    labels = np.repeat([0, 1, 0, 1, 1], 20)
    found = fit_estimator("clusters", rows, labels, 2, {"clusters": 16}).scores(rows)
    assert ((found[:, 0] > 0) == (labels == 1)).all()
