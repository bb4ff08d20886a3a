"""Sweeps that stop hopeless trials: how much energy that saves, and what it costs in bits per byte.

    python experiments/sweep_regret.py --record stories   # 24 full runs, kept in experiments/results/
    python experiments/sweep_regret.py --record plays     # another 24: other text, other seed, half as long
    python experiments/sweep_regret.py --record articles  # and 24, five times as long: a third text, a third seed
    python experiments/sweep_regret.py                    # replays both ways of stopping on them

A grid: six learning rates x two sizes x two batch sizes, each a run of equal tokens to its end. Halving (`stop` of a
sweep) is replayed on the whole grid and on drawn subsets of it; its order is all the same. The other rule (hopeless)
goes through the runs in a drawn order, one after another. A run that was left has cost the share of its joules that it
had done. Regret: how far the best of the runs that were let end is above the best of all, in bits per byte. The rungs
of halving were chosen on stories; plays and articles have been looked at only afterwards.

A sweep starts a process for each trial, and again for each that goes on, which no run's joules hold. Such starts are
timed here, as a sweep makes them, up to where a run's own joules begin; the saving is told with them, too, at the
joules for a second of a processor that the recorded runs took. What this does not know: what a run that goes on does
once more (it reads its checkpoint, builds its model), larger models, longer runs, and dials that no grid holds.
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
    "articles": (("text", "wikitext2_train_part.txt.xz"), 921_600, 2),
}
"""A grid's text, the tokens that every run reads, the seed."""
POINTS = 400
"""Of a run's curve at most, that are kept: means of the losses between them. A multiple of what a sweep hears."""
SUBSET = 16
STARTS = 9
"""Of processes, that are timed after the first."""
RECIPE = """
[curate]
sources = [{source}]
validation_fraction = 0.03
[tokenizer]
vocab_size = 512
[tokenize]
context_length = {context}
[pretrain]
steps = 60
hidden_size = 48
num_hidden_layers = 2
context_length = {context}
batch_rows = 4
precision = "float32"
compile = "off"
device = "cpu"
validations = 0
"""


def grid_path(name: str) -> Path:
    return RESULTS / f"sweep_grid_{name}.json"


def documents(home: str, name: str) -> Path:
    """A grid's text as JSON lines."""
    import lzma

    text = lzma.decompress(data(*GRIDS[name][0]).read_bytes()).decode()
    pieces = (text[n : n + 1500] for n in range(0, len(text), 1500))
    parts = text.split("<|endoftext|>") if name == "stories" else pieces
    return write_jsonl(Path(home) / f"{name}.jsonl", ({"text": part.strip()} for part in parts if part.strip()))


def corpus_and_tokens(home: str, name: str) -> tuple[Any, Any, Any]:
    """A grid's text as a corpus, a tokenizer of 512 ids, tokens."""
    from bloomery.corpus import CurateConfig, curate
    from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, tokenize, train_tokenizer

    corpus = curate(
        config=CurateConfig(sources=(str(documents(home, name)),), validation_fraction=0.03), workspace=home
    )
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=512), workspace=home)
    tokens = tokenize(corpus, tokenizer, config=TokenizeConfig(context_length=CONTEXT), workspace=home)
    return corpus, tokenizer, tokens


def thinned(curve: list[list[float]]) -> list[list[float]]:
    """A curve of (step, tokens, loss) as at most POINTS of them, each the mean loss since the one before."""
    edges = sorted({round(part * len(curve) / POINTS) for part in range(POINTS + 1)})
    spans = [curve[a:b] for a, b in pairwise(edges)]
    return [[*span[-1][:2], round(float(np.mean([loss for *_, loss in span])), 6)] for span in spans]


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
                "curve": thinned(curve),
                "bits_per_byte": model.metrics["validation_bits_per_byte"],
                "joules": model.energy_joules.to_dict(),
                "processor_seconds": spent,
            }
        )
        print(f"{len(runs):2}: {runs[-1]['dials']} {runs[-1]['bits_per_byte']:.4f} in {spent:.1f} s", flush=True)
    grid_path(name).write_text(json.dumps({"machine": machine(), "runs": runs}) + "\n", encoding="utf-8")


