"""Calibrated probabilities: those of scikit-learn's CalibratedClassifierCV, given the same scores."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.adapt.classic.probabilities import Probabilities
from bloomery.core.errors import DataError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 3])
def test_against_scikit_learn(classes: int):
    """Both hold five folds out, fit a sigmoid on their scores, and the model on all."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    rows = RNG.normal(size=(300, 4))
    labels = np.digitize(rows[:, 0] + 0.7 * RNG.normal(size=300), [0.0] if classes == 2 else [-0.5, 0.5])
    folds = StratifiedKFold(5)
    model = LogisticRegression(C=0.5)
    theirs = CalibratedClassifierCV(model, method="sigmoid", cv=folds, ensemble=False).fit(rows, labels)
    held_out = cross_val_predict(model, rows, labels, cv=folds, method="decision_function").reshape(300, -1)
    ours = Probabilities.fit(held_out, labels)
    scores = model.fit(rows, labels).decision_function(rows).reshape(300, -1)
    # Both minimise the same convex loss; theirs stops at a gradient of 1e-6 or so, of sums over 300.
    np.testing.assert_allclose(ours(scores), theirs.predict_proba(rows), atol=2e-4)
    again = Probabilities.from_list(ours.to_list())
    np.testing.assert_array_equal(again(scores), ours(scores))


def test_without_curves_scores_are_log_odds_or_a_softmax():
    np.testing.assert_allclose(Probabilities()(np.array([[0.0], [np.log(3)]])), [[0.5, 0.5], [0.25, 0.75]])
    np.testing.assert_allclose(Probabilities()(np.log([[1.0, 2.0, 1.0]])), [[0.25, 0.5, 0.25]])


def test_rows_sum_to_one_even_where_every_curve_says_zero():
    scores = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    found = Probabilities.fit(np.hstack([scores, -scores[:, :1]]), np.array([0, 1, 2, 0]), "isotonic")
    np.testing.assert_allclose(found(np.array([[0.5, 0.0, -9.0]])).sum(1), 1.0)


def test_what_is_no_curve():
    with pytest.raises(DataError):
        Probabilities.from_list([{"method": "platt"}])
