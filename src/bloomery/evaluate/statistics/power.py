"""Power: what difference a number of items can show, before anything is asked, and how many items a difference needs.

Miller, arXiv 2411.00640, section 5: a run that cannot show the difference that matters need not begin. Continuous
scores: Student's t with its noncentral distribution (Cohen 1988). Right and wrong: paired by McNemar's test (Connor,
Biometrics 43, 1987), unpaired by two proportions (Fleiss, Levin and Paik 2003, section 4.2, no continuity correction).
All two-sided. `design_effect` is what clusters multiply the variance with: n items in clusters count as n /
design_effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scipy import optimize, special

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.interval import check_level

ALPHA, POWER = 0.05, 0.8
MOST = 10**12
"""Items; what would need more is given up."""


@dataclass(frozen=True, kw_only=True)
class Detectable:
    """The smallest true difference that a test finds with probability `power`; None: not even the largest there can
    be."""

    difference: float | None
    n: int
    design: str
    assumed: str
    """What the answer rests on, in words."""
    alpha: float = ALPHA
    power: float = POWER

    def text(self) -> str:
        """For people, before a run."""
        if self.difference is None:
            return f"with n = {self.n:,} no difference would show ({self.design}, {self.assumed})"
        return (
            f"with n = {self.n:,} a difference of {self.difference:.3f} or more shows in {self.power:.0%} of runs "
            f"({self.design}, {self.assumed}, alpha {self.alpha:g})"
        )

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def detectable_paired(
    n: int, sd: float, *, alpha: float = ALPHA, power: float = POWER, design_effect: float = 1.0
) -> Detectable:
    """Of two means over the same items; `sd` is that of the items' differences."""
    _check(n, alpha, power, design_effect)
    items = n / design_effect
    found = _smallest(lambda d: _t_power(d / sd * math.sqrt(items), items - 1, alpha), power, 0.0, 100 * sd)
    return Detectable(
        difference=found, n=n, design="paired", assumed=f"sd of differences {sd:.3g}", alpha=alpha, power=power
    )


def detectable_unpaired(
    n: int,
    sd: float,
    *,
    n_other: int | None = None,
    alpha: float = ALPHA,
    power: float = POWER,
    design_effect: float = 1.0,
) -> Detectable:
    """Of two means over different items, `n` and `n_other` (None: as many); `sd` is that of the items."""
    _check(n, alpha, power, design_effect)
    one, other = n / design_effect, (n_other or n) / design_effect
    items = one * other / (one + other)
    found = _smallest(lambda d: _t_power(d / sd * math.sqrt(items), one + other - 2, alpha), power, 0.0, 100 * sd)
    return Detectable(difference=found, n=n, design="unpaired", assumed=f"sd {sd:.3g}", alpha=alpha, power=power)


def detectable_paired_binary(
    n: int, discordance: float, *, alpha: float = ALPHA, power: float = POWER, design_effect: float = 1.0
) -> Detectable:
    """Of two rates over the same items; `discordance` is the share of items on which the two differ."""
    _check(n, alpha, power, design_effect)
    _check_share(discordance, "discordance")
    items = n / design_effect
    found = _smallest(lambda d: _mcnemar_power(d, discordance, items, alpha), power, 0.0, discordance)
    assumed = f"{discordance:.3g} of items differ"
    return Detectable(difference=found, n=n, design="paired, right or wrong", assumed=assumed, alpha=alpha, power=power)


def detectable_unpaired_binary(
    n: int,
    rate: float,
    *,
    n_other: int | None = None,
    alpha: float = ALPHA,
    power: float = POWER,
    design_effect: float = 1.0,
) -> Detectable:
    """Of two rates over different items, upward from `rate`."""
    _check(n, alpha, power, design_effect)
    _check_share(rate, "rate", zero=True)
    one, other = n / design_effect, (n_other or n) / design_effect
    found = _smallest(lambda d: _rates_power(rate, rate + d, one, other, alpha), power, 0.0, 1 - rate)
    assumed = f"from a rate of {rate:.3g}"
    return Detectable(
        difference=found, n=n, design="unpaired, right or wrong", assumed=assumed, alpha=alpha, power=power
    )


def needed_paired(
    difference: float, sd: float, *, alpha: float = ALPHA, power: float = POWER, design_effect: float = 1.0
) -> int | None:
    """Items for a mean difference between two on the same items; None where no number up to `MOST` is enough."""
    _check(2, alpha, power, design_effect)
    size = abs(difference) / sd if sd > 0 else math.inf
    return _items(lambda n: _t_power(size * math.sqrt(n), n - 1, alpha), power, size, design_effect)


