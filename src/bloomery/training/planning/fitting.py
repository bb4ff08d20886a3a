"""Fitting a scaling law to runs: the third approach of Hoffmann et al. (2022, arXiv 2203.15556), and its bootstrap.

Huber loss (delta 1e-3) between the logarithms of the losses and of the law, written as a log-sum-exp of

    a - alpha log N,   b - beta log D,   e          A = exp(a), B = exp(b), E = exp(e)

minimised by L-BFGS from the best of a grid of starts, the published one. Losses are added up, not averaged: an
average is so small that the optimiser stops too early (Besiroglu et al. 2024, arXiv 2404.10102).

A handful of small runs does not tell five constants: what they leave open a `Prior` fills, and its own doubt enters the
interval, each bootstrap sample being fitted around a centre drawn from it (randomise, then optimise: Bardsley et al.
2014). This module does not know what N, D and losses are, nor where they come from.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from bloomery.core.errors import DataError
from bloomery.training.planning.law import ScalingLaw

DELTA = 1e-3
_GRID_A = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)
_GRID_E = (-1.0, -0.5, 0.0, 0.5, 1.0)
_GRID_EXPONENT = (0.0, 0.5, 1.0, 1.5, 2.0)
_FOLLOWED = 12
"""Starts from which the optimiser sets out, of the 4,500 at which the loss is looked at."""
_EXPONENTS = (0.02, 3.0)
# With few runs the loss is a narrow valley of many folds, along which the optimiser would creep for ever.
_ROUGH = {"maxiter": 150, "maxfun": 300, "ftol": 1e-7, "gtol": 1e-5, "maxcor": 20}
_EXACT = {"maxiter": 500, "maxfun": 1000, "ftol": 1e-12, "gtol": 1e-7, "maxcor": 20}
_LEAST = 6
"""Runs for five constants."""


@dataclass(frozen=True)
class Prior:
    """What is believed of log E, of log A / N^alpha at `reference` parameters, of alpha, of log B (always little), and
    of beta: (centre, standard deviation) of each; `noise` is the relative difference of two runs of one plan."""

    log_e: tuple[float, float]
    log_a: tuple[float, float]
    alpha: tuple[float, float]
    beta: tuple[float, float]
    reference: float
    noise: float

    def place(self, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres and deviations in the order of the optimiser: e, a, alpha, b, beta."""
        pairs = (self.log_e, self.log_a, self.alpha, (float(logs[:, 2].mean()), 3.0), self.beta)
        centre, deviation = np.array(pairs).T
        return centre, deviation


_Pull = tuple[np.ndarray, np.ndarray, float]
"""Centres, deviations and weight of a prior."""


