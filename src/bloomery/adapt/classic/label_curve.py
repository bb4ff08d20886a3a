"""Label curve: what an arm is worth with so many labels, so many more, and what the labels cost.

Subsets are nested: each is the beginning of one seeded order, in which every label has its share from the start; the
same subsets go to every arm, and the same test. Intervals are Student's t over seeds: other labels, other luck. This
module does not know arms: it is handed a function that makes one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.sample import Sample

M = TypeVar("M")
_LEAST_EACH = 2


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """An arm with so many labels, of one seed."""

    arm: str
    labels: int
    seed: int
    figures: Mapping[str, float]
    """By metric, of the test."""
    seconds: float
    """To make it."""
    labels_cost: float | None = None
    """Money; None where no price is known."""
    energy_joules: float | None = None
    """To make it; None where unknown."""


def nested(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """All of them in a seeded order of which every beginning has about the whole's shares of labels, and its first
    samples are two of each label. DataError for a label that there is only once."""
    by_label: dict[str, list[Sample]] = {}
    for sample in samples:
        if not sample.targets:
            raise DataError(f"sample {sample.id!r:.60} has no label")
        by_label.setdefault(sample.targets[0], []).append(sample)
    rng = np.random.default_rng(seed)
    placed: list[tuple[float, int, Sample]] = []
    for number, (label, group) in enumerate(sorted(by_label.items())):
        if len(group) < _LEAST_EACH:
            raise DataError(f"there is only one sample of the label {label!r:.60}")
        for place, at in enumerate(rng.permutation(len(group))):
            # The k-th of m samples stands at about (k + u) / m of the way; the first of each label before all others.
            there = -1.0 if place < _LEAST_EACH else (place + rng.random()) / len(group)
            placed.append((there, number, group[int(at)]))
    return [sample for _, _, sample in sorted(placed, key=lambda one: one[:2])]


def curve_sizes(total: int, *, least: int = 50, steps: int = 5) -> tuple[int, ...]:
    """Sizes from `least` to all, each about the same factor above the one before."""
    if total <= least or steps < 2:
        return (total,)
    return tuple(sorted({round(least * (total / least) ** (n / (steps - 1))) for n in range(steps)}))


def label_curve(
    name: str,
    train: Sequence[Sample],
    make: Callable[[Sequence[Sample], int], M],
    measure: Callable[[M], Mapping[str, float]],
    *,
    sizes: Sequence[int],
    seeds: Sequence[int] = (0, 1, 2),
    price_per_label: float | None = None,
    progress: Callable[[CurvePoint], None] = lambda point: None,
) -> list[CurvePoint]:
    """Make an arm of every size and seed and measure it. `make` is given the labelled samples and the seed; what it
    makes may have a `making` (seconds, joules)."""
    import time

    if not sizes or min(sizes) < 1 or max(sizes) > len(train):
        raise ConfigError(
            f"sizes of a curve are from 1 to the {len(train):,} samples that there are, not {list(sizes)}"
        )
    points = []
    for seed in seeds:
        order = nested(train, seed)
        for size in sizes:
            began = time.perf_counter()
            made = make(order[:size], seed)
            seconds = time.perf_counter() - began
            making: Any = getattr(made, "making", None)
            points.append(
                CurvePoint(
                    arm=name,
                    labels=size,
                    seed=seed,
                    figures=dict(measure(made)),
                    seconds=seconds,
                    labels_cost=None if price_per_label is None else price_per_label * size,
                    energy_joules=making.energy_joules.central if making is not None else None,
                )
            )
            progress(points[-1])
    return points


def summarised(points: Sequence[CurvePoint], metric: str) -> list[dict[str, Any]]:
    """For each arm and size: mean over seeds and the ends of its 95% interval (Student's t; None with one seed)."""
    from scipy import stats

    rows = []
    for arm, labels in sorted({(point.arm, point.labels) for point in points}):
        ours = [point for point in points if (point.arm, point.labels) == (arm, labels)]
        values = np.array([point.figures[metric] for point in ours])
        half = None
        if len(values) > 1:
            half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
        mean = float(values.mean())
        rows.append(
            {
                "arm": arm,
                "labels": labels,
                "mean": mean,
                "low": None if half is None else mean - half,
                "high": None if half is None else mean + half,
                "seeds": len(values),
                "seconds": float(np.mean([point.seconds for point in ours])),
                "labels_cost": ours[0].labels_cost,
            }
        )
    return rows


def plot_curve(
    points: Sequence[CurvePoint], path: str | Path, *, metric: str, title: str = "", currency: str = ""
) -> None:
    """SVG, PNG or PDF, by the file's name: a line an arm, labels on a logarithmic axis, intervals as bands; what the
    labels cost above, where a price is known. The same points give the same bytes of SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows, path = summarised(points, metric), Path(path)
    if not rows:
        raise ConfigError("no point of a curve to draw")
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito's
    with mpl.rc_context({"svg.hashsalt": "bloomery", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        for place, arm in enumerate(dict.fromkeys(row["arm"] for row in rows)):
            ours = [row for row in rows if row["arm"] == arm]
            x, mean = [row["labels"] for row in ours], [row["mean"] for row in ours]
            colour, mark = colours[place % len(colours)], "osD^vPX"[place % 7]
            axes.plot(x, mean, marker=mark, ms=4, lw=1.2, color=colour, label=arm)
            banded = [row for row in ours if row["low"] is not None]
            axes.fill_between(
                [row["labels"] for row in banded],
                [row["low"] for row in banded],
                [row["high"] for row in banded],
                color=colour,
                alpha=0.15,
                lw=0,
            )
        axes.set_xscale("log")
        axes.set_xlabel("labels")
        axes.set_ylabel(metric.replace("_", " "))
        axes.set_title(title, fontsize=10, parse_math=False)
        axes.grid(color="#e5e5e5", lw=0.6)
        axes.set_axisbelow(True)
        axes.legend(fontsize=8)
        costs = {row["labels"]: row["labels_cost"] for row in rows if row["labels_cost"] is not None}
        if costs and all(costs.values()):
            price = next(cost / labels for labels, cost in costs.items())
            above = axes.secondary_xaxis("top", functions=(lambda n: n * price, lambda money: money / price))
            above.set_xlabel(f"cost of the labels{f' in {currency}' if currency else ''}")
        still = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower(), {})
        figure.savefig(path, dpi=120, metadata=still)
