"""Estimators: rows and labels into scores, kept as plain arrays.

Fitting is scikit-learn's; what is kept of it is arrays, never pickled objects, and scoring from them is NumPy. Scores
are (N, 1) where there are two classes (higher: the second one), (N, C) where there are more; what they mean as
probabilities is the calibration's to say. This module does not know samples or texts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import ConfigError, MissingExtraError

Matrix = Any
Floats = NDArray[np.float64]
Kind = Literal["logistic", "bayes", "boosted", "clusters", "anomaly"]
_LARGEST_LEAVES = 1 << 20
_ITERATIONS = 100
_TREE = 6e7
"""What a tree takes beside its histograms."""


@dataclass(frozen=True)
class Estimator:
    """A fitted one: its kind, and all that was fitted."""

    kind: Kind
    arrays: Mapping[str, NDArray[Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def scores(self, rows: Matrix) -> Floats:
        """(N, 1) or (N, C), see the module."""
        return _SCORES[self.kind](self.arrays, rows)


def fit_estimator(
    kind: Kind, rows: Matrix, labels: NDArray[np.int64], classes: int, settings: Mapping[str, Any], *, seed: int = 0
) -> Estimator:
    """Labels (N,) are from 0 to classes - 1, and all occur. MissingExtraError without scikit-learn."""
    if kind not in _FITS:
        raise ConfigError(f"no classic model {kind!r:.40}", hint=", ".join(_FITS))
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "adapt", "a classic model") from error
    arrays = _FITS[kind](rows, labels, classes, dict(settings), seed)
    return Estimator(kind, arrays, dict(settings))


def fit_operations(kind: Kind, rows: Matrix, classes: int, settings: Mapping[str, Any]) -> float:
    """About how many floating-point operations a fit takes, by counting: the same on every machine. Solvers count with
    the iterations that they usually need."""
    entries = float(rows.nnz if hasattr(rows, "nnz") else rows.shape[0] * rows.shape[1])
    if kind == "bayes":
        return 4 * entries
    if kind == "logistic":
        return 4 * entries * (1 if classes == 2 else classes) * _ITERATIONS
    if kind == "boosted":  # a histogram of every column at every level, and finding the bins
        levels = math.log2(max(2, int(settings.get("leaves", 31))))
        trees = int(settings.get("rounds", 100)) * (1 if classes == 2 else classes)
        return 4 * entries * trees * levels + _TREE * trees
    return 2 * entries * min(int(settings.get("clusters", 16)), rows.shape[0]) * 3 * _ITERATIONS


def _fit_logistic(rows: Matrix, labels: NDArray[np.int64], classes: int, settings: dict[str, Any], seed: int) -> Any:
    """L2-regularised; `strength` is scikit-learn's C, `even` weighs classes by their rarity."""
    from sklearn.linear_model import LogisticRegression

    weight = "balanced" if settings.get("even") else None
    model = LogisticRegression(
        C=float(settings.get("strength", 1.0)), max_iter=2000, class_weight=weight, random_state=seed
    ).fit(rows, labels)
    return {"weight": model.coef_.astype(np.float32), "offset": model.intercept_.astype(np.float32)}


def _linear_scores(arrays: Mapping[str, NDArray[Any]], rows: Matrix) -> Floats:
    return np.asarray(rows @ arrays["weight"].T.astype(np.float64)) + arrays["offset"].astype(np.float64)


def _fit_bayes(rows: Matrix, labels: NDArray[np.int64], classes: int, settings: dict[str, Any], seed: int) -> Any:
    """Multinomial (or, `complement`, that of Rennie et al., 2003), smoothed by `smoothing`."""
    from sklearn.naive_bayes import ComplementNB, MultinomialNB

    make = ComplementNB if settings.get("complement") else MultinomialNB
    model = make(alpha=float(settings.get("smoothing", 1.0))).fit(rows, labels)
    weight = model.feature_log_prob_
    offset = np.zeros(classes) if settings.get("complement") else model.class_log_prior_
    if classes == 2:
        weight, offset = weight[1:] - weight[:1], offset[1:] - offset[:1]
    return {"weight": weight.astype(np.float32), "offset": offset.astype(np.float32)}


