"""Recommending terminals to card holders: matrix factorisation against popularity, on a later week.

    python experiments/recommend_terminals.py

Who paid where until 9 July 2018 is known; which terminals, new to them, card holders use in the week from 10 July on is
to be found. Sizes and confidence are chosen on the week before, from what was known until then. Intervals resample card
holders, in pairs.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import numpy as np
from common import keep, paired_bootstrap, shown
from labels_quality import TEST_DAY, WEEK, transactions
from scipy import sparse

from bloomery.adapt.classic.recommend import (
    FactorConfig,
    best_items,
    fit_factors,
    ndcg_at,
    popularity,
    recall_at,
)
from bloomery.adapt.classic.transactions import DAY

GRID = {"factors": (16, 64), "confidence": (1.0, 10.0)}
K = (10, 50)


def counts_before(every: Any, day: np.ndarray, end: int, shape: tuple[int, int]) -> Any:
    """(U, I) how often each card was used at each terminal before a day."""
    rows = np.flatnonzero(day < end)
    ones = np.ones(len(rows))
    return sparse.csr_matrix((ones, (every.customer[rows], every.terminal[rows])), shape=shape)


def wanted_in(every: Any, day: np.ndarray, start: int, known: Any) -> dict[int, np.ndarray]:
    """For each card the terminals of that week that it had not been used at."""
    rows = np.flatnonzero((day >= start) & (day < start + WEEK))
    found = {}
    for card in np.unique(every.customer[rows]):
        used = np.unique(every.terminal[rows[every.customer[rows] == card]])
        new = np.setdiff1d(used, known[card].indices)
        if len(new) and known[card].nnz:
            found[int(card)] = new
    return found


def figures(scores: Any, known: Any, wanted: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Of each card: recall and nDCG among the best K."""
    told: dict[str, list[float]] = {f"{name}@{k}": [] for name in ("recall", "ndcg") for k in K}
    for card, new in wanted.items():
        best = best_items(scores(card), max(K), without=known[card].indices)
        for k in K:
            told[f"recall@{k}"].append(recall_at(best[:k], new))
            told[f"ndcg@{k}"].append(ndcg_at(best, new, k))
    return {name: np.array(values) for name, values in told.items()}


def factored(counts: Any, config: FactorConfig) -> Any:
    fitted = fit_factors(counts, config)
    return lambda card: fitted.scores([card])[0]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    every = transactions()
    day = every.seconds // DAY - 4  # 1 June 2018 was a Friday
    shape = (int(every.customer.max()) + 1, int(every.terminal.max()) + 1)
    before = counts_before(every, day, TEST_DAY - WEEK, shape)
    dev = wanted_in(every, day, TEST_DAY - WEEK, before)
    tried = []
    for values in itertools.product(*GRID.values()):
        settings = dict(zip(GRID, values, strict=True))
        began = time.perf_counter()
        found = figures(factored(before, FactorConfig(**settings)), before, dev)
        tried.append({"settings": settings, "ndcg@10": float(found["ndcg@10"].mean())})
        print(f"dev: {settings}: nDCG@10 {tried[-1]['ndcg@10']:.4f} ({time.perf_counter() - began:.0f} s)", flush=True)
    best = max(tried, key=lambda one: one["ndcg@10"])
    known = counts_before(every, day, TEST_DAY, shape)
    wanted = wanted_in(every, day, TEST_DAY, known)
    popular = popularity(known)
    rng = np.random.default_rng(0)
    arms = {
        "matrix factorisation": figures(factored(known, FactorConfig(**best["settings"])), known, wanted),
        "popularity": figures(lambda card: popular, known, wanted),
        "chance": figures(lambda card: rng.random(shape[1]), known, wanted),
    }
    told = {
        arm: {name: paired_bootstrap(one, resamples=2000) for name, one in found.items()} for arm, found in arms.items()
    }
    ours, theirs = arms["matrix factorisation"], arms["popularity"]
    above = {name: paired_bootstrap(ours[name] - theirs[name], resamples=2000) for name in ours}
    for arm, found in told.items():
        print(arm, *(f"{name} {shown(one, '.4f')}" for name, one in found.items()), sep="\n  ", flush=True)
    sizes = {"cards": len(wanted), "terminals": int((popular > 0).sum()), "payments": int(known.sum())}
    keep("recommend_terminals", {"arms": told, "over_popularity": above, "chosen": best, "tried": tried, **sizes})


if __name__ == "__main__":
    main()
