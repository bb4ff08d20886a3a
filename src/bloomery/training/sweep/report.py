"""SweepReport: what came of each trial, what it cost, and what stopping saved.

The cost of all trials to their ends is an estimate: what a stopped one's training used, divided by the share of its
steps that it had done, and what it used once beside that. This module does not know how trials are run.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field
from typing import Any

from bloomery.core.config import parse_scalar
from bloomery.core.quantity import Quantity
from bloomery.training.sweep.cost import NOTHING
from bloomery.training.sweep.dials import override


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial: `state` is finished, stopped or failed; `share` of its steps that were done; `note` says why. Of its
    `joules` its training used `train_joules`, and what is not training `fixed_joules` in its first run (see `cost`)."""

    number: int
    values: dict[str, Any]
    state: str
    value: float | None
    share: float
    seconds: float
    joules: Quantity
    train_joules: Quantity = field(default_factory=Quantity.unknown)
    fixed_joules: Quantity = field(default_factory=Quantity.unknown)
    artifact: str = ""
    runs: tuple[str, ...] = ()
    note: str = ""

    @property
    def full_joules(self) -> Quantity:
        """What it would have used in one run to its end. Where it is not known what was training, what it did use:
        rather too little. A failed one counts as it is: it would fail again."""
        whole = self.train_joules + self.fixed_joules
        if self.state == "failed" or not whole.known or not self.share:
            return self.joules
        if self.state == "finished":  # in several runs, what is not training was paid more than once
            return whole if len(self.runs) > 1 else self.joules
        return _estimated(self.train_joules.scaled(1 / self.share) + self.fixed_joules)


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """All trials; `metric` is the figure, of which less is better."""

    metric: str
    rows: tuple[TrialRow, ...]

    @property
    def best(self) -> TrialRow | None:
        """The finished trial with the lowest figure."""
        done = [row for row in self.rows if row.state == "finished" and row.value is not None]
        return min(done, key=lambda row: (row.value, row.number)) if done else None

    @property
    def joules(self) -> Quantity:
        """Of all trials, those that failed and those that were stopped included."""
        return sum((row.joules for row in self.rows), NOTHING)

    @property
    def full_joules(self) -> Quantity:
        """What all of them would have used to their ends: an estimate where any was stopped."""
        return sum((row.full_joules for row in self.rows), NOTHING)

    @property
    def saved(self) -> float | None:
        """The share of `full_joules` that was not used; None where joules are unknown."""
        used, full = self.joules.central, self.full_joules.central
        return 1 - used / full if used is not None and full else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        best = self.best
        return {
            "metric": self.metric,
            "best": None if best is None else {"number": best.number, "values": best.values, "value": best.value},
            "joules": self.joules.to_dict(),
            "full_joules": self.full_joules.to_dict(),
            "saved": self.saved,
            "trials": [{**asdict(row), "runs": list(row.runs)} for row in self.rows],
        }


def table(report: SweepReport) -> list[str]:
    """Lines for people, best first."""
    keys = list(dict.fromkeys(key for row in report.rows for key in row.values))
    short = {key: key.rpartition(".")[2] for key in keys}
    order = {"finished": 0, "stopped": 1, "failed": 2}
    rows = sorted(report.rows, key=lambda row: (order[row.state], row.value or 0.0, -row.share, row.number))
    cells = [["trial", *(short[key] for key in keys), report.metric.replace("_", " "), "state", "steps", "energy", ""]]
    for row in rows:
        figure = "" if row.value is None else f"{row.value:.4f}"
        values = [_shown(row.values.get(key)) for key in keys]
        energy, why = row.joules.text("J").split(" (")[0], row.note if row.state == "failed" else ""
        cells.append([str(row.number), *values, figure, row.state, f"{row.share:.0%}", energy, why])
    widths = [max(len(line[n]) for line in cells) for n in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return [*lines, *_summary(report)]


def _summary(report: SweepReport) -> list[str]:
    counts = {state: sum(row.state == state for row in report.rows) for state in ("finished", "stopped", "failed")}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines = [f"{len(report.rows)} trials: {told}; energy {_energy(report)}"]
    if report.saved is not None and counts["stopped"]:
        full = report.full_joules.text("J")
        lines.append(f"all of them to their ends: about {full}; saved {report.saved:.0%}")
    best = report.best
    if best is not None:
        chosen = " ".join(f"--set {_setting(key, value)}" for key, value in best.values.items())
        lines.append(
            f"best: trial {best.number}, {report.metric.replace('_', ' ')} {best.value:.4f}, {best.artifact}: {chosen}"
        )
    return lines


def _energy(report: SweepReport) -> str:
    """Of all; where that of some is unknown, of the others, and of how many."""
    known = [row.joules for row in report.rows if row.joules.known]
    if not known or len(known) == len(report.rows):
        return report.joules.text("J")
    return f"unknown of {len(report.rows) - len(known)}, of the others {sum(known, NOTHING).text('J')}"


def _estimated(quantity: Quantity) -> Quantity:
    if not quantity.known:
        return quantity
    return Quantity(low=quantity.low, central=quantity.central, high=quantity.high, method="estimated")


def _setting(key: str, value: Any) -> str:
    """Of `--set`, as a shell takes it, with every digit: it makes what the trial made."""
    plain = f"{key}={value:g}" if isinstance(value, float) and float(f"{value:g}") == value else override(key, value)
    return shlex.quote(f"{key}={value}" if isinstance(value, str) and parse_scalar(value) == value else plain)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
