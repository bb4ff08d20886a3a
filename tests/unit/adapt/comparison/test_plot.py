"""The plot shows every arm, whatever its costs."""

from __future__ import annotations

import copy

from bloomery.adapt.comparison.plot import plotted
from bloomery.adapt.comparison.testing import read_comparison


def test_both_kinds(made):
    result = read_comparison(made.artifact)
    assert plotted(result, "png").startswith(b"\x89PNG")
    svg = plotted(result, "svg").decode()
    assert "<svg" in svg and svg == made.artifact.file("plot.svg").read_text("utf-8")


def test_costs_of_nothing_and_money(made):
    result = copy.deepcopy(read_comparison(made.artifact))
    result["unit"], result["currency"] = "money", "EUR"
    for arm in result["arms"]:
        arm["cost"]["money"] = None
    assert plotted(result, "svg")
