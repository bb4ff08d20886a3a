"""Reading: the rows of a task's file as samples. A row that makes no sense ends it, with its line.

This module does not know splits, nor the forms of files (see `evaluate.tasks.rows`).
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.task import TaskConfig
from bloomery.core.config import canonical_json
from bloomery.core.errors import DataError
from bloomery.evaluate.sample import Sample
from bloomery.evaluate.tasks.rows import read_rows

MAX_ROWS = 1_000_000


def content_hash(text: str, choices: tuple[str, ...] = ()) -> str:
    """64 hex digits of a question as a reader sees it: case, accents' encoding and white space do not count."""
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    shown = [" ".join(one.split()) for one in choices]
    return hashlib.sha256(canonical_json([plain, shown]).encode("utf-8", "backslashreplace")).hexdigest()


def read_samples(config: TaskConfig) -> list[Sample]:
    """Every row as a sample, in the file's order; ids are content hashes, so two equal questions share one.

    DataError naming file and line.
    """
    path = Path(config.samples)
    if not path.is_file():
        raise DataError(f"no samples at {path}", hint='"samples" is a path beside the task file')
    found = []
    for row in read_rows(path):
        if len(found) == MAX_ROWS:
            raise DataError(f"{path} has more than {MAX_ROWS:,} rows")
        found.append(_sample(row.values, config, row.where))
    if not found:
        raise DataError(f"{path} holds no samples")
    return found


def _sample(row: Mapping[str, Any], config: TaskConfig, where: str) -> Sample:
    numbers = {name: _number(row, name, where) for name in config.columns}
    if numbers and row.get(config.input) in (None, ""):
        text = ", ".join(f"{name.replace('_', ' ')} {value:.6g}" for name, value in numbers.items())
    else:
        text = _text(row, config.input, where)
    choices = config.choices
    if config.choices_column:
        listed = row.get(config.choices_column)
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise DataError(f'{where}: "{config.choices_column}" should be a list of texts')
        choices = tuple(listed)
    targets = _targets(row.get(config.target), choices, config, where)
    metadata: dict[str, Any] = dict(numbers)
    if config.rubric:
        metadata["rubric"] = _text(row, config.rubric, where)
    if config.context:
        metadata["question"] = text
        text = f"{_text(row, config.context, where)}\n\n{text}"
    try:
        return Sample(
            id=content_hash(text, choices if config.choices_column else ()),
            input=text,
            targets=targets,
            choices=choices,
            cluster=str(row[config.cluster]) if config.cluster and row.get(config.cluster) not in (None, "") else "",
            metadata=metadata,
        )
    except DataError as error:
        raise DataError(f"{where}: {error.message}") from error


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        columns = ", ".join(sorted(str(key) for key in row)[:8])
        raise DataError(f'{where}: "{column}" should be a text that is not empty', hint=f"columns: {columns}"[:200])
    return value


def _number(row: Mapping[str, Any], column: str, where: str) -> float:
    value = row.get(column)
    try:
        found = math.nan if value is None or isinstance(value, (bool, list, dict)) else float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise DataError(
            f'{where}: "{column}" should be a number, not {value!r:.40}', hint="columns = [...] are numbers"
        )
    return found


def _targets(value: Any, choices: tuple[str, ...], config: TaskConfig, where: str) -> tuple[str, ...]:
    if value is None and config.rubric:
        return ()
    if isinstance(value, bool) or value is None or value == "" or value == []:
        raise DataError(f'{where}: "{config.target}" holds no answer', hint="an answer, or a rubric column")
    if isinstance(value, int) and choices and str(value) not in choices:
        if not 0 <= value < len(choices):
            raise DataError(f'{where}: "{config.target}" is {value}, but choices count from 0 to {len(choices) - 1}')
        return (choices[value],)
    listed = value if isinstance(value, list) else [value]
    return tuple(str(one) for one in listed)
