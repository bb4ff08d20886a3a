"""Tables of training and tuning for docs/results.md: rewards, domains, the parts of a faster decoder, sweeps.

This module does not know which results there are (see `write_results`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from common import shown
from label_tables import table


def reinforced(found: Mapping[str, Any]) -> str:
    """Reinforced sums."""
    rows = [
        [arm, *(shown(one[name], ".2f") for name in ("before", "after")), shown(one["gain"], "+.2f")]
        for arm, one in found["table"].items()
    ]
    text = table(["arm", "right and in brackets, before", "after", "gain"], rows)
    gap = max(one.get("engine_gap_max_nats", 0.0) for one in found["arms"])
    return (
        f"Greedy answers to sums that were never rewarded; {found['steps']} steps of {found['rows']} answers, "
        f"{found['group']} for each sum. The settings are the fifth configuration that was tried, chosen by looking at "
        f"seed 0's scored sums. The engine's log-probabilities were within {gap:.1g} nats of the trainer's."
        f"\n\n{text}"
    )


def replay(found: Mapping[str, Any]) -> str:
    """Domain and replay."""
    kinds = list(next(iter(found["table"].values())))
    rows = [
        [f"{float(share):.0%}", *(shown(one[kind]["difference"], "+.3f") for kind in kinds)]
        for share, one in found["table"].items()
    ]
    before = next(iter(found["table"].values()))
    text = table(["stories read again", *kinds], rows)
    said = ", ".join(f"{kind} {before[kind]['before']['mean']:.3f}" for kind in kinds)
    return (
        f"Change of bits per byte of {found['documents']} held-out documents of each kind after {found['passes']:.2f} "
        "passes over 235 web pages (in-domain); out-of-domain are stories, which the model was made of; the others are "
        f"controls. Before: {said}. Below zero is better; over seeds.\n\n{text}"
    )


def ablation(found: Mapping[str, Any]) -> str:
    """Parts of a faster decoder."""
    base = found["table"]["base"]
    rows = [
        [
            name,
            shown(one["bits_per_byte"], ".4f"),
            shown(one["less_base"], "+.4f") if name != "base" else "",
            f"{one['steps']:,}",
            *([f"{one['step_cost']:.2f}"] if found["by"] != "steps" else []),
            f"{one['parameters'] / 1e6:.2f}",
        ]
        for name, one in sorted(found["table"].items(), key=lambda pair: pair[1]["bits_per_byte"]["mean"])
    ]
    timed = found["by"] != "steps"
    same = "the same processor time" if timed else "as many steps"
    if timed and "seconds" in found:
        same += f" ({found['seconds']:g} s)"
    seeds = f"{found['seeds']} seeds" if found["seeds"] > 2 else f"{found['seeds']} seed(s), which is few"
    cost = " A step's cost is processor time over the base's." if timed else " What a step costs is not said."
    return (
        f"TinyStories, {base['parameters'] / 1e6:.1f}M parameters, vocabulary {found['vocabulary']:,}, {found['rows']} "
        f"rows of {found['context']} tokens a step, {same} for every arm; {seeds}. "
        f"Below the base is better.{cost}\n\n"
        + table(
            ["arm", "bits per byte", "less the base's", "steps", *(["a step's cost"] if timed else []), "M parameters"],
            rows,
        )
    )


def unknown_text(found: Mapping[str, Any]) -> str:
    """How far the planner's law is off on corpora that it was not fitted on."""
    rows = []
    for one in found["corpora"]:
        name = one["name"]
        runs = [point[2] for point in one["points"]]
        cells = [f"{one['bytes'] / 1e6:.1f} MB", f"{len(runs)}", f"{min(runs):.3f}"]
        for kind in ("in_use", "held_out"):
            off = 1 / (1 + np.array(found[kind][name])) - 1
            cells.append(f"{off.mean():+.1%} ({off.min():+.1%} to {off.max():+.1%})")
        rows.append([name, *cells])
    head = ["corpus", "text", "runs", "least bits per byte", "the law in use", "a law of the other four"]
    return (
        "Ladders of runs of two sizes or more (`bloomery plan --calibrate`, five minutes each) beside what two laws "
        "expect that know nothing of their corpus (the one in use knows other runs on the documentation of Python): "
        "by how much the runs came out above; the mean, the least and the most.\n\n" + table(head, rows)
    )


