"""Paired: the difference between two answerers on the same items, which is known better than either score.

Most of what makes an item easy or hard is the same for both and cancels in the difference (Miller, arXiv 2411.00640,
section 4.1). `ways` of the interval: "t" (Student's t, clustered where clusters are given), "bca" and "studentised"
(bootstrap of items or of whole clusters), "score" (right and wrong without clusters only). "auto" takes "score" where
it can and "t" elsewhere: experiments/intervals.py shows which of them hold their confidence, and from how many items
on.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.bootstrap import RESAMPLES, bootstrap_mean
from bloomery.evaluate.statistics.interval import LEVEL, Interval, Real, cluster_codes, numbers
from bloomery.evaluate.statistics.mcnemar import binary_difference, mcnemar
from bloomery.evaluate.statistics.means import mean, mean_spread, student_p

Way = Literal["auto", "score", "t", "bca", "studentised"]
Test = Literal["auto", "mcnemar", "mcnemar mid-p", "t", "permutation"]


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """A less B on the same items. `sd` and `correlation` are of items; `correlation` is None where one of them is the
    same everywhere. `design_effect`: variance of the mean by its clusters over that of as many independent items."""

    difference: Interval
    mean_a: float
    mean_b: float
    p_value: float
    test: str
    sd: float
    correlation: float | None
    discordance: float
    """Share of items on which the two differ."""
    binary: bool
    design_effect: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "difference": self.difference.to_dict()}


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    way: Way = "auto",
    test: Test = "auto",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """Scores of A and B on the same items, in the same order; two items or clusters at least.

    `test` "auto" is exact McNemar where items are right or wrong and stand alone, else the sign-flip permutation (whole
    clusters at once), which needs no distribution.
    """
    one, other = numbers(a, least=2), numbers(b, least=2)
    if len(one) != len(other):
        raise DataError(f"{len(one):,} items are no pairs with {len(other):,}", hint="both answer the same items")
    codes = cluster_codes(clusters, len(one))
    apart = one - other
    binary = bool(np.isin(one, (0.0, 1.0)).all() and np.isin(other, (0.0, 1.0)).all())
    spread = mean_spread(apart, codes)
    alone = float(apart.var(ddof=1)) / len(apart)
    p_value, name = _test(test, one, other, codes, binary, resamples, seed)
    varies = one.std() > 0 and other.std() > 0
    return PairedDifference(
        difference=_interval(way, one, other, codes, binary, level, resamples, seed),
        mean_a=float(one.mean()),
        mean_b=float(other.mean()),
        p_value=p_value,
        test=name,
        sd=float(apart.std(ddof=1)),
        correlation=float(np.corrcoef(one, other)[0, 1]) if varies else None,
        discordance=float((apart != 0).mean()),
        binary=binary,
        design_effect=spread.standard_error**2 / alone if alone > 0 else 1.0,
    )


def _interval(
    way: Way, one: Real, other: Real, codes: Any, binary: bool, level: float, resamples: int, seed: int
) -> Interval:
    score = binary and codes is None
    if way == "score" and not score:
        raise DataError("the score interval is for right and wrong, without clusters", hint='way="t" or "bca"')
    if way == "score" or (way == "auto" and score):
        return binary_difference(one, other, level=level)
    clusters = None if codes is None else codes.tolist()
    if way in ("bca", "studentised"):
        return bootstrap_mean(one - other, clusters=clusters, way=way, level=level, resamples=resamples, seed=seed)
    return mean(one - other, clusters=clusters, level=level)


def _test(test: Test, one: Real, other: Real, codes: Any, binary: bool, resamples: int, seed: int) -> tuple[float, str]:
    """The two-sided p-value, and the test's name."""
    chosen = test if test != "auto" else ("mcnemar" if binary and codes is None else "permutation")
    if chosen in ("mcnemar", "mcnemar mid-p"):
        if codes is not None:
            raise DataError(
                "McNemar's test takes items for independent", hint='test="permutation" keeps clusters whole'
            )
        found = mcnemar(one, other, mid_p=chosen == "mcnemar mid-p")
        return found.p_value, "exact McNemar" if chosen == "mcnemar" else "McNemar, mid-p"
    apart = one - other
    if chosen == "t":
        spread = mean_spread(apart, codes)
        if spread.standard_error == 0:
            return 1.0 if not apart.any() else 0.0, "paired t"
        return student_p(float(apart.mean()) / spread.standard_error, spread.freedom), "paired t"
    sums = apart if codes is None else np.bincount(codes, apart).astype(np.float64)
    return sign_flip_p(sums, resamples=resamples, seed=seed), "sign-flip permutation"


def sign_flip_p(sums: Real, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of a sum whose parts would as well have had the other sign (Fisher 1935, section 21): all sign
    patterns where they are no more than `resamples`, else so many drawn ones, the observed among them."""
    parts = sums[np.abs(sums) > 0]
    if len(parts) < 2:  # one part is as large with either sign
        return 1.0
    found = stats.permutation_test(
        (parts,),
        lambda values, axis=-1: np.abs(values.sum(axis)),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, (1 << 21) // len(parts)),
        alternative="greater",
        rng=np.random.Generator(np.random.PCG64(seed)),
    )
    return min(1.0, float(found.pvalue))
