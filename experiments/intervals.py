"""Intervals: how often each of ours holds the truth that it was drawn around, and how often tests find what is not
there.

    python experiments/intervals.py [--draws N] [--resamples N] [--only rate,mean,...]

Draws so many data sets of a known truth in each cell (shares of independent items: every outcome is enumerated
instead), asks the functions of `bloomery.evaluate.statistics` themselves, and prints the share whose 95% interval holds
the truth. What this does not know: data whose truth nobody knows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from common import RESULTS, keep
from scipy import stats

from bloomery.evaluate.statistics import (
    binary_difference,
    bootstrap_mean,
    kappa,
    mean,
    naive_clustered_error,
    paired_difference,
    prediction_powered_mean,
    rate,
    wilson,
)

Draw = Callable[[np.random.Generator], Mapping[str, tuple[float, ...]]]
LEVEL = 0.95


def rates() -> Iterator[tuple[str, dict[str, Any]]]:
    """Shares of independent items, without a draw: the mean over true shares, the worst, and how many are within
    1.5."""
    for n in (10, 20, 50, 100, 200, 400, 1000):
        for low in (0.05, 0.2):
            truths = np.linspace(low, 1 - low, 361)
            chances = stats.binom.pmf(np.arange(n + 1)[:, None], n, truths)
            ways = {
                "Wilson": [wilson(hits, n) for hits in range(n + 1)],
                "exact": [tuple(stats.binomtest(hits, n).proportion_ci()) for hits in range(n + 1)],
            }
            found = {}
            for way, ends in ways.items():
                held = np.array([(truths >= a - 1e-12) & (truths <= b + 1e-12) for a, b in ends])
                covered = (held * chances).sum(0)
                within = float((np.abs(covered - LEVEL) <= 0.015).mean())
                found[way] = {"mean": float(covered.mean()), "worst": float(covered.min()), "within": within}
            yield f"share from {low:g} to {1 - low:g}, n = {n}", found


def ends(interval: Any) -> tuple[float, float, bool]:
    """(low, high, whether it says itself that it may be too short)"""
    return interval.low, interval.high, bool(interval.caution)


def means(resamples: int) -> Iterator[tuple[str, float, Draw]]:
    """Independent items: even, skewed (lognormal), and scores from 0 to 1 with a heap at either end."""
    shapes: dict[str, tuple[float, Callable[[np.random.Generator, int], np.ndarray]]] = {
        "normal": (0.0, lambda rng, n: rng.normal(size=n)),
        "skewed": (float(np.exp(0.5)), lambda rng, n: rng.lognormal(size=n)),
        "F1-like": (0.55, _heaped),
    }
    for name, (truth, shape) in shapes.items():
        for n in (20, 50, 100, 400):

            def draw(rng: np.random.Generator, n: int = n, shape: Any = shape) -> dict[str, tuple[float, ...]]:
                values = shape(rng, n)
                boots = _boots(values, None, rng, resamples if n <= 100 else 0, heaps=shape is _heaped)
                return {"t": ends(mean(values)), **boots}

            yield f"{name}, n = {n}", truth, draw


def _heaped(rng: np.random.Generator, n: int) -> np.ndarray:
    kind = rng.random(n)
    return np.where(kind < 0.3, 0.0, np.where(kind < 0.7, 1.0, rng.random(n)))


def _boots(
    values: np.ndarray, clusters: Any, rng: np.random.Generator, resamples: int, *, heaps: bool = False
) -> dict[str, Any]:
    """With heaps a resample may have no spread, which a studentised bootstrap cannot do with."""
    if not resamples:
        return {}
    how: dict[str, Any] = {"clusters": clusters, "resamples": resamples, "seed": int(rng.integers(1 << 31))}
    names: dict[str, Any] = {"BCa": "bca"} | ({} if heaps else {"studentised": "studentised"})
    return {name: ends(bootstrap_mean(values, way=way, **how)) for name, way in names.items()}


def clustered(resamples: int) -> Iterator[tuple[str, float, Draw]]:
    """Items in groups that share .4 of their variance."""
    for groups, sizes in (
        (20, "of 5"),
        (10, "of 1 to 20"),
        (20, "of 1 to 20"),
        (50, "of 1 to 20"),
        (200, "of 1 to 20"),
    ):

        def draw(rng: np.random.Generator, groups: int = groups, sizes: str = sizes) -> dict[str, tuple[float, ...]]:
            size = np.full(groups, 5) if sizes == "of 5" else rng.integers(1, 21, groups)
            codes = np.repeat(np.arange(groups), size)
            values = np.sqrt(0.4) * rng.normal(size=groups)[codes] + np.sqrt(0.6) * rng.normal(size=len(codes))
            clusters, miller = codes.tolist(), 1.959964 * naive_clustered_error(values, codes.tolist())
            return {
                "without clusters": ends(mean(values)),
                "Miller": (values.mean() - miller, values.mean() + miller),
                "t": ends(mean(values, clusters=clusters)),
                **_boots(values, clusters, rng, resamples if groups <= 50 else 0),
            }

        yield f"{groups} clusters {sizes}", 0.0, draw


def clustered_rates(resamples: int) -> Iterator[tuple[str, float, Draw]]:
    """Right and wrong in groups whose own rate is drawn from a beta distribution (intraclass correlation .2)."""
    for groups in (20, 50):
        for truth in (0.5, 0.8, 0.95):

            def draw(rng: np.random.Generator, groups: int = groups, truth: float = truth) -> dict[str, Any]:
                codes = np.repeat(np.arange(groups), rng.integers(1, 21, groups))
                right = (rng.random(len(codes)) < rng.beta(4 * truth, 4 * (1 - truth), groups)[codes]).astype(float)
                clusters = codes.tolist()
                found = {"Wilson": ends(rate(right)), "t": ends(mean(right, clusters=clusters))}
                return {**found, "clustered Wilson": ends(rate(right, clusters=clusters))}

            yield f"{groups} clusters, rate {truth:g}", truth, draw


def paired(resamples: int) -> Iterator[tuple[str, float, Draw]]:
    """Right and wrong on the same items: the shares on which A alone and B alone is right."""
    for more, less in ((0.02, 0.02), (0.05, 0.05), (0.1, 0.04), (0.2, 0.1), (0.3, 0.05)):
        for n in (20, 50, 100, 400):

            def draw(rng: np.random.Generator, n: int = n, more: float = more, less: float = less) -> dict[str, Any]:
                kind = rng.random(n)
                a = ((kind < more) | (kind > 0.6)).astype(float)
                b = (((kind >= more) & (kind < more + less)) | (kind > 0.6)).astype(float)
                boots = (
                    {}
                    if n > 100
                    else {"BCa": ends(bootstrap_mean(a - b, resamples=resamples, seed=int(rng.integers(1 << 31))))}
                )
                return {"score": ends(binary_difference(a, b)), "t": ends(mean(a - b)), **boots}

            yield f"A alone {more:g}, B alone {less:g}, n = {n}", more - less, draw


def kappas(resamples: int) -> Iterator[tuple[str, float, Draw]]:
    """Two who know the truth with some chance and guess by its shares otherwise: kappa is the chance squared."""
    for shares in ((0.5, 0.5), (0.85, 0.15), (0.4, 0.3, 0.2, 0.1)):
        for truth in (0.2, 0.6, 0.85):
            for n in (30, 50, 100, 200, 400):

                def draw(rng: np.random.Generator, n: int = n, p: Any = shares, k: float = truth) -> dict[str, Any]:
                    one = rng.choice(len(p), n, p=p)
                    other = np.where(rng.random(n) < k, one, rng.choice(len(p), n, p=p))
                    said = one.tolist(), other.tolist()
                    ways: dict[str, Any] = {"posterior": "posterior", "analytic": "analytic"}
                    ways |= {"bootstrap": "bootstrap"} if (n, k) == (50, 0.85) else {}
                    found = {}
                    for name, way in ways.items():
                        one_kappa = kappa(
                            *said,
                            way=way,
                            resamples=min(resamples, 200) if way == "bootstrap" else resamples,
                            seed=int(rng.integers(1 << 31)),
                        )
                        low, high = one_kappa.low, one_kappa.high
                        found[name] = (np.nan, np.nan) if low is None or high is None else (low, high)
                    return found

                yield f"{len(shares)} values, most common {max(shares):g}, kappa {truth:g}, n = {n}", truth, draw


def powered(resamples: int) -> Iterator[tuple[str, float, Draw]]:
    """A judge that says what people say with some chance and else tosses a coin; 1,000 items have no label."""
    for chance in (0.0, 0.5, 0.9):
        for n in (20, 50, 100, 300):

            def draw(rng: np.random.Generator, n: int = n, chance: float = chance) -> dict[str, Any]:
                truth = (rng.random(n + 1000) < 0.7).astype(float)
                said = np.where(rng.random(n + 1000) < chance, truth, rng.random(n + 1000) < 0.5)
                given = truth[:n], said[:n], said[n:]
                tuned = prediction_powered_mean(*given).estimate
                return {"PPI++": ends(tuned), "PPI": ends(prediction_powered_mean(*given, trust=1.0).estimate)}

            yield f"judge right {0.5 + chance / 2:.0%}, {n} labels", 0.7, draw


def tests(resamples: int) -> Iterator[tuple[str, float, Draw]]:
    """Where A and B are equally good: 1 - the share of false findings, as if the p-value were an interval."""
    for name, groups in (("independent", 0), ("20 clusters of 1 to 20", 20)):
        for n in (50, 200):
            if groups and n > 50:
                continue

            def draw(rng: np.random.Generator, n: int = n, groups: int = groups) -> dict[str, Any]:
                codes = np.repeat(np.arange(groups), rng.integers(1, 21, groups)) if groups else np.arange(n)
                easy = rng.normal(size=codes.max() + 1)[codes]
                own = 0.5 * rng.normal(size=(2, codes.max() + 1))[:, codes]
                a, b = ((easy + own + rng.normal(size=(2, len(codes)))) > -0.5).astype(float)
                ways = ("t", "permutation") + (() if groups else ("mcnemar", "mcnemar mid-p"))
                clusters = codes.tolist() if groups else None
                ps = {
                    w: paired_difference(a, b, clusters=clusters, way="t", test=w, resamples=499).p_value for w in ways
                }
                return {w: (-1.0, 1.0) if p >= 0.05 else (1.0, 1.0) for w, p in ps.items()}

            yield f"{name}, n = {n}" if not groups else name, 0.0, draw


CELLS = {
    "mean": means,
    "clustered mean": clustered,
    "clustered rate": clustered_rates,
    "paired, right or wrong": paired,
    "kappa": kappas,
    "prediction-powered": powered,
    "tests": tests,
}


def cover(truth: float, draw: Draw, draws: int, seed: int) -> dict[str, dict[str, float]]:
    """By way: the share of draws whose interval holds the truth, and its mean length; undefined ones count as missed.
    Where some say that they may be too short: how many, and what the others cover."""
    rng = np.random.default_rng(seed)
    held: dict[str, list[bool]] = {}
    lengths: dict[str, list[float]] = {}
    warned: dict[str, list[bool]] = {}
    for _ in range(draws):
        for way, (low, high, *caution) in draw(rng).items():
            held.setdefault(way, []).append(bool(low - 1e-12 <= truth <= high + 1e-12))
            lengths.setdefault(way, []).append(high - low)
            warned.setdefault(way, []).append(any(caution))
    told = {}
    for way, found in held.items():
        told[way] = {"covered": float(np.mean(found)), "length": float(np.nanmean(lengths[way]))}
        if any(warned[way]):
            rest = [hit for hit, caution in zip(found, warned[way], strict=True) if not caution]
            told[way]["cautious"] = float(np.mean(warned[way]))
            told[way] |= {"others_covered": float(np.mean(rest))} if rest else {}
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=999)
    parser.add_argument("--only", default="", help="parts of it, by comma: rate, " + ", ".join(CELLS))
    asked = parser.parse_args()
    only = [one.strip() for one in asked.only.split(";" if ";" in asked.only else ",") if one.strip()]
    result: dict[str, Any] = {"draws": asked.draws, "resamples": asked.resamples, "level": LEVEL, "cells": {}}
    if not only or "rate" in only:
        result["rates"] = {}
        for name, found in rates():
            result["rates"][name] = found
            print(f"rate: {name}: " + "; ".join(f"{w} {_said(one)}" for w, one in found.items()), flush=True)
    error = 100 * (LEVEL * (1 - LEVEL) / asked.draws) ** 0.5
    print(f"{asked.draws:,} draws: a share of 95% is known to {error:.2f} points (one standard error)", flush=True)
    for part, cells in CELLS.items():
        if only and part not in only:
            continue
        for number, (name, truth, draw) in enumerate(cells(asked.resamples)):
            began = time.perf_counter()
            found = cover(truth, draw, asked.draws, seed=1000 + number)
            result["cells"].setdefault(part, {})[name] = found
            said = "  ".join(_way(way, one) for way, one in found.items())
            print(f"{part}: {name}: {said}   [{time.perf_counter() - began:.0f} s]", flush=True)
    if asked.draws == parser.get_default("draws") and asked.resamples == parser.get_default("resamples"):
        known = (
            json.loads((RESULTS / "intervals.json").read_text(encoding="utf-8")) if only else {}
        )  # the parts that were asked for, anew, beside the others
        result["cells"] = {**known.get("cells", {}), **result["cells"]}
        keep("intervals", {**known, **result})


def _way(way: str, one: Mapping[str, float]) -> str:
    text = f"{way} {100 * one['covered']:.1f}"
    if "cautious" not in one:
        return text
    rest = f", the others {100 * one['others_covered']:.1f}" if "others_covered" in one else ""
    return f"{text} ({one['cautious']:.0%} cautious{rest})"


def _said(one: Mapping[str, float]) -> str:
    return f"{100 * one['mean']:.1f} (worst {100 * one['worst']:.1f}, {one['within']:.0%} within 1.5)"


if __name__ == "__main__":
    main()
