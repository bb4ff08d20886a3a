"""Labels and quality: what classic models are worth with few labels and many, on four tasks.

    python experiments/labels_quality.py [--tasks sst2,rt,sms,fraud] [--arms ...] [--seeds N] [--trials N] [--price X]
                                         [--model FOLDER [--epochs N] [--home FOLDER]]

Texts: SST-2 (its own dev set is the test), rt-polarity and SMS spam (three tenths held out, copies of a text on one
side). Fraud: a week of card payments to learn from, a week in which labels are not known yet, a week to be scored;
columns know nothing from later. Every arm has the same nested subsets of labels and the same test. With `--model` it
is tuned beside them, by LoRA and whole, on the same labels, a fifth of which chooses when to stop. What this does not
know: a price of labels that is not given.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
from common import RESULTS, data, keep, machine, over_seeds, paired_bootstrap, share_interval, shown

from bloomery.adapt.classic import ClassicConfig, fit_classic
from bloomery.adapt.classic.label_curve import CurvePoint, curve_sizes, label_curve, nested, plot_curve, summarised
from bloomery.adapt.classic.model import ClassicModel
from bloomery.adapt.classic.ranking import card_precision, ranked
from bloomery.adapt.classic.transactions import (
    DAY,
    HistoryConfig,
    Transactions,
    history,
    transaction_samples,
)
from bloomery.adapt.making import Making
from bloomery.evaluate.sample import Sample

NAMES = {"sst2": "SST-2", "rt": "rt-polarity", "sms": "SMS spam", "fraud": "card fraud"}
TEXT_ARMS = ("logistic", "bayes", "boosted", "clusters")
TUNED_ARMS = ("lora", "full")
FRAUD_ARMS = ("logistic", "boosted", "clusters", "anomaly")
HELD_OUT = 0.3
TRAIN_DAY, TEST_DAY, WEEK = 25, 39, 7
"""Days after 1 June 2018: learnt from 26 June on, scored from 10 July on, a week each, a week between."""


def texts_of(task: str) -> tuple[list[Sample], list[Sample]]:
    """Train and test, without copies of a text, or texts of the test in train."""
    if task == "sst2":
        parts = [_sst2("train.tsv.xz"), _sst2("dev.tsv")]
    else:
        rows = _rt() if task == "rt" else _sms()
        rng = random.Random(0)
        sides: dict[str, bool] = {}
        parts = [[], []]
        for text, label in rows:
            key = " ".join(text.casefold().split())
            if key not in sides:
                sides[key] = rng.random() < HELD_OUT
                parts[sides[key]].append((text, label))
    choices = tuple(sorted({label for part in parts for _, label in part}))
    tested = {" ".join(text.casefold().split()) for text, _ in parts[1]}
    made: list[list[Sample]] = []
    for side, part in zip(("train", "test"), parts, strict=True):
        kept = [one for one in part if side == "test" or " ".join(one[0].casefold().split()) not in tested]
        made.append(
            [
                Sample(id=f"{side}-{n}", input=text, targets=(label,), choices=choices)
                for n, (text, label) in enumerate(kept)
            ]
        )
    return made[0], made[1]


def _sst2(name: str) -> list[tuple[str, str]]:
    path = data("classify", "sst2", name)
    with lzma.open(path, "rt", encoding="utf-8") if name.endswith(".xz") else path.open(encoding="utf-8") as stream:
        rows = [row for row in csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE) if len(row) == 2]
    return [(text, "positive" if label == "1" else "negative") for text, label in rows if label in ("0", "1")]


def _rt() -> list[tuple[str, str]]:
    with lzma.open(data("classify", "rt-polarity.all.xz"), "rt", encoding="latin-1") as stream:
        rows = [line.strip().split(" ", 1) for line in stream if " " in line.strip()]
    return [(text, "positive" if label == "1" else "negative") for label, text in rows]


def _sms() -> list[tuple[str, str]]:
    with lzma.open(data("classify", "sms_spam.tsv.xz"), "rt", encoding="utf-8") as stream:
        return [(line.rstrip("\n").split("\t", 1)[1], line.split("\t", 1)[0]) for line in stream]


def transactions() -> Transactions:
    """All of the file, in order of time; seconds count from a Monday's midnight."""
    with lzma.open(data("classify", "fraud_transactions_2018-06-01_2018-07-17.csv.xz"), "rt") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: (row["TX_DATETIME"], int(row["TRANSACTION_ID"])))
    told = [datetime.fromisoformat(row["TX_DATETIME"]).replace(tzinfo=UTC) for row in rows]
    monday = datetime(2018, 5, 28, tzinfo=UTC)
    return Transactions(
        id=np.array([int(row["TRANSACTION_ID"]) for row in rows]),
        seconds=np.array([int((one - monday).total_seconds()) for one in told]),
        customer=np.array([int(row["CUSTOMER_ID"]) for row in rows]),
        terminal=np.array([int(row["TERMINAL_ID"]) for row in rows]),
        amount=np.array([float(row["TX_AMOUNT"]) for row in rows]),
        fraud=np.array([row["TX_FRAUD"] == "1" for row in rows]),
    )


