"""Page: a comparison as one HTML file: verdict, arms, plot, tables, and every answer to read. No script, no address;
light or dark as the reader's machine is.

This module does not know how anything was computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from bloomery.adapt.comparison.economics import UNIT_SIGNS, amount
from bloomery.adapt.comparison.plot import FRONT as FRONT_COLOUR
from bloomery.adapt.comparison.plot import INK, OURS, PAPER, QUIET, curves, plotted
from bloomery.adapt.comparison.testing import Tested
from bloomery.core.quantity import Quantity
from bloomery.evaluate.sample import Sample

LISTED = 300
"""Questions whose answers the page shows; the files beside it hold all."""
_LONGEST = 2000
_THEME = {INK: "var(--ink)", OURS: "var(--ours)", QUIET: "var(--quiet)", FRONT_COLOUR: "var(--front)", PAPER: "none"}
"""A figure's colours, as the page names them."""


def page(result: Mapping[str, Any], found: Sequence[Tested], test: Sequence[Sample]) -> str:
    """The HTML of what `compare` found. Every value is escaped."""
    from jinja2 import Environment, StrictUndefined

    low, high = _scale(result)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["quantity"] = lambda value, unit: Quantity.from_dict(value).text(unit)
    environment.filters["figure"] = _figure
    environment.filters["place"] = lambda value: round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 2)
    environment.filters["oneline"] = lambda text: " ".join(text.split())[:160]
    environment.filters["each"] = lambda arm, unit: amount(arm, unit)
    environment.filters["made"] = lambda arm, unit: amount(arm, unit, make=True)
    source = resources.files("bloomery.adapt.comparison").joinpath("page.html.jinja").read_text(encoding="utf-8")
    unit = result["unit"]
    return environment.from_string(source).render(
        result=result,
        units=UNIT_SIGNS,
        unit_title=f"money {result['currency']}".strip() if unit == "money" else unit,
        scale={"low": low, "high": high},
        questions=[_question(number, sample, found) for number, sample in enumerate(test[:LISTED])],
        plot=_themed(plotted(result, "svg")),
        curve=_themed(curves(result, "svg")) if any(one.get("curve") for one in result["arms"]) else "",
        more=max(0, len(test) - LISTED),
    )


def _figure(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _question(number: int, sample: Sample, found: Sequence[Tested]) -> dict[str, Any]:
    answers = [
        {
            "arm": one.entry.name,
            "text": one.answers[number].text[:_LONGEST],
            "value": one.scores[number].value,
            "error": one.answers[number].error,
            "said": [call.text[:_LONGEST] for call in one.answers[number].calls],
        }
        for one in found
    ]
    return {"input": sample.input[:_LONGEST], "targets": list(sample.targets), "answers": answers}


def _scale(result: Mapping[str, Any]) -> tuple[float, float]:
    """What the intervals' bars span: all of them, to tenths."""
    lows = [one["quality"]["low"] for one in result["arms"]]
    highs = [one["quality"]["high"] for one in result["arms"]]
    low = math.floor(10 * min(lows, default=0.0) + 1e-9) / 10
    high = math.ceil(10 * max(highs, default=1.0) - 1e-9) / 10
    return (low, high) if high > low else (low, low + 1.0)


def _themed(svg: bytes) -> Any:
    """A figure whose colours are the page's."""
    from markupsafe import Markup

    text = svg.decode()
    text = text[text.index("<svg") :]
    for colour, name in _THEME.items():
        text = text.replace(f": {colour}", f": {name}")
    return Markup(text)
