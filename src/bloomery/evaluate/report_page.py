"""Report page: one report or several as one HTML file.

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
from unicodedata import east_asian_width

from bloomery.core.artifact import write_durably
from bloomery.core.printable import printable
from bloomery.core.quantity import Quantity
from bloomery.evaluate.report import EvaluationReport, ReportSample
from bloomery.evaluate.statistics import Interval

MAX_SAMPLES, MAX_CHARACTERS, MAX_FILTERED = 2000, 20_000, 24
"""Samples on a page, characters of each text, and arms that have filters of their own; the page says what is left
out."""
_DRAWN, _ROW = 500, 28
_LABEL_CELLS, _CELL, _GAP = 48, 7, 14
"""A label's cells (a letter has one, a Chinese character two) at most, and units of a drawing: a cell's, and beside."""


def write_html(report: EvaluationReport, path: str | Path) -> Path:
    """One file, there whole or not at all."""
    return write_page(render(report), path)


def write_page(page: str, path: str | Path) -> Path:
    """A page that was rendered as a file, there whole or not at all."""
    target = Path(path)
    write_durably(target, page.encode("utf-8", "replace"))
    return target


def render(report: EvaluationReport) -> str:
    """The page as text."""
    return render_page([part_of(report)], title=str(report.task.get("name", "evaluation")), made=report.made)


def render_page(
    parts: Sequence[Mapping[str, Any]],
    *,
    title: str,
    lines: Sequence[str] = (),
    overview: Sequence[Mapping[str, Any]] = (),
    sentences: Sequence[str] = (),
    made: Mapping[str, str] | None = None,
) -> str:
    """A page of several reports (see `part_of`), with a table of figures before them (see `figure_row`)."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"clean": clean, "shown": shown, "words": words, "table": table_of}
    source = resources.files("bloomery.evaluate").joinpath("report.html.jinja").read_text(encoding="utf-8")
    told = {"lines": lines, "overview": overview, "sentences": sentences, "made": made or {}}
    return environment.from_string(source).render(parts=parts, title=title, **told)


def part_of(report: EvaluationReport, *, prefix: str = "", groups: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A report as what a page is made of; `prefix` (letters, digits, "-") tells it from others on the page, `groups`
    are its figures by group."""
    kept = report.samples[:MAX_SAMPLES]
    arms = [arm.name for arm in report.arms]
    scorers = list(dict.fromkeys(name for arm in report.arms for name in arm.scores))
    return {
        "report": report,
        "prefix": prefix,
        "name": str(report.task.get("name", "evaluation")),
        "arms": arms,
        "filtered": arms[:MAX_FILTERED],
        "scorers": scorers,
        "costs": list(dict.fromkeys(name for arm in report.arms for name in arm.costs)),
        "charts": _charts(report, scorers),
        "differences": chart([(f"{v.a} − {v.b}", v.difference.difference) for v in report.verdicts], zero=True),
        "samples": [(sample, classes(sample, arms, report.main)) for sample in kept],
        "left_out": len(report.samples) - len(kept),
        "counts": _counts(report, arms),
        "groups": groups,
    }


def _charts(report: EvaluationReport, scorers: Sequence[str]) -> dict[str, dict[str, Any]]:
    """One a scorer, with all arms; of one arm one, with all scorers."""
    if len(report.arms) == 1:
        rows = [(name, report.arms[0].scores[name]) for name in scorers]
        drawn = {"scores": chart(rows)}
    else:
        drawn = {name: chart([(a.name, a.scores[name]) for a in report.arms if name in a.scores]) for name in scorers}
    return {name: one for name, one in drawn.items() if one is not None}


def figure_row(name: str, metric: str, figure: Mapping[str, Any], *, link: str | None = None) -> dict[str, Any]:
    """A row of a table of figures: a value with its interval, drawn where it lies from 0 to 1. `link` is where on the
    page, or beside it, more is said; None for a row of a group."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    row = {"name": name, "metric": metric, "value": f"{value:.4g}", "samples": f"{figure['samples']:,}", "bar": None}
    caution = figure.get("caution", "")
    row |= {"interval": "" if low is None else f"{low:.4g} to {high:.4g}", "caution": bool(caution)}
    row["method"] = f"{figure['method']}; may be {caution}" if caution else str(figure["method"])
    bounds = (value, value if low is None else low, value if high is None else high)
    if all(0 <= one <= 1 for one in bounds):
        at, begin, end = (round(4 + 232 * one, 1) for one in bounds)
        row["bar"] = {"at": at, "low": begin, "high": end}
    return row if link is None else {**row, "link": link}


def table_of(value: Any) -> dict[str, Any] | None:
    """A list of flat tables with the same keys, to be shown as a table; None for anything else."""
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(one, Mapping) for one in value):
        return None
    names = list(value[0])
    flat = all(
        list(one) == names and not any(isinstance(v, (Mapping, list, tuple)) for v in one.values()) for one in value
    )
    if not names or not flat:
        return None
    rows = [[{"text": shown(v), "number": isinstance(v, (int, float))} for v in one.values()] for one in value]
    return {"names": [str(name) for name in names], "rows": rows}


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
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return words(value)


def words(value: Any) -> str:
    """Plain data as text to read."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def classes(sample: ReportSample, arms: Sequence[str], main: str) -> str:
    """What the filters go by: r0 (the first arm is right) or w0, and all-right, all-wrong or differ; whether an arm has
    no answer, and whether it was seen in training."""
    right = {
        place: sample.answers[arm].values.get(main, 0.0) >= 1 for place, arm in enumerate(arms) if arm in sample.answers
    }
    failed = any(answer.error for answer in sample.answers.values())
    whole = "all-right" if all(right.values()) else "differ" if any(right.values()) else "all-wrong"
    each = [f"{'r' if one else 'w'}{place}" for place, one in right.items()]
    return " ".join([whole, *each, *(["failed"] if failed else []), *(["contaminated"] if sample.contaminated else [])])


def _counts(report: EvaluationReport, arms: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for sample in report.samples[:MAX_SAMPLES]:
        for one in classes(sample, arms, report.main).split():
            found[one] = found.get(one, 0) + 1
    return found


def _cells(text: str) -> int:
    """How wide a text is in a font whose letters are alike."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(label: str) -> str:
    if _cells(label) <= _LABEL_CELLS:
        return label
    while _cells(label) >= _LABEL_CELLS:
        label = label[:-1]
    return label + "…"


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
    labels = [_cut(label) for label, _ in rows]
    left = max(map(_cells, labels)) * _CELL + _GAP

    def across(value: float) -> float:
        return round(left + (value - low) / span * (_DRAWN - 20), 1)

    step = 10 ** math.floor(math.log10(span / 2)) if span > 0 else 1.0
    step = next((step * times for times in (1, 2, 5) if span / (step * times) <= 6), step * 10)
    ticks = [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    lines = [
        {
            "label": labels[place],
            "y": _ROW * place + 18,
            "low": across(one.low),
            "high": across(one.high),
            "at": across(one.value),
            "text": one.text(),
        }
        for place, (_, one) in enumerate(rows)
    ]
    height = _ROW * len(rows) + 30
    marks = [{"x": across(tick), "text": f"{tick:.3g}"} for tick in ticks]
    return {
        "width": left + _DRAWN,
        "height": height,
        "rows": lines,
        "ticks": marks,
        "zero": across(0.0) if zero else None,
    }
