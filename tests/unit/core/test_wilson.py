"""Wilson's interval as printed by Newcombe 1998, and as statsmodels computes it."""

from __future__ import annotations

import pytest
from statsmodels.stats.proportion import proportion_confint

from bloomery.core.wilson import wilson


def test_as_printed():
    """Table I, method 3: 81 of 263, 15 of 148, 0 of 20 and 1 of 29."""
    printed = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (hits, of), wanted in printed.items():
        assert wilson(hits, of) == pytest.approx(wanted, abs=5e-5)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_is_statsmodels(level: float):
    for hits, of in ((0, 1), (1, 1), (3, 10), (500, 1000), (999_999, 1_000_000)):
        wanted = proportion_confint(hits, of, alpha=1 - level, method="wilson")
        assert wilson(hits, of, level) == pytest.approx(wanted, abs=1e-9)  # quantiles of two libraries


def test_of_nothing_everything_is_possible():
    assert wilson(0, 0) == (0.0, 1.0)