def processor_seconds() -> float:
    """Of all processes that this one has begun, and of those that they have."""
    import psutil

    return sum(sum(child.cpu_times()[:4]) for child in psutil.Process().children(recursive=True))


def start_seconds(home: str) -> dict[str, Any]:
    """Seconds from a trial's process being asked for to its run's beginning, by the clock and of processors: of the
    first, for which all that trials need is imported, and of those after it."""
    from bloomery.cli.chain import execute
    from bloomery.cli.options import read_recipe
    from bloomery.cli.sweep import Trial
    from bloomery.core.workspace import Workspace
    from bloomery.training.sweep.trial_process import TrialProcess

    root, recipe = Path(home) / "starts", Path(home) / "starts.toml"
    source = json.dumps(str(documents(home, "stories")))
    recipe.write_text(RECIPE.format(source=source, context=CONTEXT), encoding="utf-8")
    execute(read_recipe(recipe, None), Workspace(root), until="tokenize")
    (root / "sweeps").mkdir()
    work, clock, spent = Trial(recipe=recipe, overrides=(), root=root), [], []
    for _ in range(1 + STARTS):
        began, before = time.perf_counter(), processor_seconds()
        process = TrialProcess(work, {"pretrain.learning_rate_scale": 1.0}, root)
        while (message := process.message())[0] not in ("stopped", "failed"):
            if message[0] == "run":
                clock.append(time.perf_counter() - began)
                spent.append(processor_seconds() - before)
            elif message[0] == "point":
                process.answer("timed")
        process.join()
        if message != ("stopped", "timed"):
            raise SystemExit(f"error: a trial did not start: {message}")
    told = zip(("seconds", "processor_seconds"), (clock, spent), strict=True)
    return {name: {"first": found[0], "later": found[1:]} for name, found in told}


def curves(runs: list[dict[str, Any]]) -> list[Any]:
    """What a sweep would have heard of each run: mean losses between its points."""
    from bloomery.training.sweep.curve import Curve
    from bloomery.training.sweep.trial_process import PARTS

    made = []
    for run in runs:
        ends, losses = [step for step, _, _ in run["curve"]], [loss for _, _, loss in run["curve"]]
        steps, points = np.diff([0, *ends]), len(losses)  # of each point of the curve
        edges = sorted({round(part * points / PARTS) for part in range(PARTS + 1)})
        heard = [(b / points, float(np.average(losses[a:b], weights=steps[a:b]))) for a, b in pairwise(edges)]
        made.append(Curve.of(heard))
    return made


def with_starts(runs: list[dict[str, Any]], saved: float, starts: int, timed: dict[str, Any]) -> float:
    """The share of the joules that was saved, with those of so many starts of processes on this side, and one for each
    run on the other."""
    whole = sum(run["joules"]["central"] for run in runs)
    watts = whole / sum(run["processor_seconds"] for run in runs)
    first, later = (watts * float(np.median(timed["processor_seconds"][key])) for key in ("first", "later"))
    paid, full = (first + (number - 1) * later for number in (starts, len(runs)))
    return 1 - ((1 - saved) * whole + paid) / (whole + full)


def replay(
    runs: list[dict[str, Any]], heard: list[Any], order: np.ndarray, config: Any
) -> tuple[float, float, int, int]:
    """(share of the joules that was saved, regret, runs let end, starts of processes) of a sweep that goes through the
    runs in an order."""
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
    return 1 - spent / whole, min(one.value for one in ended) / best - 1, len(ended), len(runs)