def fraud_of() -> tuple[list[Sample], list[Sample], tuple[str, ...], tuple[str, ...], int, set[int]]:
    """Train, test, columns that need no label, those with the terminals' risk beside them, how many labels the risk
    has used, and the cards that were known before the test week."""
    every = transactions()
    columns = history(every, HistoryConfig())
    day = every.seconds // DAY - 4  # 1 June 2018 was a Friday
    train = np.flatnonzero((day >= TRAIN_DAY) & (day < TRAIN_DAY + WEEK))
    test = np.flatnonzero((day >= TEST_DAY) & (day < TEST_DAY + WEEK))
    # As the book does it: cards that were seen compromised while training, or until labels stop being known, are out.
    known = set(every.customer[(day >= TRAIN_DAY) & (day < TEST_DAY - WEEK) & every.fraud].tolist())
    test = test[~np.isin(every.customer[test], list(known))]
    free = tuple(name for name in columns if "risk" not in name)
    used = int((day < TEST_DAY + WEEK - HistoryConfig().delay_days).sum())
    samples = [transaction_samples(every, columns, rows) for rows in (train, test)]
    return samples[0], samples[1], free, tuple(columns), used, known


def text_task(task: str, args: argparse.Namespace, told: Callable[[CurvePoint], None]) -> dict[str, Any]:
    """Curves, and the best arm with all labels beside the others, text by text."""
    train, test = texts_of(task)
    gold = np.array([sample.targets[0] for sample in test])
    right: dict[str, np.ndarray] = {}

    def measured(arm: str) -> Callable[[Any], Mapping[str, float]]:
        def measure(model: ClassicModel | Tuned) -> Mapping[str, float]:
            hits = said(model, test) == gold
            if model.making.labels == len(train):
                right[arm] = right.get(arm, 0) + hits / args.seeds
            return {"accuracy": float(hits.mean())}

        return measure

    arms = [arm for arm in args.arms if arm in TEXT_ARMS] + (list(TUNED_ARMS) if args.model else [])
    points = _curves(arms, train, measured, (), args, "log_loss", told)
    most = max(np.mean(gold == label) for label in set(gold))
    return {**_told(points, "accuracy", train, test, args), "most_frequent": most, "over_logistic": _beside(right)}


class Tuned:
    """A language model tuned on the labels, with what that took."""

    def __init__(self, answerer: Any, seconds: float) -> None:
        self.answerer = answerer
        spent = answerer.training
        self.making = Making(labels=spent.labels, seconds=seconds, energy_joules=spent.energy_joules, fits=1)