def sweeps(found: Mapping[str, Any]) -> str:
    """What stopping hopeless trials saves and costs."""
    rows = []
    for name, grid in found["grids"].items():
        whole = grid["halving"]
        told = f"{name}, halving, all {grid['runs']}"
        with_starts = f"{whole['saved_with_starts']:.1%}"
        rows.append([told, f"{whole['saved']:.1%}", with_starts, f"{whole['regret']:.2%}", "", ""])
        for way, told in (("subsets", f"halving, {found['subset']} drawn"), ("hopeless", "one after another")):
            saved, regret = np.array(grid[way]["saved"]), np.array(grid[way]["regret"])
            met = np.mean((saved >= 0.7) & (regret < 0.01))
            figures = [
                f"{np.median(saved):.1%}",
                f"{np.median(grid[way]['saved_with_starts']):.1%}",
                f"{regret.mean():.2%}",
                f"{np.percentile(regret, 95):.2%}",
                f"{met:.0%}",
            ]
            rows.append([f"{name}, {told}", *figures])
    spans = "; ".join(
        f"{n}: {g['best']:.3f} to {g['worst']:.3f}, {g['most_processor_seconds']:.0f} s"
        for n, g in found["grids"].items()
    )
    timed, columns = (
        found["starts"]["processor_seconds"],
        ["energy saved (median)", "with starts (median)", "regret (mean)"],
    )
    return (
        "Full runs of a grid (six learning rates, two widths, two batches; equal tokens) were recorded, and sweeps "
        "that stop hopeless trials were replayed on them. Bits per byte, best to worst run, and what the longest took: "
        f"{spans}. The rungs of halving were chosen on stories. With starts: each trial's process, and that of each "
        f"that goes on, takes {np.median(timed['later']):.2f} s of a processor ({min(timed['later']):.2f} to "
        f"{max(timed['later']):.2f}; the first {timed['first']:.1f} s) until its run begins, at the joules for a "
        "second of the recorded runs; all to their ends have one each.\n\n"
        + table(["", *columns, "regret, 95% of draws under", "70% at under 1%"], rows)
    )


def trainer(found: Mapping[str, Any]) -> str:
    """Ours and transformers' Trainer, after the same time."""
    rows = []
    for name, one in found["sides"].items():
        speeds = one["tokens_per_second"]
        rows.append(
            [
                name,
                f"{one['parameters'] / 1e6:.1f}",
                f"{one['flops'] / 1e6:.0f}",
                f"{np.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})",
                ", ".join(f"{each[name]:.4f}" for each in found["reached"]),
            ]
        )
    ratios, kind = found["ratios"], "`--fast`: a decoder of its own parts" if found["fast"] else "the same Llama"
    how = [f"{found['threads']} thread(s)"] if "threads" in found else []
    how += ["processor time"] if found.get("clock") == "processor" else []
    fair = "The Trainer's learning rate is its users' usual one and was not tuned."
    if found["fast"]:
        fair += (
            " The parts of the faster decoder were chosen on this validation text; it takes fewer operations a token."
        )
    if not found.get("norm", True):
        fair += " Some figures are from before bloomery's step had the gradients' norm here, which its loop computes."
    return (
        "TinyStories, vocabulary 4,096, batches of 16 x 256 tokens, float32 on both sides"
        f"{''.join(f', {one}' for one in how)}; the Trainer has a Llama and AdamW (1e-3, cosine, gradients clipped at "
        f"1), bloomery {kind}, with its own optimisers and schedule. Each trains for as many steps as fit into "
        f"{found['seconds']:g} s by the median of its steps that were timed before, both sides in turn; the time that "
        f"the trainings then took is not compared. Tokens per second: {np.median(ratios):.2f} times the Trainer's "
        f"({min(ratios):.2f} to "
        f"{max(ratios):.2f}, {len(ratios)} turns). Bits per byte on all of the validation text: "
        f"{shown(found['less'], '.4f')} fewer. {fair}\n\n"
        + table(
            ["", "M parameters", "million operations a token", "tokens per second", "bits per byte, by seed"],
            rows,
        )
    )


def plans(found: Mapping[str, Any]) -> str:
    """What was planned and what came of it."""
    rows, paces = [], []
    for one in found["rows"]:
        steps, cells = one["steps"], []
        for key, form in (("seconds", ".1f"), ("bits_per_byte", ".3f"), ("joules", ".0f")):
            score = one[key]
            cells.append("unknown")
            if score["error"] is not None:
                predicted, actual = (format(x, form) for x in (score["predicted"]["central"], score["actual"]))
                cells[-1] = f"{predicted}, {actual} ({score['error']:+.1%})"
        pace = "unknown"
        if steps["actual"]:
            paces.append(steps["predicted"] / steps["planned"] / (steps["actual"] / steps["taken"]) - 1)
            pace = f"{paces[-1]:+.1%}"
        rows.append([one["corpus"], one["shape"], f"{steps['planned']:,}, {steps['taken']:,}", pace, *cells])
    known = {
        key: [one[key]["error"] for one in found["rows"] if one[key]["error"] is not None]
        for key in ("seconds", "bits_per_byte")
    }
    met = [
        f"{sum(abs(error) <= bar for error in errors)} of {len(rows)} within {bar:.0%} in {name}"
        for errors, bar, name in (
            (paces, 0.1, "a step's time"),
            (known["seconds"], 0.1, "the time of the run, which it keeps to"),
            (known["bits_per_byte"], 0.05, "bits per byte"),
        )
    ]
    return (
        f"Recipes that the calibrations (five minutes for each corpus) have not seen, about {found['minutes']:g} "
        "minute(s) each: planned, happened, and by how much the plan was above. A run of minutes keeps to them, with "
        "more or fewer steps than planned: the length of its decay is settled as it begins and halfway. Its time is no "
        f"test of the plan; what a step takes was planned before, and is one. {'; '.join(met)}.\n\n"
        + table(["corpus", "layers x width", "steps", "a step's time", "seconds", "bits per byte", "joules"], rows)
    )
