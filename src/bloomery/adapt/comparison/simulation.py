"""Simulation: how often a ranking says that an arm is better where none is, and how often it finds one that is.

The scores are drawn; the verdict is the one that a real comparison gets. Questions have a difficulty that all arms
share, so that their answers are as correlated as real arms' are. This module does not know real arms.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special

from bloomery.adapt.comparison.ranking import ranked
from bloomery.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What is drawn."""

    arms: int = 8
    items: int = 200
    """Questions of the test."""
    rate: float = 0.7
    """Share of questions that an arm has right."""
    lift: float = 0.0
    """By how much the last arm's share is above the others'."""
    correlation: float = 0.5
    """Between two arms' abilities on a question, in the probit model: 0 independent, 1 the same answers."""
    binary: bool = True
    """Right or wrong; else a mark from 0 to 1 with the same mean."""
    cluster_size: int = 1
    """Questions that share a difficulty."""
    runs: int = 100
    alpha: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.arms < 2 or self.items < 2 or self.runs < 1 or self.cluster_size < 1:
            raise ConfigError("a simulation needs two arms, two items and one run")
        if not (0 < self.rate < 1 and 0 < self.rate + self.lift < 1 and 0 <= self.correlation < 1):
            raise ConfigError('"rate" and "rate" + "lift" are between 0 and 1, "correlation" from 0 to less than 1')


@dataclass(frozen=True, kw_only=True)
class Found:
    """Counts of runs."""

    runs: int
    told_apart: int
    """Runs in which any two arms were said to differ."""
    best_alone: int
    """Runs in which the last arm alone was left undefeated."""
    best_left: int
    """Runs in which the last arm was among the undefeated."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def simulated(config: Simulation) -> Found:
    """Draw and rank, `runs` times."""
    rng = np.random.Generator(np.random.PCG64(config.seed))
    names = [f"arm {number}" for number in range(config.arms)]
    clusters = None
    if config.cluster_size > 1:
        clusters = [item // config.cluster_size for item in range(config.items)]
    apart = alone = left = 0
    for _ in range(config.runs):
        scores = dict(zip(names, _scores(config, rng).tolist(), strict=True))
        found = ranked(scores, names, clusters=clusters, alpha=config.alpha)
        apart += found.distinguishable
        alone += found.undefeated == (names[-1],)
        left += names[-1] in found.undefeated
    return Found(runs=config.runs, told_apart=apart, best_alone=alone, best_left=left)


def _scores(config: Simulation, rng: np.random.Generator) -> np.ndarray:
    """(arms, items): right where ability less difficulty is above a threshold; its probability where not binary."""
    share = np.sqrt(config.correlation)
    groups = -(-config.items // config.cluster_size)
    difficulty = np.repeat(rng.standard_normal(groups), config.cluster_size)[: config.items]
    own = rng.standard_normal((config.arms, config.items))
    latent = share * difficulty + np.sqrt(1 - config.correlation) * own
    rates = np.full(config.arms, config.rate)
    rates[-1] += config.lift
    marks = latent + special.ndtri(rates)[:, None]
    return (marks > 0).astype(np.float64) if config.binary else special.ndtr(marks * 2)
