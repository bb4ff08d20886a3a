"""Plans against what happened: ten recipes that the calibration has not seen, on three corpora.

    python benchmarks/bench_planner.py [--home DIR] [--minutes 1] [--calibration-minutes 5] [--only stories] [--again]
                                       [--keep]

For each corpus the scaling law is calibrated once (`bloomery plan --calibrate`), then each recipe is planned, trained
and scored as any run is: other sizes, lengths and seeds than those of the ladder. As each ends it prints predicted and
actual time, what a step took, what the time was made of, and bits per byte, and whether they are within 10% and within
5%; then the medians. A run of minutes keeps its time by taking more or fewer steps than were planned (the length of its
decay is settled as it begins, and halfway), so that its time is near the plan's whatever the plan was worth: what the
plan knew shows in the time of a step, planned against taken, counted beside. It takes half an hour on two cores.
The machine should be quiet: a plan knows nothing of what others will start. With --keep the figures of the whole bench,
as it is by default, go into docs/results.md. Stopped, it goes on: what has finished in `--home` is not done again,
unless --again, which trains anew but keeps the calibrations; the recipe that was stopped is trained anew, for its time
cannot be compared. On a slow machine --context-length 64 --batch-rows 4 tries it out.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bloomery.core.artifact import Artifact
from bloomery.core.progress import ProgressView
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import Tokenizer, TokenizerConfig, tokenize, train_tokenizer
from bloomery.training import PretrainConfig, pretrain
from bloomery.training.planning.calibration import CalibrationConfig, calibrate
from bloomery.training.planning.scores import SCORED
from bloomery.training.pretrain_config import plan_request

DATA = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
SOURCES = {
    "stories": (str(DATA / "tinystories" / "tinystories_lower_4MB.txt.xz"), 2048),
    "python": ("python-docs", 4096),
    "plays": (str(DATA / "text" / "tinyshakespeare.txt.xz"), 1024),
}
# (corpus, minutes as a share of --minutes, layers, hidden size; zeros leave the shape to the planner)
RECIPES = (
    ("stories", 1.0, 0, 0),
    ("stories", 0.6, 3, 128),
    ("stories", 1.5, 2, 256),
    ("stories", 1.0, 4, 192),
    ("python", 1.0, 0, 0),
    ("python", 1.4, 2, 256),
    ("python", 0.8, 4, 128),
    ("plays", 1.0, 0, 0),
    ("plays", 0.7, 1, 192),
    ("plays", 1.3, 3, 256),
)
TIME_BAR, BITS_BAR = 0.10, 0.05
KEPT_AS_THEY_ARE = ("calibration_minutes", "context_length", "batch_rows", "only")
"""Options that --keep wants as they are by default."""


class Material:
    """A corpus with its tokens, calibrated."""

    def __init__(self, name: str, workspace: Workspace, minutes: float, base: PretrainConfig) -> None:
        source, vocabulary = SOURCES[name]
        self.base = base
        config = CurateConfig(sources=(source,))
        self.workspace = workspace
        self.corpus = curate(config.sources, config=config, workspace=workspace)
        self.tokenizer = train_tokenizer(
            self.corpus, config=TokenizerConfig(vocab_size=vocabulary), workspace=workspace
        )
        self.tokens = tokenize(self.corpus, self.tokenizer, workspace=workspace)
        request = plan_request(base, self.tokens, Tokenizer.load(self.tokenizer.path))
        how = CalibrationConfig(minutes=minutes)
        self.law = calibrate(self.tokens, self.tokenizer, request, config=how, workspace=workspace)

    def train(self, minutes: float, layers: int, hidden: int, *, again: bool) -> Artifact:
        """One recipe, with a seed that no rung had."""
        config = replace(self.base, minutes=minutes, num_hidden_layers=layers, hidden_size=hidden, seed=1)
        given = {"tokens": self.tokens, "config": config, "workspace": self.workspace}
        made = pretrain(self.corpus, self.tokenizer, fresh=again, **given)
        if made.metrics["plan_score"]["seconds"]["error"] is None:
            made = pretrain(self.corpus, self.tokenizer, fresh=True, **given)
        return made


def report(name: str, model: Artifact) -> dict[str, Any]:
    """Two lines; the figures."""
    plan, score = model.metrics["plan"], model.metrics["plan_score"]
    shape = f"{plan['model']['num_hidden_layers']} x {plan['model']['hidden_size']}"
    taken = model.metrics["steps"]  # of a run of minutes the decay is as long as there is time
    parts = [f"{name:8} {shape:>8} {plan['steps']:6,} steps, {taken:,} taken"]
    for key, unit, bar in (("seconds", "s", TIME_BAR), ("bits_per_byte", "bits per byte", BITS_BAR)):
        one = score[key]
        if one["error"] is None:
            parts.append(f"{unit}: unknown (the run was interrupted)" if key == "seconds" else f"{unit}: unknown")
            continue
        verdict = "within" if abs(one["error"]) <= bar else "NOT within"
        predicted, actual = one["predicted"]["central"], one["actual"]
        parts.append(f"{predicted:.4g} -> {actual:.4g} {unit} ({one['error']:+.1%}, {verdict} {bar:.0%})")
    print("  ".join(parts), flush=True)
    if of := score.get("components"):
        before, after = of["predicted"]["steps"] / plan["steps"], of["actual"]["steps"] / taken
        off = before / after - 1
        verdict = f"{'within' if abs(off) <= TIME_BAR else 'NOT within'} {TIME_BAR:.0%}"
        print(f"{'':8} a step {1e3 * before:.1f} -> {1e3 * after:.1f} ms ({off:+.1%}, {verdict})", end=", ")
        told = (f"{part} {of['predicted'][part]:.2f} -> {seconds:.2f}" for part, seconds in of["actual"].items())
        print(f"{', '.join(told)} s; planning {plan['planning_seconds']:.1f} s", flush=True)
    of = score.get("components", {"actual": {"steps": None}, "predicted": {"steps": None}})
    steps = {"planned": plan["steps"], "taken": taken, **{kind: one["steps"] for kind, one in of.items()}}
    return {"corpus": name, "shape": shape, "steps": steps, **{key: score[key] for key in SCORED}}


def step_error(steps: dict[str, Any]) -> float | None:
    """By how much the planned time of a step is above what one took; None where that is unknown."""
    if not steps["actual"]:
        return None
    return steps["predicted"] / steps["planned"] / (steps["actual"] / steps["taken"]) - 1


def summary(rows: list[dict[str, Any]]) -> None:
    """Medians, and how many are within the bars."""
    paces = [step_error(one["steps"]) for one in rows]
    seconds, bits, joules = ([one[key]["error"] for one in rows] for key in ("seconds", "bits_per_byte", "joules"))
    for key, values, bar in (
        ("a step's seconds, as planned", paces, TIME_BAR),
        ("seconds, which a run keeps to", seconds, TIME_BAR),
        ("bits per byte", bits, BITS_BAR),
        ("joules", joules, None),
    ):
        known = [abs(value) for value in values if value is not None]
        if known:
            within = "" if bar is None else f", {sum(value <= bar for value in known)} of {len(rows)} within {bar:.0%}"
            print(f"{key}: median error {statistics.median(known):.1%}, largest {max(known):.1%}{within}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", default=Path(tempfile.gettempdir()) / "bloomery-bench-planner")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--calibration-minutes", type=float, default=5.0)
    parser.add_argument("--context-length", type=int, default=256)
    parser.add_argument("--batch-rows", type=int, default=0, help="0 leaves it to the planner")
    parser.add_argument("--only", choices=sorted(SOURCES), default="")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--keep", action="store_true", help="among the results of the experiments")
    options = parser.parse_args()
    others = [name for name in KEPT_AS_THEY_ARE if getattr(options, name) != parser.get_default(name)]
    if options.keep and others:
        told = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        parser.error(f"--keep is of the whole bench as it is by default: not with {told}")
    began = time.perf_counter()
    workspace = Workspace(options.home, listeners=[ProgressView()])
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    base = PretrainConfig(context_length=options.context_length, batch_rows=options.batch_rows)
    found: dict[str, Material] = {}
    rows = []
    for name, share, layers, hidden in RECIPES:
        if options.only not in ("", name):
            continue
        if name not in found:
            found[name] = Material(name, workspace, options.calibration_minutes, base)
            law = found[name].law.metrics
            print(
                f"{name}: " + ", ".join(f"{key} {law[key]:.4g}" for key in ("E", "A", "alpha", "B", "beta")), flush=True
            )
        rows.append(report(name, found[name].train(share * options.minutes, layers, hidden, again=options.again)))
    summary(rows)
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes in all")
    if options.keep:
        how = {"minutes": options.minutes, "threads": torch.get_num_threads()}
        how["arguments"] = "" if options.minutes == parser.get_default("minutes") else f"--minutes {options.minutes:g}"
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
        importlib.import_module("common").keep("plans", {**how, "rows": rows})


if __name__ == "__main__":
    main()