def fit_law(
    points: np.ndarray, *, samples: int = 0, seed: int = 0, origin: str = "fitted", prior: Prior | None = None
) -> ScalingLaw:
    """The law of `points` (n, 3): N, D and loss of each run, n at least 6.

    `samples` bootstrap fits give the interval; the scatter of the runs around the law is added to it. Raises
    DataError for points from which no law can be found.
    """
    try:
        points = np.asarray(points, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(f"the runs of a scaling law are rows of numbers: {error}") from error
    if points.ndim != 2 or points.shape[1] != 3:
        raise DataError(f"each run has a size, an amount of data and a loss: (n, 3), not {points.shape}")
    if len(points) < _LEAST:
        raise DataError(f"a scaling law has five constants: {len(points)} runs are too few, {_LEAST} are needed")
    if not np.isfinite(points).all() or (points <= 0).any():
        raise DataError("sizes, data and losses of the runs should be finite and above zero")
    logs = np.log(points)
    if np.unique(logs[:, 0]).size < 2 or np.unique(logs[:, 1]).size < 2:
        raise DataError("runs of one size, or of one amount of data, make no scaling law")
    centre, pull = logs[:, :2].mean(axis=0), None
    if prior is not None:
        centre = np.array([np.log(prior.reference), centre[1]])
        pull = (*prior.place(logs), prior.noise)
    found = _best(logs, centre, _starts(logs, centre), pull)
    freedom = len(logs) - (5.0 if prior is None else 3.0)
    spread = float(np.sqrt(((_model(found, logs, centre) - logs[:, 2]) ** 2).sum() / freedom))
    rng = np.random.default_rng(seed)
    drawn = []
    while len(drawn) < samples:
        sample = logs[rng.integers(0, len(logs), len(logs))]
        if np.unique(sample[:, 0]).size > 1 and np.unique(sample[:, 1]).size > 1:
            moved = pull and (rng.normal(pull[0], pull[1]), pull[1], pull[2])
            drawn.append(_constants(_descend(found, sample, centre, _ROUGH, moved)[1], centre))
    e, a, alpha, b, beta = _constants(found, centre)
    # 1.64 standard deviations on each side: 90%, as the bootstrap's interval.
    return ScalingLaw(
        E=e,
        A=a,
        alpha=alpha,
        B=b,
        beta=beta,
        origin=origin,
        spread_low=1.64 * spread,
        spread_high=1.64 * spread,
        largest_parameters=float(points[:, 0].max()),
        largest_data=float(points[:, 1].max()),
        samples=tuple(drawn),
    )


def _constants(x: np.ndarray, centre: np.ndarray) -> tuple[float, ...]:
    """E, A, alpha, B, beta of a point of the optimiser, whose a and b are those at the centre of the data."""
    e, a, alpha, b, beta = (float(value) for value in x)
    return (
        float(np.exp(e)),
        float(np.exp(a + alpha * centre[0])),
        alpha,
        float(np.exp(b + beta * centre[1])),
        beta,
    )


def _terms(x: np.ndarray, logs: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(..., n, 3): the logarithm of each summand; `x` is (..., 5)."""
    x = np.asarray(x)[..., None, :]
    size, data = logs[:, 0] - centre[0], logs[:, 1] - centre[1]
    parts = (
        x[..., 1] - x[..., 2] * size,
        x[..., 3] - x[..., 4] * data,
        np.broadcast_to(x[..., 0], (*x.shape[:-2], len(logs))),
    )
    return np.stack(parts, axis=-1)


def _model(x: np.ndarray, logs: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The logarithm of the law at every run."""
    return _log_sum(_terms(x, logs, centre))


def _log_sum(terms: np.ndarray) -> np.ndarray:
    """log of the sum of exponentials along the last axis."""
    most = terms.max(axis=-1)
    return most + np.log(np.exp(terms - most[..., None]).sum(axis=-1))


def _huber(residuals: np.ndarray) -> np.ndarray:
    """Divided by DELTA: an error beyond it costs its own size."""
    size = np.abs(residuals)
    return np.where(size <= DELTA, 0.5 * residuals**2 / DELTA, size - 0.5 * DELTA)


def _objective(x: np.ndarray, logs: np.ndarray, centre: np.ndarray, pull: _Pull | None) -> tuple[float, np.ndarray]:
    """Summed Huber loss, the prior's pull, and their gradient."""
    terms = _terms(x, logs, centre)
    total = _log_sum(terms)
    residuals = total - logs[:, 2]
    shares = np.exp(terms - total[:, None]) * np.clip(residuals / DELTA, -1, 1)[:, None]
    size, data = logs[:, 0] - centre[0], logs[:, 1] - centre[1]
    by_a, by_b, by_e = shares.T
    gradient = np.array([by_e.sum(), by_a.sum(), -(by_a * size).sum(), by_b.sum(), -(by_b * data).sum()])
    loss = float(_huber(residuals).sum())
    if pull is not None:
        # A point that is off by `noise` costs about as much as a constant that is off by 1.4 deviations.
        off = (x - pull[0]) / pull[1]
        loss += float(pull[2] * 0.5 * (off**2).sum())
        gradient += pull[2] * off / pull[1]
    return loss, gradient


def _starts(logs: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The most promising points of the published grid, moved to the centre of the data. (k, 5)"""
    grid = np.array(list(itertools.product(_GRID_E, _GRID_A, _GRID_EXPONENT, _GRID_A, _GRID_EXPONENT)))
    grid[:, 1] -= grid[:, 2] * centre[0]
    grid[:, 3] -= grid[:, 4] * centre[1]
    # The grid is made for billions of parameters; for small models the same exponents meet at the mean loss.
    level = np.full(len(grid), np.log(0.3) + logs[:, 2].mean())
    grid = np.concatenate([grid, np.stack([grid[:, 0], level, grid[:, 2], level, grid[:, 4]], axis=1)])
    grid[:, 2] = grid[:, 2].clip(*_EXPONENTS)
    grid[:, 4] = grid[:, 4].clip(*_EXPONENTS)
    grid = np.unique(grid, axis=0)
    losses = _huber(_model(grid, logs, centre) - logs[:, 2]).sum(axis=-1)
    return grid[np.argsort(losses, kind="stable")[:_FOLLOWED]]


def _best(logs: np.ndarray, centre: np.ndarray, starts: np.ndarray, pull: _Pull | None) -> np.ndarray:
    """From every start roughly, and from where the best of them came to exactly."""
    rough = min((_descend(start, logs, centre, _ROUGH, pull) for start in starts), key=lambda found: found[0])
    return _descend(rough[1], logs, centre, _EXACT, pull)[1]


def _descend(
    start: np.ndarray, logs: np.ndarray, centre: np.ndarray, options: dict[str, float], pull: _Pull | None
) -> tuple[float, np.ndarray]:
    bounds = [(None, None), (None, None), _EXPONENTS, (None, None), _EXPONENTS]
    found = minimize(
        _objective, start, args=(logs, centre, pull), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return float(found.fun), np.asarray(found.x)
