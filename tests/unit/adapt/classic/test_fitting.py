"""Settings are chosen by folds that a fit has not seen, within what may be tried, the same way every time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bloomery.adapt.classic import ClassicConfig, fit_classic
from bloomery.adapt.classic.fitting import candidates, fold_numbers, label_numbers
from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.sample import Sample


def test_held_out_log_loss_is_what_scikit_learn_finds(texts):
    """The first of the tried settings, with a fold's features fitted without it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    from bloomery.adapt.classic.features import FeatureConfig, count, fit_features
    from bloomery.corpus.calibration import Calibration

    train = texts(60)
    found = fit_classic(train, ClassicConfig(trials=2, folds=3))
    names, labels = label_numbers(train)
    fold, config = fold_numbers(train, labels, 3, 0), FeatureConfig()
    counted, scores = count(train, config), np.empty(60)
    for number in range(3):
        out = fold == number
        features = fit_features(counted[~out], config)
        model = LogisticRegression(C=10.0, max_iter=2000).fit(features.rows(counted[~out]), labels[~out])
        scores[out] = model.decision_function(features.rows(counted[out]))
    wanted = -log_loss(labels, Calibration.fit(scores, labels == 1)(scores))
    assert found.chosen["tried"][0]["log_loss"] == pytest.approx(wanted, abs=1e-5)
    assert names == ("good", "bad") and len(found.chosen["tried"]) == 2 and found.making.fits == 7


@pytest.mark.parametrize("kind", ["logistic", "bayes", "boosted", "clusters"])
def test_it_learns_and_does_the_same_again(kind, texts):
    config = ClassicConfig(kind=kind, trials=2, folds=3, seed=4)
    one, other = fit_classic(texts(120), config), fit_classic(texts(120), config)
    test = texts(60, seed=9)
    found = one.probabilities(test)
    np.testing.assert_array_equal(found, other.probabilities(test))
    right = np.mean([one.labels[p.argmax()] == s.targets[0] for p, s in zip(found, test, strict=True)])
    assert right > (0.7 if kind == "clusters" else 0.85)


def test_when_nothing_is_left_the_best_so_far_is_taken(texts):
    asked = iter([True, False])
    found = fit_classic(texts(60), ClassicConfig(trials=9, folds=3), left=lambda: next(asked))
    assert len(found.chosen["tried"]) == 2


def test_operations_are_told_fit_by_fit_and_the_same_every_time(texts):
    told: list[list[float]] = [[], []]
    for heard in told:
        found = fit_classic(texts(60), ClassicConfig(kind="bayes", trials=2, folds=3), counted=heard.append)
    assert told[0] == told[1] and min(told[0]) > 0
    assert len(told[0]) >= found.making.fits == 7  # texts are read beside the fits


def test_too_few_for_folds_take_the_usual_settings_uncalibrated(texts):
    found = fit_classic(texts(2), ClassicConfig())
    assert found.chosen["tried"] == [] and found.chosen["calibration"] == "none"
    assert found.probabilities(texts(4)).shape == (4, 2)


def test_folds_hold_their_share_of_each_label_and_part_no_cluster():
    samples = [Sample(id=str(n), input="", targets=("a" if n % 5 else "b",)) for n in range(100)]
    _, labels = label_numbers(samples)
    fold = fold_numbers(samples, labels, 4, seed=1)
    for label, each in ((0, 20), (1, 5)):
        assert set(Counter(fold[labels == label].tolist()).values()) == {each}
    grouped = [Sample(id=str(n), input="", targets=("a",), cluster=str(n % 10)) for n in range(50)]
    fold = fold_numbers(grouped, np.zeros(50, int), 4, seed=1)
    assert all(len({fold[n] for n in range(50) if n % 10 == c}) == 1 for c in range(10))


def test_candidates_begin_with_the_usual_and_repeat_nothing():
    for kind in ("logistic", "bayes", "boosted", "clusters", "anomaly"):
        every = list(candidates(ClassicConfig(kind=kind)))
        told = [str(one) for one in every]
        assert len(set(told)) == len(told) >= 6
        assert told == [str(one) for one in candidates(ClassicConfig(kind=kind))]
    with pytest.raises(ConfigError, match="counts words"):
        list(candidates(ClassicConfig(kind="bayes", columns=("a",))))


def test_columns_and_average_precision():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(150, 3))
    samples = [
        Sample(
            id=str(n), input="", targets=("1" if row[0] * row[1] > 0.3 else "0",), metadata={"x": row[0], "y": row[1]}
        )
        for n, row in enumerate(rows)
    ]
    config = ClassicConfig(kind="boosted", columns=("x", "y"), trials=2, folds=3, measure="average_precision")
    found = fit_classic(samples, config)
    assert max(one["average_precision"] for one in found.chosen["tried"]) > 0.8


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([Sample(id="1", input="a")], "no label"),
        ([Sample(id="1", input="a", targets=("x",))] * 3, "nothing to tell apart"),
    ],
)
def test_samples_that_teach_nothing(samples, message: str):
    with pytest.raises(DataError, match=message):
        fit_classic(samples)


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"folds": 1}, {"price_per_label": -1.0}, {"kind": "svm"}])
def test_settings_that_cannot_be_meant(wrong):
    with pytest.raises(ConfigError):
        ClassicConfig(**wrong)
