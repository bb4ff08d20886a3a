"""Sweeps with hopeless trials stopped: how much energy that saves, and what it costs in bits per byte.

    python experiments/sweep_regret.py --record     # 24 full runs, kept in experiments/results/sweep_grid.json
    python experiments/sweep_regret.py              # replays the rule on them

The grid: six learning rates x two sizes x two batch sizes, each a run of equal tokens on TinyStories, to its end. The
replay goes through the runs in a drawn order, as a sweep would, and asks the rule of `bloomery.training.sweep` after
each point of a curve; a stopped run has cost the share of its joules that it had done. Regret: how far the best of the
runs that were let end is above the best of all, in bits per byte; both over many orders. What this does not know:
larger models, other data, and dials that no grid holds.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, data, keep, machine, scratch_home, write_jsonl

GRID = RESULTS / "sweep_grid.json"
RATES = (0.0625, 0.25, 0.5, 1.0, 2.0, 8.0)
SIZES = ((48, 2), (96, 2))
"""(width, depth)."""
BATCHES = (4, 12)
CONTEXT, TOKENS = 128, 184_320
"""Tokens of a row; tokens that every run reads."""


def corpus_and_tokens(home: str) -> tuple[Any, Any, Any]:
    """TinyStories as a corpus, a tokenizer of 512 ids, tokens."""
    import lzma

    from bloomery.corpus import CurateConfig, curate
    from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, tokenize, train_tokenizer

    stories = lzma.decompress(data("tinystories", "tinystories_cased_2MB.txt.xz").read_bytes()).decode()
    rows = ({"text": story.strip()} for story in stories.split("<|endoftext|>") if story.strip())
    path = write_jsonl(Path(home) / "stories.jsonl", rows)
    corpus = curate(config=CurateConfig(sources=(str(path),), validation_fraction=0.03), workspace=home)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=512), workspace=home)
    tokens = tokenize(corpus, tokenizer, config=TokenizeConfig(context_length=CONTEXT), workspace=home)
    return corpus, tokenizer, tokens


def record(home: str) -> None:
    """Every run of the grid to its end, one after another, one thread."""
    import torch

    from bloomery.core.workspace import Workspace
    from bloomery.training import PretrainConfig, pretrain

    torch.set_num_threads(1)
    made = corpus_and_tokens(home)
    runs = []
    for rate, (width, depth), batch in product(RATES, SIZES, BATCHES):
        curve: list[list[float]] = []

        def hear(event: Any, curve: list[list[float]] = curve) -> None:
            if event.kind == "curve":
                curve.append([event.data["step"], event.data["tokens"], event.data["loss"]])

        config = PretrainConfig(
            steps=TOKENS // CONTEXT // batch,
            hidden_size=width,
            num_hidden_layers=depth,
            context_length=CONTEXT,
            batch_rows=batch,
            learning_rate_scale=rate,
            precision="float32",
            compile="off",
            device="cpu",
            validations=0,
        )
        workspace, began = Workspace(home, listeners=[hear]), time.process_time()
        model = pretrain(
            made[0], made[1], tokens=made[2], config=config, workspace=workspace, fresh=True, preflight=False
        )
        spent = time.process_time() - began
        runs.append(
            {
                "dials": {"rate": rate, "width": width, "depth": depth, "batch": batch},
                "steps": config.steps,
                "curve": curve,
                "bits_per_byte": model.metrics["validation_bits_per_byte"],
                "joules": model.energy_joules.to_dict(),
                "processor_seconds": spent,
            }
        )
        print(f"{len(runs):2}: {runs[-1]['dials']} {runs[-1]['bits_per_byte']:.4f} in {spent:.1f} s", flush=True)
    GRID.write_text(json.dumps({"machine": machine(), "runs": runs}) + "\n", encoding="utf-8")


def curves(runs: list[dict[str, Any]]) -> list[Any]:
    """What a sweep would have heard of each run: mean losses between its points."""
    from bloomery.training.sweep.curve import Curve
    from bloomery.training.sweep.trial_process import PARTS

    made = []
    for run in runs:
        losses = [loss for _, _, loss in run["curve"]]
        steps = len(losses)
        edges = sorted({round(part * steps / PARTS) for part in range(PARTS + 1)})
        points = [(b / steps, float(np.mean(losses[a:b]))) for a, b in pairwise(edges)]
        made.append(Curve.of(points))
    return made


def replay(runs: list[dict[str, Any]], heard: list[Any], order: np.ndarray, config: Any) -> tuple[float, float, int]:
    """(share of the joules that was saved, regret, runs let end) of a sweep that goes through the runs in an order."""
    from bloomery.training.sweep.stopping import Ended, hopeless

    ended: list[Any] = []
    spent = 0.0
    for index in order:
        run, curve, share = runs[index], heard[index], 1.0
        for share in curve.shares:
            if hopeless(curve.until(share), ended, config):
                break
        else:
            ended.append(Ended(curve, run["bits_per_byte"]))
        spent += share * run["joules"]["central"]
    whole = sum(run["joules"]["central"] for run in runs)
    best = min(run["bits_per_byte"] for run in runs)
    return 1 - spent / whole, min(one.value for one in ended) / best - 1, len(ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--home", default="")
    parser.add_argument("--orders", type=int, default=100)
    given = parser.parse_args()
    if given.record:
        with scratch_home(given.home) as home:
            record(home)
    from bloomery.training.sweep import SweepConfig

    kept = json.loads(GRID.read_text(encoding="utf-8"))
    runs, config = kept["runs"], SweepConfig()
    heard, rng = curves(runs), np.random.default_rng(0)
    found = np.array([replay(runs, heard, rng.permutation(len(runs)), config) for _ in range(given.orders)])
    saved, regret, ended = found.T
    figures = [run["bits_per_byte"] for run in runs]
    print(f"{len(runs)} runs, {min(figures):.4f} to {max(figures):.4f} bits per byte; {given.orders} orders")
    for name, values in (("energy saved", saved), ("regret", regret)):
        low, high = np.percentile(values, [5, 95])
        print(f"{name}: median {np.median(values):.1%}, mean {values.mean():.1%}, 5% to 95% {low:.1%} to {high:.1%}")
    both = np.mean((saved >= 0.7) & (regret < 0.01))
    print(f"runs let end: {ended.mean():.1f}; at least 70% saved at a regret under 1%: {both:.0%} of orders")
    keep(
        "sweep_regret",
        {
            "runs": len(runs),
            "orders": given.orders,
            "best": min(figures),
            "worst": max(figures),
            "ended": float(ended.mean()),
            "saved": [float(value) for value in saved],
            "regret": [float(value) for value in regret],
            "recorded_on": kept["machine"],
        },
    )


if __name__ == "__main__":
    main()
