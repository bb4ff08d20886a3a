"""Curves of labels: nested subsets, every label from the start, intervals of Student's t, the same picture twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from bloomery.adapt.classic.label_curve import (
    CurvePoint,
    curve_sizes,
    label_curve,
    nested,
    plot_curve,
    summarised,
)
from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.sample import Sample


def rare(total: int = 400, every: int = 20) -> list[Sample]:
    return [Sample(id=str(n), input="", targets=("yes" if n % every == 0 else "no",)) for n in range(total)]


def test_beginnings_hold_every_label_and_about_its_share():
    order = nested(rare(), seed=3)
    assert len({one.id for one in order}) == 400
    assert set(Counter(one.targets[0] for one in order[:4]).values()) == {2}
    for size in (100, 200, 300):
        share = Counter(one.targets[0] for one in order[:size])["yes"]
        assert abs(share - size / 20) <= 3
    assert nested(rare(), seed=3) == order != nested(rare(), seed=4)
    with pytest.raises(DataError, match="only one"):
        nested([*rare(), Sample(id="x", input="", targets=("odd",))], seed=0)


def test_sizes():
    assert curve_sizes(800, least=50, steps=5) == (50, 100, 200, 400, 800)
    assert curve_sizes(40) == (40,)


@dataclass
class Share:
    """An arm that learns how frequent "yes" is."""

    value: float


def test_every_size_and_seed_is_made_of_nested_samples():
    seen: list[list[str]] = []

    def make(samples, seed: int) -> Share:
        seen.append([one.id for one in samples])
        return Share(float(np.mean([one.targets[0] == "yes" for one in samples])))

    points = label_curve(
        "share", rare(), make, lambda arm: {"error": abs(arm.value - 0.05)}, sizes=(50, 400), price_per_label=0.2
    )
    assert [(p.labels, p.seed) for p in points] == [(n, s) for s in (0, 1, 2) for n in (50, 400)]
    assert seen[1][:50] == seen[0] and points[1].figures["error"] == pytest.approx(0)
    assert points[0].labels_cost == pytest.approx(10.0) and points[0].energy_joules is None
    with pytest.raises(ConfigError):
        label_curve("share", rare(), make, lambda arm: {}, sizes=(401,))


def made(values: dict[int, list[float]], arm: str = "a") -> list[CurvePoint]:
    return [
        CurvePoint(
            arm=arm, labels=labels, seed=seed, figures={"accuracy": value}, seconds=1.0, labels_cost=labels * 0.1
        )
        for labels, several in values.items()
        for seed, value in enumerate(several)
    ]


def test_intervals_are_those_of_scipy():
    from scipy import stats

    (row,) = summarised(made({10: [0.7, 0.8, 0.75]}), "accuracy")
    low, high = stats.t.interval(0.95, 2, loc=0.75, scale=stats.sem([0.7, 0.8, 0.75]))
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.75, low, high))
    (row,) = summarised(made({10: [0.7]}), "accuracy")
    assert row["low"] is None and row["seeds"] == 1


def test_a_picture_that_stays(tmp_path):
    points = made({10: [0.7, 0.8], 100: [0.9, 0.85]}) + made({10: [0.5], 100: [0.6]}, arm="b$x$")
    for name in ("one.svg", "two.svg", "curve.png"):
        plot_curve(points, tmp_path / name, metric="accuracy", title="a task", currency="EUR")
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text() and "EUR" in drawn
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ConfigError):
        plot_curve([], tmp_path / "no.svg", metric="accuracy")
