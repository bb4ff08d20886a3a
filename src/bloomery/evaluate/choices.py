"""Choices: questions with given answers, of which each of two models takes the one that it finds most probable.

A file is what `tasks` reads: JSON lines or CSV of a person's own (`query`, `choices`, `gold`, or two sentences), or a
task's TOML. This module does not know how answers are scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.engine import LanguageModel
from bloomery.engine.likelihoods import EngineLikelihoods
from bloomery.evaluate.statistics import binary_difference, rate
from bloomery.evaluate.tasks import Question, Record, Subject, Task, ask, find_task, limited, questions
from bloomery.evaluate.tasks import places as task_places
from bloomery.evaluate.tasks.columns import rows_of
from bloomery.evaluate.tasks.question import fits
from bloomery.evaluate.tasks.rows import Row

MAX_ITEMS = 1000
"""Of a file, from its beginning; more changes little but how long it takes."""
_METRICS = ("accuracy", "accuracy_by_bytes")


def read_choices(path: Path, limit: int = MAX_ITEMS) -> list[Question]:
    """The first questions of a file. DataError, with the line, for what is none; ConfigError for questions that have no
    choices, or a file without any."""
    task = find_task(path)
    rows: Iterable[Row] = list(task_places.questions(task, ()).rows())
    if path.suffix != ".toml":
        task = replace(task, kind="choice")
        own = replace(task, columns=None)
        if task.columns is not None and rows and not fits(own, rows[0]):
            _, rows = rows_of(task.columns, rows)
        else:
            task = own  # each row as it is written: two sentences beside a list of choices
    rows = limited(task, rows, limit)
    found = list(questions(task, rows)) if task.kind == "choice" else []
    if not found:
        hint = '{"query": ..., "choices": [...], "gold": 0} on each line'
        raise ConfigError(f"{path} has no questions with choices", hint=hint)
    return found


def compare_choices(before: LanguageModel, after: LanguageModel, items: Sequence[Question]) -> dict[str, Any]:
    """Plain data: each model's accuracies with intervals, `change` with the 95% interval of the paired difference (the
    items are the same, so that most of their spread cancels; Tango, 1998), and the share of items in which both
    take the same."""
    one, other = _records(before, items), _records(after, items)
    report: dict[str, Any] = {"items": len(items)}
    for name, records in (("before", one), ("after", other)):
        report[name] = {**_rate(records, "accuracy"), "by_bytes": _rate(records, "accuracy_by_bytes")}
    change = binary_difference(*([record.scores["accuracy"] for record in records] for records in (other, one)))
    report["change"] = {"accuracy": change.value, "low": change.low, "high": change.high}
    report["same_choice"] = sum(a.answer == b.answer for a, b in zip(one, other, strict=True)) / len(items)
    return report


def _records(model: LanguageModel, items: Sequence[Question]) -> list[Record]:
    task = Task(name="choices", kind="choice", metrics=_METRICS)
    found = dict(ask(task, items, Subject(name=model.name, likelihoods=EngineLikelihoods(model))))
    return [found[place] for place in range(len(items))]


def _rate(records: Sequence[Record], metric: str) -> dict[str, Any]:
    found = rate([record.scores[metric] for record in records])
    return {"accuracy": found.value, "low": found.low, "high": found.high}
