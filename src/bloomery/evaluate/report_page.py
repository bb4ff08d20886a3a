"""Report page: a report as one HTML file, and as tables in a terminal.

The file fetches nothing and runs nothing: no script, no font, no picture; intervals are drawn as SVG, samples are
filtered by the style sheet alone. Every text is escaped, what would reorder or hide text in it is made visible, and a
policy in the file forbids the rest. This module does not know where reports come from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from bloomery.core.artifact import write_durably
from bloomery.core.printable import printable
from bloomery.core.quantity import Quantity
from bloomery.evaluate.report import EvaluationReport, ReportSample
from bloomery.evaluate.statistics import Interval

MAX_SAMPLES, MAX_CHARACTERS, MAX_FILTERED = 2000, 20_000, 24
"""Samples on a page, characters of each text, and arms that have filters of their own; the page says what is left
out."""
_WIDTH, _LEFT, _ROW = 640, 200, 26


def write_html(report: EvaluationReport, path: str | Path) -> Path:
    """One file, there whole or not at all."""
    target = Path(path)
    write_durably(target, render(report).encode("utf-8", "replace"))
    return target


def render(report: EvaluationReport) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["clean"] = clean
    environment.filters["shown"] = shown
    environment.filters["words"] = words
    source = resources.files("bloomery.evaluate").joinpath("report.html.jinja").read_text(encoding="utf-8")
    kept = report.samples[:MAX_SAMPLES]
    arms = [arm.name for arm in report.arms]
    scorers = list(dict.fromkeys(name for arm in report.arms for name in arm.scores))
    return environment.from_string(source).render(
        report=report,
        arms=arms,
        filtered=arms[:MAX_FILTERED],
        scorers=scorers,
        costs=list(dict.fromkeys(name for arm in report.arms for name in arm.costs)),
        charts={name: chart([(a.name, a.scores[name]) for a in report.arms if name in a.scores]) for name in scorers},
        differences=chart([(f"{v.a} − {v.b}", v.difference.difference) for v in report.verdicts], zero=True),
        samples=[(sample, classes(sample, arms, report.main)) for sample in kept],
        left_out=len(report.samples) - len(kept),
        counts=_counts(report, arms),
        title=str(report.task.get("name", "evaluation")),
        most=MAX_CHARACTERS,
    )


def clean(text: Any) -> str:
    """A text of anybody's for a page: cut, and without characters that do not print (they would hide or reorder it)."""
    found = str(text)
    cut = printable(found[:MAX_CHARACTERS], keep="\n\t\u200d", instead="\ufffd")
    more = len(found) - MAX_CHARACTERS
    return f"{cut}\n[{more:,} characters more]" if more > 0 else cut


def shown(value: Any) -> str:
    """A cost or a detail in words: unknown is said, never zero."""
    if value is None:
        return "unknown"
    if isinstance(value, Mapping) and set(value) == {"low", "central", "high", "method"}:
        return Quantity.from_dict(value).text("").replace(" ,", ",").strip()
    if isinstance(value, (bool, str)):
        return str(value)
    if isinstance(value, (int, float)):
        return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return words(value)


def words(value: Any) -> str:
    """Plain data as text to read."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def classes(sample: ReportSample, arms: Sequence[str], main: str) -> str:
    """What the filters go by: r0 (the first arm is right) or w0, and all-right, all-wrong or differ."""
    right = {
        place: sample.answers[arm].values.get(main, 0.0) >= 1 for place, arm in enumerate(arms) if arm in sample.answers
    }
    whole = "all-right" if all(right.values()) else "differ" if any(right.values()) else "all-wrong"
    each = [f"{'r' if one else 'w'}{place}" for place, one in right.items()]
    return " ".join([whole, *each, *(["contaminated"] if sample.contaminated else [])])


def _counts(report: EvaluationReport, arms: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for sample in report.samples[:MAX_SAMPLES]:
        for one in classes(sample, arms, report.main).split():
            found[one] = found.get(one, 0) + 1
    return found


def chart(rows: Sequence[tuple[str, Interval]], *, zero: bool = False) -> dict[str, Any] | None:
    """Places of points and whiskers in an SVG of `width` and `height`; None for no rows. From 0 to 1 where all lie in
    it, else as wide as they need."""
    if not rows:
        return None
    lows, highs = [one.low for _, one in rows], [one.high for _, one in rows]
    low, high = min(lows), max(highs)
    if zero:
        reach = max(abs(low), abs(high), 1e-9) * 1.1
        low, high = -reach, reach
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    span = (high - low) or 1.0

    def across(value: float) -> float:
        return round(_LEFT + (value - low) / span * (_WIDTH - _LEFT - 20), 1)

    step = 10 ** math.floor(math.log10(span / 2)) if span > 0 else 1.0
    step = next((step * times for times in (1, 2, 5) if span / (step * times) <= 6), step * 10)
    ticks = [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    lines = [
        {
            "label": label if len(label) <= 28 else label[:27] + "…",
            "y": _ROW * place + 18,
            "low": across(one.low),
            "high": across(one.high),
            "at": across(one.value),
            "text": one.text(),
        }
        for place, (label, one) in enumerate(rows)
    ]
    height = _ROW * len(rows) + 30
    marks = [{"x": across(tick), "text": f"{tick:.3g}"} for tick in ticks]
    return {"width": _WIDTH, "height": height, "rows": lines, "ticks": marks, "zero": across(0.0) if zero else None}


def print_tables(report: EvaluationReport) -> None:
    """Scores with intervals, costs, verdicts, on standard output."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    title = f"{report.task.get('name', 'evaluation')}, {len(report.samples):,} samples"
    scores = {arm.name: {name: one.text() for name, one in arm.scores.items()} for arm in report.arms}
    console.print(_table(title, scores))
    costs = {arm.name: {name: shown(one) for name, one in arm.costs.items()} for arm in report.arms}
    if any(costs.values()):
        console.print(_table("", costs))
    for line in _lines(report):
        console.print(Text(printable(line)), soft_wrap=True)


def _table(title: str, rows: Mapping[str, Mapping[str, str]]) -> Any:
    """Arms down, what is known of them across."""
    from rich.table import Table
    from rich.text import Text

    columns = list(dict.fromkeys(name for cells in rows.values() for name in cells))
    table = Table(title=Text(printable(title)) if title else None, title_justify="left", box=None, pad_edge=False)
    for name in ("arm", *columns):
        table.add_column(Text(printable(name)), justify="left" if name == "arm" else "right")
    for arm, cells in rows.items():
        table.add_row(*(Text(printable(cell)) for cell in (arm, *(cells.get(name, "") for name in columns))))
    return table


def _lines(report: EvaluationReport) -> list[str]:
    lines = [f"before: {report.detectable}"] if report.detectable else []
    for arm in report.arms:
        for name, one in arm.corpus.items():
            lines.append(f"{arm.name}, {name} over all samples: {one['value']:.2f} ({one.get('signature', '')})")
        lines += [f"{arm.name}, {one.text()}" for one in arm.judged.values()]
        lines += [f"{arm.name}: {note}" for note in arm.notes]
    lines += [verdict.sentence() for verdict in report.verdicts]
    if report.contamination is None:
        lines.append("contamination: not looked for")
    else:
        lines += [f"contamination, {name}: {words(one)}" for name, one in report.contamination.items() if name != "ids"]
    return [*lines, *report.notes]
