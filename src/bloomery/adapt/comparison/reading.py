"""Reading: the rows of a task's file as samples. JSON lines, CSV and TSV, plain, .xz or .gz.

A row that makes no sense ends it, with its line. This module does not know splits.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import lzma
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.task import TaskConfig
from bloomery.core.config import canonical_json
from bloomery.core.errors import DataError
from bloomery.evaluate.sample import Sample

MAX_ROWS = 1_000_000
_MAX_LINE = 1 << 22
_OPENERS = {".xz": lzma.open, ".gz": gzip.open}


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
    found = []
    try:
        for number, row in _rows(path):
            if len(found) == MAX_ROWS:
                raise DataError(f"{path} has more than {MAX_ROWS:,} rows")
            found.append(_sample(row, config, f"{path}:{number}"))
    except FileNotFoundError:
        raise DataError(f"no samples at {path}", hint='"samples" is a path beside the task file') from None
    except (OSError, UnicodeDecodeError, lzma.LZMAError, EOFError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not found:
        raise DataError(f"{path} holds no samples")
    return found


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line, row); JSON lines unless the name says otherwise."""
    opener, name = _OPENERS.get(path.suffix), path.name.removesuffix(path.suffix) if path.suffix in _OPENERS else path
    kind = Path(name).suffix
    with opener(path, "rt", encoding="utf-8-sig") if opener else path.open(encoding="utf-8-sig", newline="") as file:
        if kind in (".csv", ".tsv"):
            reader = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",", strict=kind == ".csv")
            if kind == ".tsv":
                reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            for row in reader:
                yield reader.line_num, {key: value for key, value in row.items() if isinstance(key, str)}
            return
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), 1):
            if len(line) >= _MAX_LINE:
                raise DataError(f"{path}:{number} is longer than {_MAX_LINE:,} characters")
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}:{number} is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number} should hold an object")
            yield number, row


def _sample(row: Mapping[str, Any], config: TaskConfig, where: str) -> Sample:
    text = _text(row, config.input, where)
    choices = config.choices
    if config.choices_column:
        listed = row.get(config.choices_column)
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise DataError(f'{where}: "{config.choices_column}" should be a list of texts')
        choices = tuple(listed)
    targets = _targets(row.get(config.target), choices, config, where)
    metadata: dict[str, Any] = {}
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
