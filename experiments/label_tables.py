"""What labels are worth, as text: the parts of `docs/results.md` that `write_results.py` puts together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from common import shown


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def seeds_of(found: Mapping[str, Any]) -> str:
    """How many, in words."""
    return "one seed" if found["seeds"] == 1 else f"{found['seeds']} seeds"


def labels_quality(found: Mapping[str, Any]) -> str:
    """Classic models, and tuned ones where there were any, by labels."""
    parts = []
    for task, one in found["tasks"].items():
        sizes = sorted({row["labels"] for row in one["curve"]})
        by = {(row["arm"], row["labels"]): row for row in one["curve"]}
        rows = []
        for arm in dict.fromkeys(row["arm"] for row in one["curve"]):
            cells = [_with_ends(by[arm, size]) if (arm, size) in by else "" for size in sizes]
            beside = one.get("over_logistic", {}).get(arm)
            rows.append([arm, *cells, shown(beside, "+.3f") if beside else ""])
        metric = one["metric"].replace("_", " ")
        head = ["arm", *(f"{size:,} labels" for size in sizes), "over logistic, all labels (texts resampled)"]
        if "over_logistic" not in one:
            head, rows = head[:-1], [row[:-1] for row in rows]
        told = f"{task}: {metric} on {one['test']:,} held-out samples"
        if one.get("machine", found["machine"]) != found["machine"]:
            told += f" (measured on {one['machine']})"
        if "most_frequent" in one:
            told += f"; the most frequent label {one['most_frequent']:.3f}"
        parts.append(f"{told}.\n\n{table(head, rows)}{_whole(one)}")
    price = "No price of a label was given, so that labels are counted, not priced."
    if found["price"] is not None:
        price = f"A label costs {found['price']:g} {found['currency']}".strip() + "."
    return (
        f"Every arm has the same nested subsets of labels; {found['trials']} settings are tried by "
        f"{found['folds']}-fold cross-validation within them. Means over {seeds_of(found)} with Student's t: other "
        f"labels, other folds; with all labels only the folds differ. {price} Pictures: "
        "`experiments/results/labels_*.svg`.\n\n" + "\n\n".join(parts)
    )


def labels_tuned(found: Mapping[str, Any]) -> str:
    """LoRA, all weights and small nets beside logistic regression, by labels."""
    parts = []
    for task, one in found["tasks"].items():
        by = {(row["arm"], row["labels"]): row for row in one["curve"]}
        above = {(row["arm"], row["labels"]): row for row in one["over_logistic"]}
        absolute, beside = [], []
        for arm in found["arms"]:
            cells = [(arm, size) for size in one["sizes"]]
            absolute.append([arm, *(_tuned_cell(by.get(cell), found["seeds"]) for cell in cells)])
            if arm != "logistic":
                beside.append([arm, *(shown(above[c], "+.3f") if c in above else "not measured" for c in cells)])
        head = [*(f"{size:,} labels" for size in one["sizes"])]
        told = f"{task}: {one['metric'].replace('_', ' ')} on {one['test']:,} held-out samples"
        if one["cards"]:
            told += f" ({one['frauds']:,} frauds, {one['cards']:,} cards)"
        what = "cards" if one["cards"] else "texts"
        parts.append(
            f"{told}.\n\n{table(['arm', *head], absolute)}\n\nOver logistic regression with the same labels, {what} "
            f"resampled in pairs:\n\n{table(['arm', *head], beside)}"
        )
    return (
        f"{found['about']} lora and full tune a base with a new head; mean and conv are small nets from random "
        "weights, which borrow minilm's vocabulary. Nothing was chosen on a dev split: the package's usual learning "
        "rates, three epochs (nets: ten), at least 150 steps, all labels of a subset learnt. Payments are read as "
        "text. Labels are the same nested subsets for all arms; means over "
        f"{found['seeds']} seeds with Student's t. Differences resample the test alone: the seeds' spread is in the "
        "first tables. Pictures: `experiments/results/labels_tuned_*.svg`.\n\n" + "\n\n".join(parts)
    )


def _tuned_cell(row: Mapping[str, Any] | None, seeds: int) -> str:
    if row is None:
        return "not measured"
    short = f"; {row['seeds']} of {seeds} seeds" if 1 < row["seeds"] < seeds else ""
    return _with_ends(row) + short


def recommended(found: Mapping[str, Any]) -> str:
    """Terminals for card holders."""
    names = list(found["over_popularity"])
    rows = [[arm, *(shown(one[name], ".4f") for name in names)] for arm, one in found["arms"].items()]
    rows.append(["factorisation over popularity", *(shown(found["over_popularity"][n], "+.4f") for n in names)])
    chosen = ", ".join(f"{name} {value:g}" for name, value in found["chosen"]["settings"].items())
    return (
        f"{found['payments']:,} payments are known; for {found['cards']:,} cards the terminals that they use for the "
        f"first time in the week after are to be found among {found['terminals']:,}. Chosen on the week before, of "
        f"{len(found['tried'])} settings: {chosen}. Intervals resample cards.\n\n"
        + table(["arm", *(name.replace("ndcg", "nDCG") for name in names)], rows)
    )


def _with_ends(row: Mapping[str, Any]) -> str:
    low, high = (math.nan if row[end] is None else row[end] for end in ("low", "high"))
    return shown({"mean": row["mean"], "low": low, "high": high}, ".3f")


def _whole(one: Mapping[str, Any]) -> str:
    """Fraud, with all labels: more figures, with intervals over cards."""
    if "whole" not in one:
        return ""
    rows = []
    for arm, figures in one["whole"].items():
        cells = [
            f"{figures[name]['value']:.3f} ({figures[name]['low']:.3f} to {figures[name]['high']:.3f})"
            for name in ("average_precision", "roc_auc", "f1")
        ]
        rows.append([arm, f"{figures['labels']:,}", *cells, shown(figures["card_precision_100"], ".3f")])
    head = ["arm, columns", "labels used", "average precision", "ROC AUC", "F1", "card precision@100"]
    return (
        f"\n\n{one['frauds']:,} of the {one['test']:,} payments are frauds; learnt from a week with "
        f"{one['frauds_in_train']:,}. With all labels; intervals over cards, resampled, the last one Student's t over "
        "days. A terminal's risk is its share of frauds seven days ago and before: it uses the label of every payment "
        f"up to then.\n\n{table(head, rows)}"
    )
