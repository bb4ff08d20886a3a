"""Mix shares: how large each part of a mix should be, from what there is, what is asked for and what may be repeated.

Parts are all combinations of source, language and site that occur. Asked for are shares of sources, of languages and of
sites; proportional fitting (Deming and Stephan 1940) finds the parts nearest to the corpus as it is, in relative
entropy, that have them all. A part that would be repeated beyond its limit is held there and the others grow, as UniMax
does it for languages (Chung et al. 2023, arXiv:2304.09151). This module does not know documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 2000
_STILL = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """Shares of one kind: `groups` (C,) is the group of each part, `shares` (G,) sum to 1."""

    groups: NDArray[np.int64]
    shares: Floats


@dataclass(frozen=True)
class Plan:
    """`epochs` (C,): how often each part's documents stand, on average. `size`: what that comes to; `fits`: whether
    every share that was asked for is met within a thousandth."""

    epochs: Floats
    size: float
    fits: bool


def plan_mix(sizes: Floats, asked: Sequence[Asked], *, limits: Floats, size: float = 0.0) -> Plan:
    """The plan for parts of these sizes (C,), each repeated `limits` (C,) times at most; `size` 0 is their sum."""
    total = size or float(sizes.sum())
    most = limits * sizes / total
    shares = sizes / sizes.sum()
    for _ in range(_ROUNDS):
        before = shares
        for one in asked:
            shares = _scaled(shares, one)
        shares = _held(shares, most)
        if np.abs(shares - before).max() < _STILL:
            break
    with np.errstate(divide="ignore", invalid="ignore"):
        epochs = np.where(sizes > 0, shares * total / sizes, 0.0)
    made = float((epochs * sizes).sum())
    sums = [np.bincount(one.groups, epochs * sizes / made, minlength=len(one.shares)) for one in asked] if made else []
    fits = all(np.abs(have - one.shares).max() < 1e-3 for have, one in zip(sums, asked, strict=True)) if made else False
    return Plan(epochs, made, fits)


def tempered(sizes: Floats, temperature: float) -> Floats:
    """Shares in proportion to sizes ** (1 / temperature)."""
    powers = np.where(sizes > 0, (sizes / sizes.max()) ** (1 / temperature), 0.0)
    return powers / powers.sum()


def _scaled(shares: Floats, asked: Asked) -> Floats:
    """The parts with each group's sum as asked; a group that has nothing to scale stays empty, and others get its."""
    have = np.bincount(asked.groups, shares, minlength=len(asked.shares))
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = np.where(have > 0, asked.shares / have, 0.0)
    scaled = shares * factors[asked.groups]
    return scaled / total if (total := scaled.sum()) > 0 else shares


def _held(shares: Floats, most: Floats) -> Floats:
    """The parts with none above its most: what is cut off goes to the others in proportion, while they have room."""
    held = np.zeros(len(shares), bool)
    for _ in range(len(shares) + 1):
        over = ~held & (shares > most)
        if not over.any():
            break
        held |= over
        shares = np.where(held, most, shares)
        free = shares[~held].sum()
        if free > 0:
            shares = np.where(held, shares, shares * max(0.0, 1.0 - most[held].sum()) / free)
    return shares
