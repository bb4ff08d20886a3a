"""The fit against Epoch AI's published one on their points, and against laws that are known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from bloomery.core.errors import DataError
from bloomery.training.planning.fitting import Prior, fit_law

# Of the size of ours: what a ladder of small models would tell if runs had no noise.
TRUE = {"E": 0.8, "A": 40.0, "alpha": 0.4, "B": 60.0, "beta": 0.3}


def runs(noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Twelve runs of the law TRUE."""
    rng = np.random.default_rng(seed)
    size = np.repeat([3e5, 1e6, 3e6], 4)
    data = np.tile([5e5, 1e6, 2e6, 4e6], 3) * np.repeat([4.0, 2.0, 1.0], 4)
    loss = TRUE["E"] + TRUE["A"] / size ** TRUE["alpha"] + TRUE["B"] / data ** TRUE["beta"]
    return np.stack([size, data, loss * np.exp(noise * rng.standard_normal(len(size)))], axis=1)


def test_the_published_fit_of_chinchilla(shared_data: Path):
    with (shared_data / "scaling" / "svg_extracted_data.csv").open() as file:
        rows = [(float(r["Model Size"]), float(r["Training FLOP"]), float(r["loss"])) for r in csv.DictReader(file)]
    # As they did: D from C = 6 N D, and without the five highest losses.
    size, flops, loss = np.array(sorted(rows, key=lambda row: row[2])[:-5]).T
    law = fit_law(np.stack([size, flops / (6 * size), loss], axis=1))
    # Besiroglu et al. 2024 (arXiv 2404.10102), to the digits that they print. Where the loss is flat another optimiser
    # stops a little elsewhere: A and B, which move with their exponents, by a tenth of their standard errors.
    assert pytest.approx(1.8172, abs=1e-4) == law.E
    assert law.alpha == pytest.approx(0.3473, abs=1e-4)
    assert law.beta == pytest.approx(0.3672, abs=1e-4)
    assert pytest.approx(482.01, rel=0.01) == law.A
    assert pytest.approx(2085.43, rel=0.03) == law.B


def test_a_law_without_noise_is_found():
    law = fit_law(runs())
    # Huber's quadratic part makes an error of 1e-6 in log loss cost 1e-9 of the optimiser's unit: its tolerance.
    for point in runs():
        assert law.loss(point[0], point[1]) == pytest.approx(point[2], rel=1e-4)
    assert law.constants == pytest.approx(TRUE, rel=0.05)


def test_the_interval_holds_what_it_should():
    law = fit_law(runs(noise=0.01, seed=1), samples=40)
    assert len(law.samples) == 40 and law.largest_parameters == 3e6
    truth = TRUE["E"] + TRUE["A"] / 2e6 ** TRUE["alpha"] + TRUE["B"] / 3e6 ** TRUE["beta"]
    predicted = law.predict(2e6, 3e6, 1e9)
    assert predicted.low is not None and predicted.high is not None
    assert predicted.low < truth < predicted.high
    # Inside the runs' range an interval of runs with 1% of noise is a few percent wide, not more.
    assert predicted.high / predicted.low < 1.15


def test_equal_seeds_give_equal_samples():
    assert fit_law(runs(noise=0.01), samples=5, seed=3).samples == fit_law(runs(noise=0.01), samples=5, seed=3).samples


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (runs()[:5], "too few"),
        (runs()[:, :2], "an amount of data and a loss"),
        (3.0, "an amount of data and a loss"),
        ([["a", "b", "c"]] * 8, "rows of numbers"),
        (np.column_stack([np.full(8, 1e6), runs()[:8, 1:]]), "one size"),
        (np.where(runs() > 1e6, np.nan, runs()), "finite"),
    ],
)
def test_points_that_tell_no_law(points: np.ndarray, said: str):
    with pytest.raises(DataError, match=said):
        fit_law(points)


def test_a_prior_fills_what_the_runs_leave_open():
    """Runs too short for size to matter: without a prior the law is sure that it never does."""
    short = runs(noise=0.002)
    short[:, 2] = 0.8 + 60.0 / short[:, 1] ** 0.3 * np.exp(0.002 * np.random.default_rng(2).standard_normal(len(short)))
    prior = Prior(
        log_e=(np.log(0.7), 0.4),
        log_a=(np.log(0.25), 0.7),
        alpha=(0.34, 0.08),
        beta=(0.3, 0.1),
        reference=1e6,
        noise=0.01,
    )
    with_it, without = (fit_law(short, samples=20, prior=p) for p in (prior, None))
    assert 0.1 < with_it.alpha < 0.6
    for law in (with_it, without):
        assert law.loss(1e6, 2e6) == pytest.approx(0.8 + 60.0 / 2e6**0.3, rel=0.01)
    # What a million parameters miss cannot be seen, so it is believed to be something; without belief it is nothing.
    assert with_it.A / 1e6**with_it.alpha > 0.01 > without.A / 1e6**without.alpha


def test_a_prior_yields_to_runs():
    prior = Prior(log_e=(0.0, 0.4), log_a=(-2.0, 0.7), alpha=(0.3, 0.1), beta=(0.2, 0.1), reference=1e6, noise=0.01)
    law = fit_law(runs(), prior=prior)
    for point in runs():
        assert law.loss(point[0], point[1]) == pytest.approx(point[2], rel=0.01)
