"""Tuned models against a classic one, label by label: LoRA, all weights, and small nets from nothing, on four tasks.

    python experiments/labels_tuned.py --home FOLDER [--tasks sst2,rt,sms,fraud] [--arms ...] [--seeds N] [--jobs N]
                                       [--device cuda]
    python experiments/labels_tuned.py --home FOLDER --publish

The tasks, tests and nested subsets of labels are those of `labels_quality.py`. Nothing is chosen on labels that are
not counted: rates and lengths of training are fixed beforehand, and all labels of a subset are learnt. Payments are
read as text with the columns that need no label of others. What is done is kept in the home: a run that was stopped
goes on, and `--publish` tells what is there. Intervals are paired, over the test's texts, or its cards.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, keep, kept_path, machine, paired_bootstrap, run_arms, shown
from labels_quality import NAMES, fraud_of, texts_of

from bloomery.adapt.classic import ClassicConfig, fit_classic
from bloomery.adapt.classic.label_curve import CurvePoint, curve_sizes, nested, plot_curve, summarised
from bloomery.adapt.classic.ranking import average_precision, precision_above
from bloomery.evaluate.sample import Sample

METHODS = ("lora", "full")
NETWORKS = ("mean", "conv")
LEAST = {"fraud": 1000}
STEPS = 4
"""Sizes of each curve."""
CONTEXT = {"fraud": 192}
LEAST_UPDATES = 150
EPOCHS, NETWORK_EPOCHS = 3, 10
RESAMPLES = 300


@lru_cache(maxsize=1)
def task_of(task: str) -> tuple[list[Sample], list[Sample], tuple[str, ...]]:
    """Train, test, and the columns of a task that has some."""
    if task != "fraud":
        return *texts_of(task), ()
    train, test, free, *_ = fraud_of()
    return [_worded(one, free) for one in train], [_worded(one, free) for one in test], free


def _worded(sample: Sample, columns: Sequence[str]) -> Sample:
    """A payment as text, with these columns alone."""
    told = ", ".join(f"{name.replace('_', ' ')} {float(sample.metadata[name]):.4g}" for name in columns)
    return replace(sample, input=told)


def sizes_of(task: str, train: Sequence[Sample]) -> tuple[int, ...]:
    return curve_sizes(len(train), least=LEAST.get(task, 50), steps=STEPS)


def measured(home: str, task: str, arm: str, labels: int, seed: int, device: str) -> dict[str, Any]:
    """An arm with so many labels: whether each text of the test is told right, or how likely each payment is a fraud
    (log odds)."""
    train, test, columns = task_of(task)
    samples = nested(train, seed)[:labels]
    began = time.perf_counter()
    if arm == "logistic":
        chosen = "average_precision" if columns else "log_loss"
        config = ClassicConfig(kind="logistic", columns=columns, trials=4, folds=3, seed=seed, measure=chosen)
        model = fit_classic(samples, config)
        seconds, names = time.perf_counter() - began, model.labels
        chances = model.probabilities(test)
    else:
        made = _network(home, samples, arm, task, seed, device) if arm in NETWORKS else None
        made = made or _tuned(home, samples, arm, task, seed, device)
        seconds, names = made.training.seconds, made.labels
        chances = made.probabilities(test, rows=256, device=device)
    told: dict[str, Any] = {"task": task, "arm": arm, "labels": labels, "seed": seed, "seconds": seconds}
    told |= {"machine": machine()}
    if task == "fraud":
        chance = np.clip(chances[:, names.index("fraud")], 1e-9, 1 - 1e-9)
        told["scores"] = [round(float(one), 5) for one in np.log(chance / (1 - chance))]
        told["figure"] = average_precision([one.targets[0] == "fraud" for one in test], told["scores"])
    else:
        said = np.array(names)[chances.argmax(1)]
        told["hits"] = "".join("01"[one.targets[0] == label] for one, label in zip(test, said, strict=True))
        told["figure"] = told["hits"].count("1") / len(test)
    print(f"{task}: {arm}, {labels:,} labels, seed {seed}: {told['figure']:.4f} ({seconds:.0f} s)", flush=True)
    return told


def _updates(count: int, rows: int, epochs: int) -> int:
    return max(LEAST_UPDATES, math.ceil(count * epochs / rows))


def _rows(task: str) -> int:
    return 64 if task == "fraud" else 16


def _tuned(home: str, samples: Sequence[Sample], arm: str, task: str, seed: int, device: str) -> Any:
    from bloomery.adapt.tuning.answerer import tune
    from bloomery.adapt.tuning.config import AdaptConfig, TuningFitConfig

    base, method = arm.rsplit(" ", 1)
    steps = _updates(len(samples), _rows(task), EPOCHS)
    fit = TuningFitConfig(
        steps=steps, epochs=0.0, batch_rows=_rows(task), seed=seed, device=device, keep_best=False, validations=0
    )
    config = AdaptConfig(
        method=method,  # type: ignore[arg-type]
        context_length=CONTEXT.get(task, 128),
        fit=fit,
        validation_fraction=0.0,
        samples=0,
    )
    folder = Path(home) / "bases" / base
    return tune(folder, samples, [], labels=samples[0].choices, config=config, workspace=_workspace(home, samples))


def _network(home: str, samples: Sequence[Sample], arm: str, task: str, seed: int, device: str) -> Any:
    from bloomery.adapt.tuning.config import TuningFitConfig
    from bloomery.adapt.tuning.network import NetworkConfig, train_network
    from bloomery.training.building import NetConfig

    steps = _updates(len(samples), _rows(task), NETWORK_EPOCHS)
    fit = TuningFitConfig(
        steps=steps,
        epochs=0.0,
        batch_rows=_rows(task),
        seed=seed,
        device=device,
        learning_rate=1e-3,
        weight_decay=0.01,
        keep_best=False,
        validations=0,
    )
    config = NetworkConfig(net=NetConfig(family=arm, dropout=0.5), fit=fit, context_length=CONTEXT.get(task, 128))
    vocabulary = sorted((Path(home) / "bases").iterdir())[-1]
    return train_network(
        vocabulary, samples, labels=samples[0].choices, config=config, workspace=_workspace(home, samples)
    )


def _workspace(home: str, samples: Sequence[Sample]) -> Any:
    """One for each process: nothing waits for another's locks."""
    import os

    from bloomery.core.workspace import Workspace

    return Workspace(Path(home) / f"work-{os.getpid()}")