def needed_unpaired(
    difference: float, sd: float, *, alpha: float = ALPHA, power: float = POWER, design_effect: float = 1.0
) -> int | None:
    """Items for each of two that answer different ones."""
    _check(2, alpha, power, design_effect)
    size = abs(difference) / sd if sd > 0 else math.inf
    return _items(lambda n: _t_power(size * math.sqrt(n / 2), 2 * n - 2, alpha), power, size, design_effect)


def needed_paired_binary(
    difference: float, discordance: float, *, alpha: float = ALPHA, power: float = POWER, design_effect: float = 1.0
) -> int | None:
    """Items for a difference of rates between two on the same items, of which they differ on `discordance`."""
    _check(2, alpha, power, design_effect)
    _check_share(discordance, "discordance")
    size = abs(difference)
    if size > discordance:
        raise DataError(f"a difference of {size:.3g} needs {size:.3g} of the items to differ, not {discordance:.3g}")
    return _items(lambda n: _mcnemar_power(size, discordance, n, alpha), power, size, design_effect)


def needed_unpaired_binary(
    one: float, other: float, *, alpha: float = ALPHA, power: float = POWER, design_effect: float = 1.0
) -> int | None:
    """Items for each of two with these rates on different items."""
    _check(2, alpha, power, design_effect)
    return _items(lambda n: _rates_power(one, other, n, n, alpha), power, abs(one - other), design_effect)


def _t_power(noncentrality: float, freedom: float, alpha: float) -> float:
    if freedom <= 0 or noncentrality == 0:
        return alpha if freedom > 0 else 0.0
    if freedom > 1e6 or noncentrality > 30:  # the noncentral t is not computed there, nor told from the normal
        return float(special.ndtr(noncentrality - special.ndtri(1 - alpha / 2)))
    edge = float(special.stdtrit(freedom, 1 - alpha / 2))
    other = float(special.nctdtr(freedom, noncentrality, -edge)) if noncentrality < 5 else 0.0  # below 1e-10, or nan
    return 1 - float(special.nctdtr(freedom, noncentrality, edge)) + other


def _mcnemar_power(difference: float, discordance: float, n: float, alpha: float) -> float:
    """Connor's: the test's spread where there is no difference, and where there is this one."""
    spread = discordance - difference**2
    reach = difference * math.sqrt(n) - float(special.ndtri(1 - alpha / 2)) * math.sqrt(discordance)
    return float(special.ndtr(reach / math.sqrt(spread))) if spread > 0 else float(reach > 0)


def _rates_power(one: float, other: float, n: float, n_other: float, alpha: float) -> float:
    pooled = (one * n + other * n_other) / (n + n_other)
    without = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / n_other))
    with_it = math.sqrt(one * (1 - one) / n + other * (1 - other) / n_other)
    reach = abs(other - one) - float(special.ndtri(1 - alpha / 2)) * without
    return float(special.ndtr(reach / with_it)) if with_it > 0 else float(reach > 0)


def _smallest(chance: Callable[[float], float], power: float, low: float, high: float) -> float | None:
    if high <= low or not chance(high) >= power:
        return None
    return _root(lambda d: chance(d) - power, low, high, 1e-10)


def _root(function: Callable[[float], float], low: float, high: float, exact: float) -> float:
    return float(optimize.root_scalar(function, bracket=(low, high), method="brentq", xtol=exact).root)


def _items(chance: Callable[[float], float], power: float, size: float, design_effect: float) -> int | None:
    """The least whole number of items, at least 2, whose chance is `power`."""
    if size == 0:
        return None
    high = 2.0
    while chance(high) < power:
        high *= 2
        if high > MOST:
            return None
    low = max(2.0, high / 2)
    exact = low if chance(low) >= power else _root(lambda n: chance(n) - power, low, high, 1e-6)
    return math.ceil(exact * design_effect - 1e-6)


def _check(n: int, alpha: float, power: float, design_effect: float) -> None:
    if n < 2:
        raise DataError(f"two items or more are needed, not {n}")
    check_level(alpha, "alpha")
    check_level(power, "power")
    if design_effect <= 0:
        raise DataError(f"a design effect is above 0, not {design_effect}")


def _check_share(value: float, what: str, *, zero: bool = False) -> None:
    if not (value >= 0 if zero else value > 0) or value > 1:
        raise DataError(f"{what} is a share of items, not {value}")
