"""Plot: quality with its interval against an answer's cost, and the Pareto front. This module does not know arms."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

UNITS = {"money": "money per answer", "joules": "joules per answer", "seconds": "seconds per answer"}
_WIDTH, _HEIGHT = 7.2, 4.2


def plotted(result: Mapping[str, Any], kind: str) -> bytes:
    """`kind` is "svg" or "png". Costs are on a logarithmic axis; one of nothing stands at its left end."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    (FigureCanvasSVG if kind == "svg" else FigureCanvasAgg)(figure)
    axes = figure.subplots()
    costs = {one["name"]: _cost(one, result["unit"]) for one in result["arms"]}
    floor = min((cost for cost in costs.values() if cost > 0), default=1.0) / 3
    front = set(result["pareto"])
    points = []
    for one in result["arms"]:
        name, quality = one["name"], one["quality"]
        x, y = max(costs[name], floor), quality["value"]
        best = name == result["ranking"]["recommended"]
        colour = "#b45309" if best else "#1f2937" if name in front else "#9ca3af"
        error = [[max(0.0, y - quality["low"])], [max(0.0, quality["high"] - y)]]
        axes.errorbar([x], [y], yerr=error, fmt="D" if best else "o", color=colour, markersize=6, capsize=3)
        axes.annotate(name, (x, y), textcoords="offset points", xytext=(7, 5), fontsize=8, color=colour)
        if name in front:
            points.append((x, y))
    points.sort()
    axes.plot([x for x, _ in points], [y for _, y in points], color="#d97706", linewidth=0.9, linestyle="--", zorder=0)
    axes.set_xscale("log")
    axes.margins(x=0.18, y=0.1)
    currency = f" ({result['currency']})" if result["unit"] == "money" and result["currency"] else ""
    axes.set_xlabel(UNITS[result["unit"]] + currency)
    axes.set_ylabel(f"{result['metric']} (n = {result['items']['test']:,}, 95% intervals)")
    axes.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    more = {"Date": None, "Creator": None, "Format": None, "Type": None} if kind == "svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "bloomery"}):  # the same plot has the same ids
        figure.savefig(out, format=kind, dpi=150, metadata=more)
    return out.getvalue()


def _cost(arm: Mapping[str, Any], unit: str) -> float:
    cost = arm["cost"]
    value = {"money": cost["money"], "joules": cost["joules"]["central"], "seconds": cost["seconds"]}[unit]
    return value or 0.0