def planned(args: argparse.Namespace) -> list[tuple[Any, ...]]:
    """All arms, in the order in which they are best done: short ones first."""
    arms = []
    for task in args.tasks.split(","):
        train, _, _ = task_of(task)
        for labels in sizes_of(task, train):
            for arm in args.arms.split(","):
                arms += [(args.home, task, arm, labels, seed, args.device) for seed in range(args.seeds)]
    return sorted(arms, key=lambda one: (one[2] != "logistic", one[1] == "fraud"))


def beside(home: str, task: str, arm: str, labels: int, ours: list[Any], theirs: list[Any]) -> dict[str, Any]:
    """What an arm's figure is above logistic regression's with the same labels, means over seeds; the test's texts or
    cards are resampled."""
    _, test, _ = task_of(task)
    if task != "fraud":
        mean = [np.mean([[int(c) for c in one] for one in part], axis=0) for part in (ours, theirs)]
        return {"arm": arm, "labels": labels, **paired_bootstrap(mean[0] - mean[1])}
    truth = [one.targets[0] == "fraud" for one in test]
    cards = [one.cluster for one in test]
    found = precision_above(truth, ours, theirs, clusters=cards, resamples=RESAMPLES).to_dict()
    return {"arm": arm, "labels": labels, "mean": found.pop("value"), **found}


def published(args: argparse.Namespace) -> dict[str, Any]:
    """All that is kept in the home, as tables and pictures."""
    found: dict[str, list[dict[str, Any]]] = {}
    for arm in planned(args):
        path = kept_path(measured, {}, arm)
        if path.is_file():
            one = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(one["task"], []).append(one)
    tasks, machines = {}, set()
    for task, rows in found.items():
        train, test, _ = task_of(task)
        metric = "average_precision" if task == "fraud" else "accuracy"
        points = [
            CurvePoint(
                arm=one["arm"],
                labels=one["labels"],
                seed=one["seed"],
                figures={metric: one["figure"]},
                seconds=one["seconds"],
            )
            for one in rows
        ]
        machines |= {one["machine"] for one in rows}
        kept = {
            (arm, labels): [one.get("hits") or one["scores"] for one in rows if _is(one, arm, labels)]
            for arm in args.arms.split(",")
            for labels in sizes_of(task, train)
        }
        pairs = [
            (args.home, task, arm, labels, ours, kept["logistic", labels])
            for (arm, labels), ours in kept.items()
            if arm != "logistic" and ours and len(ours) == len(kept["logistic", labels])
        ]
        plot_curve(points, RESULTS / f"labels_tuned_{task}.svg", metric=metric, title=NAMES[task])
        tasks[NAMES[task]] = {
            "metric": metric,
            "train": len(train),
            "test": len(test),
            "cards": len({one.cluster for one in test}) if task == "fraud" else None,
            "frauds": sum(one.targets[0] == "fraud" for one in test) if task == "fraud" else None,
            "sizes": sizes_of(task, train),
            "curve": summarised(points, metric),
            "over_logistic": [beside(*pair) for pair in pairs],
        }
        for one in tasks[NAMES[task]]["over_logistic"]:
            print(f"{task}: {one['arm']}, {one['labels']:,} labels: over logistic {shown(one, '+.4f')}", flush=True)
    told = {"tasks": tasks, "arms": args.arms.split(","), "seeds": args.seeds, "about": args.about}
    return {**told, "machine": "; ".join(sorted(machines))}


def _is(one: Mapping[str, Any], arm: str, labels: int) -> bool:
    return one["arm"] == arm and one["labels"] == labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", required=True, help="where what is done is kept, with bases/NAME of each base")
    parser.add_argument("--tasks", default="sst2,rt,sms,fraud")
    parser.add_argument("--arms", default="logistic,minilm lora,minilm full,decoder lora,decoder full,mean,conv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--about", default="", help="what the bases are, for the reader")
    parser.add_argument("--publish", action="store_true", help="only what is kept already")
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    if not args.publish:
        run_arms(measured, planned(args), jobs=args.jobs, settings={})
    keep("labels_tuned", published(args))


if __name__ == "__main__":
    main()