def _fit_boosted(rows: Matrix, labels: NDArray[np.int64], classes: int, settings: dict[str, Any], seed: int) -> Any:
    """Histogram gradient boosting (Ke et al., 2017). Its trees are flattened; the thresholds are of raw values."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    make: Any = HistGradientBoostingClassifier  # its stubs know no plain booleans
    model = make(
        learning_rate=float(settings.get("learning_rate", 0.1)),
        max_iter=int(settings.get("rounds", 100)),
        max_leaf_nodes=int(settings.get("leaves", 31)),
        min_samples_leaf=int(settings.get("least_rows", 20)),
        l2_regularization=float(settings.get("l2", 0.0)),
        early_stopping=False,
        random_state=seed,
    ).fit(rows, labels)
    trees = [[predictor.nodes for predictor in iteration] for iteration in model._predictors]
    flat = [nodes for iteration in trees for nodes in iteration]
    starts = np.cumsum([0, *(len(nodes) for nodes in flat)])[:-1]
    joined = np.concatenate(flat)
    shift = np.repeat(starts, [len(nodes) for nodes in flat])
    leaf = joined["is_leaf"].astype(bool)
    here = np.arange(len(joined))
    return {
        "root": starts.reshape(len(trees), -1).astype(np.int64),
        "feature": joined["feature_idx"].astype(np.int64),
        "threshold": joined["num_threshold"].astype(np.float64),
        "missing_left": joined["missing_go_to_left"].astype(np.uint8),
        "left": np.where(leaf, here, joined["left"].astype(np.int64) + shift),
        "right": np.where(leaf, here, joined["right"].astype(np.int64) + shift),
        "value": joined["value"].astype(np.float64),
        "leaf": leaf.astype(np.uint8),
        "offset": np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1),
    }


def _tree_scores(arrays: Mapping[str, NDArray[Any]], rows: Matrix) -> Floats:
    """The sum of the leaves that a row falls into; a leaf points to itself, so that all rows go on together."""
    dense = np.asarray(rows, dtype=np.float64)
    feature, threshold = arrays["feature"], arrays["threshold"]
    left, right, leaf = arrays["left"], arrays["right"], arrays["leaf"].astype(bool)
    missing_left, value = arrays["missing_left"].astype(bool), arrays["value"]
    roots = arrays["root"]
    found = np.tile(arrays["offset"], (len(dense), 1))
    places = np.arange(len(dense))
    for iteration in roots:
        for column, root in enumerate(iteration):
            at = np.full(len(dense), root)
            for _ in range(_LARGEST_LEAVES):
                if leaf[at].all():
                    break
                x = dense[places, np.where(leaf[at], 0, feature[at])]
                goes_left = np.where(np.isnan(x), missing_left[at], x <= threshold[at])
                at = np.where(goes_left, left[at], right[at])
            found[:, column] += value[at]
    return found


def _fit_clusters(rows: Matrix, labels: NDArray[np.int64], classes: int, settings: dict[str, Any], seed: int) -> Any:
    """k-means; each cluster has the shares of labels in it, smoothed by one of the whole's."""
    model, number = _k_means(rows, settings, seed)
    counts = np.zeros((number, classes))
    np.add.at(counts, (model.labels_, labels), 1.0)
    prior = counts.sum(0) / counts.sum()
    shares = np.log((counts + prior) / (counts.sum(1, keepdims=True) + 1) + 1e-12)
    shares = shares[:, 1:] - shares[:, :1] if classes == 2 else shares
    return {"centre": np.asarray(model.cluster_centers_, dtype=np.float64), "share": shares}


def _k_means(rows: Matrix, settings: dict[str, Any], seed: int) -> tuple[Any, int]:
    """(fitted, clusters). Rows that are the same leave clusters empty, which is no harm."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    number = max(1, min(int(settings.get("clusters", 16)), rows.shape[0]))
    make: Any = KMeans
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make(number, n_init=3, random_state=seed).fit(rows), number


def _cluster_scores(arrays: Mapping[str, NDArray[Any]], rows: Matrix) -> Floats:
    """Logarithms of the shares of labels in the nearest cluster."""
    return arrays["share"][distances(rows, arrays["centre"]).argmin(1)]


def _fit_anomaly(rows: Matrix, labels: NDArray[np.int64], classes: int, settings: dict[str, Any], seed: int) -> Any:
    """k-means of rows whose labels it does not look at: what is far from every centre is odd."""
    if classes != 2:
        raise ConfigError(f"what is odd is one of two classes, not of {classes}", hint='"clusters" knows more')
    model, _ = _k_means(rows, settings, seed)
    return {"centre": np.asarray(model.cluster_centers_, dtype=np.float64)}


def _anomaly_scores(arrays: Mapping[str, NDArray[Any]], rows: Matrix) -> Floats:
    return np.sqrt(distances(rows, arrays["centre"]).min(1, keepdims=True))


def distances(rows: Matrix, centres: Floats) -> Floats:
    """(N, K) squared Euclidean distances."""
    dense = np.asarray(rows, dtype=np.float64)
    found = (dense**2).sum(1)[:, None] - 2 * dense @ centres.T + (centres**2).sum(1)
    return np.maximum(found, 0.0)


_FITS: dict[str, Callable[..., dict[str, NDArray[Any]]]] = {
    "logistic": _fit_logistic,
    "bayes": _fit_bayes,
    "boosted": _fit_boosted,
    "clusters": _fit_clusters,
    "anomaly": _fit_anomaly,
}
_SCORES: dict[str, Callable[[Mapping[str, NDArray[Any]], Matrix], Floats]] = {
    "logistic": _linear_scores,
    "bayes": _linear_scores,
    "boosted": _tree_scores,
    "clusters": _cluster_scores,
    "anomaly": _anomaly_scores,
}
