"""Calibration: against scikit-learn's isotonic regression and a plain minimiser."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.corpus.calibration import Calibration, calibration_error, folds, held_out_probabilities, reliability

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=400)
LABELS = RNG.random(400) < 1 / (1 + np.exp(-(2 * SCORES - 0.5)))


def test_isotonic_is_scikit_learns():
    isotonic = pytest.importorskip("sklearn.isotonic").IsotonicRegression(out_of_bounds="clip").fit(SCORES, LABELS)
    at = np.linspace(-4, 4, 301)
    assert np.allclose(Calibration.fit(SCORES, LABELS, "isotonic")(at), isotonic.predict(at), atol=1e-12)


def test_platt_is_the_minimum_of_its_loss():
    optimize = pytest.importorskip("scipy.optimize")
    good, bad = LABELS.sum(), (~LABELS).sum()
    targets = np.where(LABELS, (good + 1) / (good + 2), 1 / (bad + 2))

    def loss(theta: np.ndarray) -> float:
        z = theta[0] * SCORES + theta[1]
        return float((np.logaddexp(0, z) - targets * z).sum())

    best = optimize.minimize(loss, [0.0, 0.0], tol=1e-12)
    fitted = Calibration.fit(SCORES, LABELS)
    assert loss(np.array([fitted.x[0], fitted.y[0]])) == pytest.approx(best.fun, abs=1e-8)


def test_errors_by_hand():
    p, good = np.array([0.05, 0.15, 0.15, 1.0]), np.array([False, True, False, True])
    table = reliability(p, good)
    assert [(row["count"], row["good"]) for row in table] == [(1, 0.0), (2, 0.5), (1, 1.0)]
    assert calibration_error(p, good) == pytest.approx((0.05 + 2 * 0.35 + 0.0) / 4)


def test_calibrating_makes_the_error_smaller():
    off = 1 / (1 + np.exp(-8 * SCORES))
    assert calibration_error(Calibration.fit(SCORES, LABELS)(SCORES), LABELS) < calibration_error(off, LABELS) / 2


def test_held_out_probabilities_are_scikit_learns_cross_predictions():
    isotonic = pytest.importorskip("sklearn.isotonic").IsotonicRegression(out_of_bounds="clip")
    selection = pytest.importorskip("sklearn.model_selection")
    fold = folds(LABELS, 5)
    assert all(abs(int((fold[kind] == n).sum()) - kind.sum() / 5) < 1 for kind in (LABELS, ~LABELS) for n in range(5))
    expected = selection.cross_val_predict(isotonic, SCORES, LABELS, cv=selection.PredefinedSplit(fold))
    assert np.allclose(held_out_probabilities(SCORES, LABELS, fold, "isotonic"), expected, atol=1e-12)
