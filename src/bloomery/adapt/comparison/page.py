"""Page: a comparison as one HTML file: verdict, plot, tables, and every answer to read. No script, no address.

This module does not know how anything was computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from bloomery.adapt.comparison.plot import plotted
from bloomery.adapt.comparison.testing import Tested
from bloomery.core.quantity import Quantity
from bloomery.evaluate.sample import Sample

LISTED = 300
"""Questions whose answers the page shows; the files beside it hold all."""
_LONGEST = 2000


def page(result: Mapping[str, Any], found: Sequence[Tested], test: Sequence[Sample]) -> str:
    """The HTML of what `compare` found. Every value is escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["quantity"] = lambda value, unit: Quantity.from_dict(value).text(unit)
    environment.filters["figure"] = lambda value: "unknown" if value is None else f"{value:,.4g}"
    source = resources.files("bloomery.adapt.comparison").joinpath("page.html.jinja").read_text(encoding="utf-8")
    svg = plotted(result, "svg").decode()
    questions = [
        {
            "input": sample.input[:_LONGEST],
            "targets": list(sample.targets),
            "answers": [
                {
                    "arm": one.entry.name,
                    "text": one.answers[number].text[:_LONGEST],
                    "value": one.scores[number].value,
                    "error": one.answers[number].error,
                    "said": [call.text[:_LONGEST] for call in one.answers[number].calls],
                }
                for one in found
            ],
        }
        for number, sample in enumerate(test[:LISTED])
    ]
    return environment.from_string(source).render(
        result=result, questions=questions, plot=Markup(svg[svg.index("<svg") :]), more=max(0, len(test) - LISTED)
    )