def halve(runs: list[dict[str, Any]], heard: list[Any]) -> tuple[float, float, int, int]:
    """The same of a sweep that halves."""
    from bloomery.training.sweep.halving import RUNGS, let_on

    joules = [run["joules"]["central"] for run in runs]
    alive, reached, spent = list(range(len(runs))), dict.fromkeys(range(len(runs)), 0.0), 0.0
    starts = len(alive)
    for rung, (share, _) in enumerate(RUNGS):
        # A trial is left at its first point that is not before the rung.
        left = {n: float(next(x for x in heard[n].shares if x >= share - 1e-9)) for n in alive}
        spent += sum(joules[n] * (left[n] - reached[n]) for n in alive)
        reached = left
        alive = let_on({n: heard[n].until(left[n]) for n in alive}, rung, len(runs))
        starts += len(alive)
    spent += sum(joules[n] * (1 - reached[n]) for n in alive)
    best = min(run["bits_per_byte"] for run in runs)
    return 1 - spent / sum(joules), min(runs[n]["bits_per_byte"] for n in alive) / best - 1, len(alive), starts


def replayed(name: str, orders: int, timed: dict[str, Any]) -> dict[str, Any]:
    """All figures of a grid; `timed` are starts of processes."""
    from bloomery.training.sweep import SweepConfig

    kept = json.loads(grid_path(name).read_text(encoding="utf-8"))
    runs, rng = kept["runs"], np.random.default_rng(0)
    heard, config = curves(runs), SweepConfig(stop="hopeless")
    subsets = [rng.choice(len(runs), SUBSET, replace=False) for _ in range(10 * orders)]
    whole, drawn = halve(runs, heard), [halve([runs[n] for n in some], [heard[n] for n in some]) for some in subsets]
    one_by_one = [replay(runs, heard, rng.permutation(len(runs)), config) for _ in range(orders)]
    figures = [run["bits_per_byte"] for run in runs]
    return {
        "runs": len(runs),
        "best": min(figures),
        "worst": max(figures),
        "most_processor_seconds": max(run["processor_seconds"] for run in runs),
        "recorded_on": kept["machine"],
        "halving": {
            **dict(zip(("saved", "regret", "ended", "starts"), whole, strict=True)),
            "saved_with_starts": with_starts(runs, whole[0], whole[3], timed),
        },
        "subsets": {
            "saved": [one[0] for one in drawn],
            "regret": [one[1] for one in drawn],
            "starts": [one[3] for one in drawn],
            "saved_with_starts": [
                with_starts([runs[n] for n in some], one[0], one[3], timed)
                for some, one in zip(subsets, drawn, strict=True)
            ],
        },
        "hopeless": {
            "saved": [one[0] for one in one_by_one],
            "regret": [one[1] for one in one_by_one],
            "saved_with_starts": [with_starts(runs, one[0], one[3], timed) for one in one_by_one],
        },
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
    with scratch_home(given.home) as home:
        timed = start_seconds(home)
    for name, one in timed.items():
        print(f"{name.replace('_', ' ')} to start a trial: {np.median(one['later']):.3f}, the first {one['first']:.1f}")
    found = {name: replayed(name, given.orders, timed) for name in GRIDS if grid_path(name).is_file()}
    for name, one in found.items():
        print(f"{name}: {one['runs']} runs, {one['best']:.4f} to {one['worst']:.4f} bits per byte")
        whole = one["halving"]
        print(
            f"  halving: {whole['saved']:.1%} of the energy saved at a regret of {whole['regret']:.2%}; with "
            f"{whole['starts']} starts of processes {whole['saved_with_starts']:.1%}"
        )
        for way in ("subsets", "hopeless"):
            saved, regret = np.array(one[way]["saved"]), np.array(one[way]["regret"])
            met = np.mean((saved >= 0.7) & (regret < 0.01))
            print(
                f"  {way}: median {np.median(saved):.1%} saved, {np.median(one[way]['saved_with_starts']):.1%} with "
                f"starts, regret mean {regret.mean():.2%}, 95% of draws under "
                f"{np.percentile(regret, 95):.2%}; at least 70% at under 1%: {met:.0%}"
            )
    keep("sweep_regret", {"orders": given.orders, "subset": SUBSET, "starts": timed, "grids": found})


if __name__ == "__main__":
    main()
