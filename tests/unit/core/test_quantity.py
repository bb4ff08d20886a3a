"""Sums keep their order; unknown poisons."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.quantity import Quantity

positive = st.floats(min_value=0, max_value=1e12)
quantities = st.builds(
    lambda values, method: Quantity(low=min(values), central=sorted(values)[1], high=max(values), method=method),
    st.tuples(positive, positive, positive),
    st.sampled_from(["counter", "sampled", "estimated", "user"]),
)


@given(quantities, quantities, positive)
def test_sums_and_differences_keep_the_order(a: Quantity, b: Quantity, factor: float) -> None:
    for made in (a + b, (a + b) - b, a.scaled(factor)):  # the constructor refuses bounds out of order
        assert made.known
    assert (a + b).method == (b + a).method


@given(quantities)
def test_unknown_poisons(a: Quantity) -> None:
    unknown = Quantity.unknown()
    assert not any(q.known for q in (a + unknown, unknown + a, a - unknown, unknown - a, unknown.scaled(0)))


@given(quantities)
def test_round_trip(a: Quantity) -> None:
    assert Quantity.from_dict(a.to_dict()) == a


def test_refusals_and_text() -> None:
    with pytest.raises(ValueError, match="order"):
        Quantity(low=2, central=1, high=3, method="user")
    with pytest.raises(ValueError, match="no values"):
        Quantity(low=0, central=0, high=0, method="unknown")
    with pytest.raises(ValueError, match="needs"):
        Quantity(low=None, central=1, high=3, method="user")
    assert Quantity.unknown().text("J") == "unknown"
    assert Quantity.exact(2.5, "counter").text("J") == "2.5 J, counter"
