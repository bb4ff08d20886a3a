"""The label model against crowd-kit's Dawid-Skene, a general optimiser, and the parameters that data was drawn with."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.annotation.label_model import fit_label_model, majority, summary

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from crowdkit.aggregation import DawidSkene


def drawn(seed: int, accuracies: list[float], coverage: float, *, documents: int = 2000, balance=(0.7, 0.3)):
    """Votes (D, F) of functions that are right with these chances, and the truth (D,)."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(balance), documents, p=balance)
    right = rng.random((documents, len(accuracies))) < accuracies
    wrong = (truth[:, None] + rng.integers(1, len(balance), right.shape)) % len(balance)
    said = np.where(right, truth[:, None], wrong)
    return np.where(rng.random(right.shape) < coverage, said, -1), truth


@pytest.mark.parametrize("name", ["firing", "confusion", "accuracy"])
def test_accuracies_are_those_that_the_votes_were_drawn_with(name: str):
    accuracies = [0.9, 0.8, 0.7, 0.6, 0.75]
    votes, _ = drawn(0, accuracies, 0.6, documents=8000)
    found = fit_label_model(votes, 2, name=name)
    # 4,800 votes each: a standard error of .007 if the truth were known.
    assert found.converged and found.accuracies == pytest.approx(accuracies, abs=0.06)
    assert found.balance == pytest.approx([0.7, 0.3], abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_right_more_often_than_the_majority_where_annotators_differ(seed: int):
    votes, truth = drawn(seed, [0.95, 0.6, 0.55, 0.6, 0.55], 0.9)
    said = (votes >= 0).any(1)
    model = fit_label_model(votes, 2).probabilities(votes).argmax(1)
    vote = majority(votes, 2).argmax(1)
    assert (model == truth)[said].mean() > (vote == truth)[said].mean() + 0.05


def test_the_fit_is_where_a_general_optimiser_ends():
    """The same likelihood and prior, written out, maximised by SciPy's BFGS over unconstrained parameters."""
    votes, _ = drawn(1, [0.85, 0.7, 0.65], 0.8, documents=300)
    votes = votes[(votes >= 0).any(1)]

    def loss(point: np.ndarray) -> float:
        accuracy, share = 1 / (1 + np.exp(-point[:3])), 1 / (1 + np.exp(-point[3]))
        logs = np.log([1 - share, share])[None].repeat(len(votes), 0)
        for place in range(3):
            for label in range(2):
                right = np.where(votes[:, place] == label, np.log(accuracy[place]), np.log(1 - accuracy[place]))
                logs[:, label] += np.where(votes[:, place] < 0, 0, right)
        prior = (3 * np.log(accuracy) + np.log(1 - accuracy)).sum()
        return -np.logaddexp(logs[:, 0], logs[:, 1]).sum() - prior

    best = minimize(loss, [1.0, 1.0, 1.0, -0.5], method="BFGS")
    found = fit_label_model(votes, 2, name="accuracy")
    # Both stop where a step changes the likelihood by about 1e-8 of itself; it is flat there.
    assert found.confusion[:, 0, 0] == pytest.approx(1 / (1 + np.exp(-best.x[:3])), abs=5e-3)
    assert found.balance[1] == pytest.approx(1 / (1 + np.exp(-best.x[3])), abs=5e-3)


def test_confusions_are_crowd_kits():
    """Dawid and Skene of crowd-kit (no smoothing there, .01 of an answer here): the same labels, nearly the same
    chances."""
    votes, _ = drawn(0, [0.9, 0.8, 0.7, 0.65], 0.8, documents=150, balance=(0.5, 0.3, 0.2))
    rows = [(d, f, int(v)) for d, row in enumerate(votes) for f, v in enumerate(row) if v >= 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = DawidSkene(n_iter=30, tol=1e-4).fit_predict_proba(
            pd.DataFrame(rows, columns=["task", "worker", "label"])
        )
    places = wanted.index.to_numpy()
    found = fit_label_model(votes, 3, name="confusion").probabilities(votes)[places]
    wanted = wanted[[0, 1, 2]].to_numpy()
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.99
    assert np.abs(found - wanted).mean() < 0.01


def one_sided(seed: int, documents: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Functions that know one label each, one label rare: votes, truth, and each function's chances of firing (F,
    2)."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(documents) < 0.12).astype(int)
    fires = np.array([[0.01, 0.6], [0.03, 0.5], [0.005, 0.4], [0.3, 0.03], [0.4, 0.1]])
    gives = np.array([1, 1, 1, 0, 0])
    fired = rng.random((documents, 5)) < fires[:, truth].T
    return np.where(fired, gives, -1), truth, fires


@pytest.mark.parametrize("seed", range(3))
def test_functions_of_one_label_each_where_one_is_rare(seed: int):
    votes, truth, fires = one_sided(seed)
    found = fit_label_model(votes, 2)
    # 480 documents of the rare label: a standard error of .023 if the truth were known.
    assert found.confusion[[0, 1, 2], :, 1] == pytest.approx(fires[:3], abs=0.1)
    assert found.confusion[[3, 4], :, 0] == pytest.approx(fires[3:], abs=0.1)
    assert found.balance == pytest.approx([0.88, 0.12], abs=0.03)
    said = (votes >= 0).any(1)
    vote = majority(votes, 2).argmax(1)
    # Silence is not counted when labels are given, and here it would help: so no more than nearly as good is promised.
    assert (found.probabilities(votes).argmax(1) == truth)[said].mean() > (vote == truth)[said].mean() - 0.01


def test_one_accuracy_each_goes_astray_there_and_can_be_told_by_it():
    votes, _, _ = one_sided(0)
    assert fit_label_model(votes, 2, name="accuracy").accuracies.min() < 0.5


def test_a_function_that_knows_one_label_is_judged_too():
    votes, truth = drawn(2, [0.9, 0.8, 0.7, 0.8], 0.7)
    votes = np.column_stack([votes, np.where((truth == 1) & (np.arange(len(truth)) % 3 > 0), 1, -1)])
    found = fit_label_model(votes, 2)
    assert found.accuracies[4] > 0.95


def test_a_known_balance_is_kept():
    votes, _ = drawn(0, [0.8, 0.7, 0.7], 0.5)
    assert fit_label_model(votes, 2, balance=[0.9, 0.1]).balance.tolist() == [0.9, 0.1]
    with pytest.raises(ConfigError, match="add up to 1"):
        fit_label_model(votes, 2, balance=[0.9, 0.2])


def test_documents_without_votes_have_the_balance():
    votes, _ = drawn(0, [0.8, 0.7, 0.7], 0.5)
    found = fit_label_model(votes, 2)
    assert found.probabilities(np.full((1, 3), -1))[0] == pytest.approx(found.balance)


def test_nobody_says_anything():
    with pytest.raises(DataError, match="no annotator"):
        fit_label_model(np.full((4, 2), -1), 2)


def test_the_order_of_documents_changes_nothing():
    votes, _ = drawn(5, [0.8, 0.7, 0.6], 0.5)
    one, other = fit_label_model(votes, 2), fit_label_model(votes[::-1], 2)
    assert one.accuracies == pytest.approx(other.accuracies, abs=1e-9)


def test_majority_shares():
    assert majority(np.array([[0, 1, 1], [-1, -1, -1], [0, -1, 1]]), 2).tolist() == [
        [1 / 3, 2 / 3],
        [0.5, 0.5],
        [0.5, 0.5],
    ]


def test_summary_as_counted_by_hand():
    votes = np.array([[0, 0, -1], [0, 1, -1], [-1, 1, -1], [0, -1, -1]])
    rows = summary(votes, 2, gold=np.array([0, 0, 1, -1]))
    assert rows[0] == {
        "labels": [0],
        "coverage": 0.75,
        "overlaps": 0.5,
        "conflicts": 0.25,
        "judged": 2,
        "accuracy": 1.0,
    }
    assert rows[1]["labels"] == [0, 1] and rows[1]["accuracy"] == pytest.approx(2 / 3)
    assert rows[2] == {"labels": [], "coverage": 0, "overlaps": 0, "conflicts": 0, "judged": 0, "accuracy": None}
