"""Sweeps that stop hopeless trials: how much energy that saves, and what it costs in bits per byte.

    python experiments/sweep_regret.py --record stories  # 24 full runs, kept in experiments/results/
    python experiments/sweep_regret.py --record plays    # another 24: other text, other seed, half as long
    python experiments/sweep_regret.py                   # replays both ways of stopping on them

A grid: six learning rates x two sizes x two batch sizes, each a run of equal tokens to its end. Halving (`stop` of a
sweep) is replayed on the whole grid and on drawn subsets of it; its order is all the same. The other rule (hopeless)
goes through the runs in a drawn order, one after another. A run that was left has cost the share of its joules that it
had done. Regret: how far the best of the runs that were let end is above the best of all, in bits per byte. The rungs
of halving were chosen on stories; plays has been looked at only afterwards. What this does not know: larger models,
longer runs, and dials that no grid holds.
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

RATES = (0.0625, 0.25, 0.5, 1.0, 2.0, 8.0)
SIZES = ((48, 2), (96, 2))
"""(width, depth)."""
BATCHES = (4, 12)
CONTEXT = 128
GRIDS: dict[str, tuple[tuple[str, str], int, int]] = {
    "stories": (("tinystories", "tinystories_cased_2MB.txt.xz"), 184_320, 0),
    "plays": (("text", "tinyshakespeare.txt.xz"), 92_160, 1),
}
"""A grid's text, the tokens that every run reads, the seed."""
SUBSET = 16


def grid_path(name: str) -> Path:
    return RESULTS / f"sweep_grid_{name}.json"


def corpus_and_tokens(home: str, name: str) -> tuple[Any, Any, Any]:
    """A grid's text as a corpus, a tokenizer of 512 ids, tokens."""
    import lzma

    from bloomery.corpus import CurateConfig, curate
    from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, tokenize, train_tokenizer

    text = lzma.decompress(data(*GRIDS[name][0]).read_bytes()).decode()
    pieces = (text[n : n + 1500] for n in range(0, len(text), 1500))
    parts = text.split("<|endoftext|>") if name == "stories" else pieces
    path = write_jsonl(Path(home) / f"{name}.jsonl", ({"text": part.strip()} for part in parts if part.strip()))
    corpus = curate(config=CurateConfig(sources=(str(path),), validation_fraction=0.03), workspace=home)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=512), workspace=home)
    tokens = tokenize(corpus, tokenizer, config=TokenizeConfig(context_length=CONTEXT), workspace=home)
    return corpus, tokenizer, tokens


def record(home: str, name: str) -> None:
    """Every run of the grid to its end, one after another, one thread."""
    import torch

    from bloomery.core.workspace import Workspace
    from bloomery.training import PretrainConfig, pretrain

    torch.set_num_threads(1)
    made = corpus_and_tokens(home, name)
    _, total, seed = GRIDS[name]
    runs = []
    for rate, (width, depth), batch in product(RATES, SIZES, BATCHES):
        curve: list[list[float]] = []

        def hear(event: Any, curve: list[list[float]] = curve) -> None:
            if event.kind == "curve":
                curve.append([event.data["step"], event.data["tokens"], event.data["loss"]])

        config = PretrainConfig(
            steps=total // CONTEXT // batch,
            hidden_size=width,
            num_hidden_layers=depth,
            context_length=CONTEXT,
            batch_rows=batch,
            learning_rate_scale=rate,
            precision="float32",
            compile="off",
            device="cpu",
            validations=0,
            seed=seed,
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
    grid_path(name).write_text(json.dumps({"machine": machine(), "runs": runs}) + "\n", encoding="utf-8")


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


def halve(runs: list[dict[str, Any]], heard: list[Any]) -> tuple[float, float, int]:
    """The same of a sweep that halves."""
    from bloomery.training.sweep.halving import RUNGS, let_on

    joules = [run["joules"]["central"] for run in runs]
    alive, reached, spent = list(range(len(runs))), dict.fromkeys(range(len(runs)), 0.0), 0.0
    for rung, (share, _) in enumerate(RUNGS):
        # A trial is left at its first point that is not before the rung.
        left = {n: float(next(x for x in heard[n].shares if x >= share - 1e-9)) for n in alive}
        spent += sum(joules[n] * (left[n] - reached[n]) for n in alive)
        reached = left
        alive = let_on({n: heard[n].until(left[n]) for n in alive}, rung, len(runs))
    spent += sum(joules[n] * (1 - reached[n]) for n in alive)
    best = min(run["bits_per_byte"] for run in runs)
    return 1 - spent / sum(joules), min(runs[n]["bits_per_byte"] for n in alive) / best - 1, len(alive)


def replayed(name: str, orders: int) -> dict[str, Any]:
    """All figures of a grid."""
    from bloomery.training.sweep import SweepConfig

    kept = json.loads(grid_path(name).read_text(encoding="utf-8"))
    runs, rng = kept["runs"], np.random.default_rng(0)
    heard, config = curves(runs), SweepConfig(stop="hopeless")
    subsets = [rng.choice(len(runs), SUBSET, replace=False) for _ in range(10 * orders)]
    drawn = [halve([runs[n] for n in subset], [heard[n] for n in subset]) for subset in subsets]
    one_by_one = [replay(runs, heard, rng.permutation(len(runs)), config) for _ in range(orders)]
    figures = [run["bits_per_byte"] for run in runs]
    return {
        "runs": len(runs),
        "best": min(figures),
        "worst": max(figures),
        "most_processor_seconds": max(run["processor_seconds"] for run in runs),
        "recorded_on": kept["machine"],
        "halving": dict(zip(("saved", "regret", "ended"), halve(runs, heard), strict=True)),
        "subsets": {"saved": [s for s, _, _ in drawn], "regret": [r for _, r, _ in drawn]},
        "hopeless": {"saved": [s for s, _, _ in one_by_one], "regret": [r for _, r, _ in one_by_one]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--record", choices=sorted(GRIDS), default="")
    parser.add_argument("--home", default="")
    parser.add_argument("--orders", type=int, default=50)
    given = parser.parse_args()
    if given.record:
        with scratch_home(given.home) as home:
            return record(home, given.record)
    found = {name: replayed(name, given.orders) for name in GRIDS if grid_path(name).is_file()}
    for name, one in found.items():
        print(f"{name}: {one['runs']} runs, {one['best']:.4f} to {one['worst']:.4f} bits per byte")
        whole = one["halving"]
        print(f"  halving: {whole['saved']:.1%} of the energy saved at a regret of {whole['regret']:.2%}")
        for way in ("subsets", "hopeless"):
            saved, regret = np.array(one[way]["saved"]), np.array(one[way]["regret"])
            met = np.mean((saved >= 0.7) & (regret < 0.01))
            print(
                f"  {way}: median {np.median(saved):.1%} saved, regret mean {regret.mean():.2%}, 95% of draws under "
                f"{np.percentile(regret, 95):.2%}; at least 70% at under 1%: {met:.0%}"
            )
    keep("sweep_regret", {"orders": given.orders, "subset": SUBSET, "grids": found})


if __name__ == "__main__":
    main()
