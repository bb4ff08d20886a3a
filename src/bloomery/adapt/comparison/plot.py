"""Plot: quality with its interval against an answer's cost, and the Pareto front; learning curves in labels.

Texts of an SVG are texts, in whatever script a reader's fonts have. This module does not know arms.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.adapt.comparison.economics import amount

UNITS = {"money": "money per answer", "joules": "joules per answer", "seconds": "seconds per answer"}
INK, OURS, QUIET, FRONT, PAPER = "#1f2937", "#b45309", "#8b94a3", "#d97706", "#ffffff"
_WIDTH, _HEIGHT = 7.6, 4.4
_OFFSETS = (
    (8, 6),
    (8, -13),
    (-8, 6),
    (-8, -13),
    (8, 18),
    (8, -25),
    (-8, 18),
    (-8, -25),
    (8, 30),
    (8, -37),
    (-8, 30),
    (-8, -37),
)
"""Points from a mark to its name, the first that is free."""
_LONGEST = 40
"""Characters of a name."""
_CURVES = ("#b45309", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#8b94a3")


def plotted(result: Mapping[str, Any], kind: str) -> bytes:
    """`kind` is "svg" or "png". Costs are on a logarithmic axis; one of nothing stands at its left end."""

    def draw(axes: Any) -> None:
        costs = {one["name"]: amount(one, result["unit"]) or 0.0 for one in result["arms"]}
        floor = min((cost for cost in costs.values() if cost > 0), default=1.0) / 3
        front = set(result["pareto"])
        points, names = [], []
        for one in result["arms"]:
            name, quality = one["name"], one["quality"]
            x, y = max(costs[name], floor), quality["value"]
            best = name == result["ranking"]["recommended"]
            colour = OURS if best else INK if name in front else QUIET
            error = [[max(0.0, y - quality["low"])], [max(0.0, quality["high"] - y)]]
            axes.errorbar([x], [y], yerr=error, fmt="D" if best else "o", color=colour, markersize=6, capsize=3)
            names.append((name, x, y, colour, (quality["low"], quality["high"])))
            if name in front:
                points.append((x, y))
        points.sort()
        axes.plot([x for x, _ in points], [y for _, y in points], color=FRONT, linewidth=1, linestyle="--", zorder=0)
        axes.set_xscale("log")
        axes.margins(x=0.2, y=0.12)
        currency = f" ({result['currency']})" if result["unit"] == "money" and result["currency"] else ""
        axes.set_xlabel(UNITS[result["unit"]] + currency, parse_math=False)
        axes.set_ylabel(f"{result['metric']} (n = {result['items']['test']:,}, 95% intervals)", parse_math=False)
        _name(axes, names)

    return _drawn(draw, kind)


def curves(result: Mapping[str, Any], kind: str) -> bytes:
    """Scores on dev of the arms that learn, over the labels that they had."""

    def draw(axes: Any) -> None:
        ticks: set[int] = set()
        for place, one in enumerate(one for one in result["arms"] if one.get("curve")):
            labels, scores = ([step[key] for step in one["curve"]] for key in ("labels", "score"))
            colour, mark = _CURVES[place % len(_CURVES)], "osD^vP"[place % 6]
            axes.plot(labels, scores, marker=mark, markersize=5, linewidth=1.3, color=colour, label=_short(one["name"]))
            ticks |= set(labels)
        axes.set_xscale("log")
        axes.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
        axes.minorticks_off()
        axes.margins(x=0.08, y=0.15)
        axes.set_xlabel("labels of train")
        axes.set_ylabel(f"{result['metric']} on dev", parse_math=False)
        for text in axes.legend(frameon=False, fontsize=9, labelcolor=INK).get_texts():
            text.set_parse_math(False)

    return _drawn(draw, kind)


def _drawn(draw: Any, kind: str) -> bytes:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    coloured = dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color"), INK)
    # The same plot has the same ids.
    how: dict[Any, Any] = {"svg.hashsalt": "bloomery", "svg.fonttype": "none", "font.size": 10, **coloured}
    with rc_context(how), warnings.catch_warnings():
        # What the measuring font cannot draw a reader's fonts do; in a PNG it is a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained", facecolor=PAPER)
        (FigureCanvasSVG if kind == "svg" else FigureCanvasAgg)(figure)
        axes = figure.subplots()
        axes.set_facecolor(PAPER)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        out = io.BytesIO()
        more = {"Date": None, "Creator": None, "Format": None, "Type": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=150, metadata=more)
    return out.getvalue()


def _name(axes: Any, names: Sequence[tuple[str, float, float, str, tuple[float, float]]]) -> None:
    """Each mark's name beside it, where no other name or mark stands, and no interval where that is possible."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    figure = axes.figure
    canvas = FigureCanvasAgg(figure) if not hasattr(figure.canvas, "get_renderer") else figure.canvas
    canvas.draw()
    renderer = canvas.get_renderer()
    place = axes.transData.transform
    marks = [place((x, y)) for _, x, y, _, _ in names]
    bars = [Bbox([place((x, low)), place((x, high))]) for _, x, _, _, (low, high) in names]
    taken: list[Any] = []
    for name, x, y, colour, _ in names:
        best: tuple[int, int, Any] | None = None
        for number, (right, up) in enumerate(_OFFSETS):
            text = axes.annotate(
                _short(name), (x, y), textcoords="offset points", xytext=(right, up), fontsize=9, color=colour,
                ha="left" if right > 0 else "right", parse_math=False,
            )  # fmt: skip
            text.set_in_layout(False)  # a long name takes no room from the axes
            box = text.get_window_extent(renderer)
            hits = 10 * (sum(box.overlaps(other) for other in taken) + sum(box.contains(*mark) for mark in marks))
            hits += sum(box.overlaps(bar) for bar in bars)
            hits += 5 * (box.x1 > figure.bbox.x1 or box.x0 < axes.bbox.x0)
            if best is not None and hits >= best[0]:
                text.remove()
                continue
            if best is not None:
                best[2].remove()
            best = (hits, number, text)
            if not hits:
                break
        assert best is not None
        taken.append(best[2].get_window_extent(renderer))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