def tuned(samples: Sequence[Sample], method: str, seed: int, args: argparse.Namespace) -> Tuned:
    """The model of `--model` by LoRA or whole; a fifth of the samples, drawn evenly, chooses the best weights."""
    from bloomery.adapt.tuning.answerer import tune
    from bloomery.adapt.tuning.config import AdaptConfig, TuningFitConfig
    from bloomery.core.workspace import Workspace

    held = nested(samples, seed)[: max(4, len(samples) // 5)]
    kept = {one.id for one in held}
    learnt = [one for one in samples if one.id not in kept]
    fit = TuningFitConfig(epochs=args.epochs, seed=seed, device="cpu")
    config = AdaptConfig(method=method, context_length=128, fit=fit)  # type: ignore[arg-type]
    began = time.perf_counter()
    made = tune(args.model, learnt, held, labels=samples[0].choices, config=config, workspace=Workspace(args.home))
    return Tuned(made, time.perf_counter() - began)


def said(model: ClassicModel | Tuned, test: Sequence[Sample]) -> np.ndarray:
    """(N,) the label that each text is given."""
    if isinstance(model, Tuned):
        return np.array([model.answerer.answer(one).text for one in test])
    return np.array(model.labels)[model.probabilities(test).argmax(1)]


def _beside(right: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """With all labels: the difference to the logistic arm, texts resampled."""
    base = right.get("logistic")
    if base is None:
        return {}
    return {arm: paired_bootstrap(hits - base) for arm, hits in right.items() if arm != "logistic"}


def _curves(
    arms: Sequence[str],
    train: Sequence[Sample],
    measured: Callable[[str], Callable[[Any], Mapping[str, float]]],
    columns: tuple[str, ...],
    args: argparse.Namespace,
    measure: Any,
    told: Callable[[CurvePoint], None],
) -> list[CurvePoint]:
    points: list[CurvePoint] = []
    for arm in arms:

        def make(samples: Sequence[Sample], seed: int, kind: Any = arm) -> ClassicModel | Tuned:
            if kind in TUNED_ARMS:
                return tuned(samples, kind, seed, args)
            config = ClassicConfig(
                kind=kind, columns=columns, trials=args.trials, folds=args.folds, seed=seed, measure=measure
            )
            return fit_classic(samples, config)

        sizes = curve_sizes(len(train), least=args.least if not columns else 1000, steps=args.steps)
        points += label_curve(
            arm,
            train,
            make,
            measured(arm),
            sizes=sizes,
            seeds=range(args.seeds),
            price_per_label=args.price,
            progress=told,
        )
    return points


def fraud_task(args: argparse.Namespace, told: Callable[[CurvePoint], None]) -> dict[str, Any]:
    """Curves over columns that need no label of others, and with all labels the terminals' risk beside them."""
    train, test, free, every, used, known = fraud_of()
    truth = np.array([sample.targets[0] == "fraud" for sample in test])
    days = np.array([sample.metadata["day"] for sample in test])
    cards = np.array([sample.metadata["card"] for sample in test])

    def figures(model: ClassicModel) -> Mapping[str, float]:
        scores = model.probabilities(test)[:, model.labels.index("fraud")]
        found = ranked(truth, scores, resamples=0)
        named = {name: one.value for name, one in found.items()}
        return {**named, "card_precision_100": float(card_precision(truth, scores, days, cards, k=100).mean())}

    arms = [arm for arm in args.arms if arm in FRAUD_ARMS]
    points = _curves(arms, train, lambda arm: figures, free, args, "average_precision", told)
    whole = {}
    for arm in arms:
        for name, columns, labels in (("behaviour", free, len(train)), ("with terminal risk", every, used)):
            config = ClassicConfig(
                kind=cast(Any, arm), columns=columns, trials=args.trials, folds=args.folds, measure="average_precision"
            )
            model = fit_classic(train, config)
            scores = model.probabilities(test)[:, model.labels.index("fraud")]
            found = ranked(truth, scores, clusters=cards.tolist(), resamples=args.resamples)
            daily = card_precision(truth, scores, days, cards, k=100)
            whole[f"{arm}, {name}"] = {
                **{metric: one.to_dict() for metric, one in found.items()},
                "card_precision_100": over_seeds(daily.tolist()),
                "labels": labels,
            }
            one = found["average_precision"]
            print(
                f"fraud: {arm}, {name}: average precision {one.value:.3f} ({one.low:.3f} to {one.high:.3f}), "
                f"ROC AUC {found['roc_auc'].value:.3f}, card precision@100 {daily.mean():.3f}",
                flush=True,
            )
    told_all = _told(points, "average_precision", train, test, args)
    share = {"frauds": int(truth.sum()), "frauds_in_train": sum(one.targets[0] == "fraud" for one in train)}
    return {**told_all, **share, "whole": whole, "blocked_cards": len(known)}


def _told(
    points: Sequence[CurvePoint], metric: str, train: Sequence[Sample], test: Sequence[Sample], args: argparse.Namespace
) -> dict[str, Any]:
    rows = summarised(points, metric)
    if metric == "accuracy":
        for row in rows:
            row["test_interval"] = share_interval(round(row["mean"] * len(test)), len(test))
    return {
        "metric": metric,
        "train": len(train),
        "test": len(test),
        "curve": rows,
        "points": [asdict(point) for point in points],
    }


def _measured_before(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Other tasks that were measured with the same settings: a run of one task keeps them."""
    path = RESULTS / "labels_quality.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not before or any(before.get(name) != value for name, value in settings.items()):
        return {}
    return {task: {"machine": before["machine"], **one} for task, one in before["tasks"].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="sst2,rt,sms,fraud")
    parser.add_argument("--arms", default=",".join(dict.fromkeys((*TEXT_ARMS, *FRAUD_ARMS))))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=4, help="settings tried for each arm, by cross-validation")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="sizes of each curve")
    parser.add_argument("--least", type=int, default=50, help="labels of the first")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--price", type=float, default=None, help="of a label")
    parser.add_argument("--currency", default="")
    parser.add_argument("--model", default="", help="a folder, artifact or hub id: tuned beside the classic arms")
    parser.add_argument("--epochs", type=float, default=3.0, help="of tuning")
    parser.add_argument("--home", default="", help="with --model: where tuned models are kept")
    args = parser.parse_args()
    args.arms = args.arms.split(",") if args.arms else []
    settings = {name: getattr(args, name) for name in ("seeds", "trials", "folds", "price", "currency")}
    tasks = _measured_before(settings)
    if args.model and not args.home:
        parser.error("--model needs --home FOLDER: tuned models are kept there, and not made twice")
    for task in args.tasks.split(","):
        began = time.perf_counter()

        def told(point: CurvePoint, task: str = task) -> None:
            metric = next(iter(point.figures))
            said = f"{task}: {point.arm}, {point.labels:,} labels, seed {point.seed}: {metric}"
            print(f"{said} {point.figures[metric]:.4f} ({point.seconds:.0f} s)", flush=True)

        found = fraud_task(args, told) if task == "fraud" else text_task(task, args, told)
        points = [CurvePoint(**point) for point in found.pop("points")]
        RESULTS.mkdir(exist_ok=True)
        plot_curve(
            points,
            RESULTS / f"labels_{task}.svg",
            metric=found["metric"],
            title=NAMES[task],
            currency=args.currency,
        )
        tasks[NAMES[task]] = {**found, "machine": machine()}
        for row in found["curve"]:
            low = {**row, "low": row["low"] or float("nan"), "high": row["high"] or float("nan")}
            print(f"{task}: {row['arm']}, {row['labels']:,} labels: {shown(low, '.4f')}", flush=True)
        print(f"{task}: {time.perf_counter() - began:.0f} s", flush=True)
        keep("labels_quality", {"tasks": tasks, **settings})


if __name__ == "__main__":
    main()
