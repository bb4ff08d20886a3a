"""The plot shows every arm where it belongs, whatever its costs and its name."""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ElementTree

import pytest

from bloomery.adapt.comparison.plot import FRONT, OURS, curves, plotted
from bloomery.adapt.comparison.testing import read_comparison

_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def result(made):
    return copy.deepcopy(read_comparison(made.artifact))


def texts(svg: bytes) -> dict[str, tuple[float, float]]:
    """Each text with its place (x to the right, y down)."""
    found = {}
    for one in ElementTree.fromstring(svg).iter(f"{_SVG}text"):
        found["".join(one.itertext())] = (float(one.get("x", "nan")), float(one.get("y", "nan")))
    return found


def priced(result, **named: tuple[float, float]):
    """Arms of (joules an answer, quality)."""
    arms = []
    for name, (cost, quality) in named.items():
        arm = copy.deepcopy(result["arms"][0])
        arm["name"] = name
        arm["quality"].update(value=quality, low=quality - 0.05, high=quality + 0.05)
        arm["cost"]["joules"]["central"] = cost
        arms.append(arm)
    return {**result, "unit": "joules", "arms": arms}


def test_both_kinds_and_the_same_bytes_twice(made, result):
    assert plotted(result, "png").startswith(b"\x89PNG")
    svg = plotted(result, "svg")
    assert svg == plotted(result, "svg") == made.artifact.file("plot.svg").read_bytes()
    shown = texts(svg)
    assert {one["name"] for one in result["arms"]} <= set(shown)
    assert "joules per answer" in shown and any("n = 24" in text for text in shown)


def test_dearer_is_to_the_right_and_better_is_higher(result):
    told = priced(result, cheap=(0.01, 0.5), dear=(100.0, 0.5), good=(1.0, 0.95), bad=(1.0, 0.1))
    told |= {"pareto": ["cheap", "good"], "ranking": {"recommended": "good"}}
    svg = plotted(told, "svg")
    at = texts(svg)
    assert at["cheap"][0] + 100 < at["good"][0] < at["dear"][0] - 100 and at["good"][1] + 50 < at["bad"][1]
    line = re.search(rf'd="([^"]*)"[^>]*style="[^"]*stroke-dasharray[^"]*stroke: {FRONT}', svg.decode())
    assert line and line[1].count("L") == 1  # from one arm of the front to the other
    assert OURS in svg.decode()


def test_names_do_not_stand_on_each_other(result):
    told = priced(result, **{f"an arm of a long name {n}": (1.0 + n / 1000, 0.5 + n / 1000) for n in range(6)})
    told |= {"pareto": [], "ranking": {"recommended": ""}}
    places = [place for text, place in texts(plotted(told, "svg")).items() if text.startswith("an arm")]
    assert len(places) == 6
    for number, (x, y) in enumerate(places):
        assert all(abs(x - other[0]) > 100 or abs(y - other[1]) > 8 for other in places[:number])


def test_costs_of_nothing_and_money(result):
    result["unit"], result["currency"] = "money", "$€"
    for arm in result["arms"]:
        arm["cost"]["money"] = None
    assert "money per answer ($€)" in texts(plotted(result, "svg"))


def test_names_in_any_script_and_with_signs_of_formulas(result):
    told = priced(result, **{"鉄 <炉> & حديد": (1.0, 0.5), "$x_1$ and $y": (2.0, 0.6)})
    told |= {"pareto": [], "ranking": {"recommended": ""}}
    assert {"鉄 <炉> & حديد", "$x_1$ and $y"} <= set(texts(plotted(told, "svg"))) and plotted(told, "png")


def test_curves_over_labels(result):
    learning = [one for one in result["arms"] if one["curve"]]
    assert [one["name"] for one in learning] == ["classic", "lora"]
    shown = texts(curves(result, "svg"))
    assert {"classic", "lora", "30", "60", "labels of train"} <= set(shown) and "rag" not in shown
    assert shown["30"][0] < shown["60"][0] and curves(result, "png").startswith(b"\x89PNG")
