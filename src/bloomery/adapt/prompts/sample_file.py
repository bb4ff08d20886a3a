"""Sample file: a person's labelled questions in JSONL or CSV, and which of them a search may see.

Columns: input, target (or targets), choices, id, cluster, thinking, split (train, dev or test); whatever else there is
goes to the metadata. Without a column "choices" the targets are the choices where few of them recur. This module does
not know prompts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.sample import Sample
from bloomery.evaluate.tasks.rows import Row, read_rows

_OWN = ("input", "target", "targets", "choices", "id", "cluster", "split")
_NAMES = {"dev": "dev", "validation": "dev", "val": "dev", "train": "train", "test": "test", "": ""}
_MOST_CHOICES = 20


def read_sample_file(path: str | Path) -> dict[str, list[Sample]]:
    """Samples by split: train, dev, test, and "" for those that name none. ConfigError for a file that is not there,
    DataError with file and line."""
    if not Path(path).is_file():
        raise ConfigError(f"no such file: {path}", hint="JSONL or CSV with input and target")
    found: dict[str, list[Sample]] = {"train": [], "dev": [], "test": [], "": []}
    for row in read_rows(path):
        named = str(row.values.get("split", "") or "").lower()
        if named not in _NAMES:
            raise DataError(f"{row.where}: there is no split {named!r:.40}", hint="train, dev, test")
        found[_NAMES[named]].append(_sample(row))
    seen: set[str] = set()
    for sample in (sample for part in found.values() for sample in part):
        if sample.id in seen:
            raise DataError(f"{path}: two samples have the id {sample.id!r:.60}", hint="ids are each row's own")
        seen.add(sample.id)
    labels = _labels([sample for part in found.values() for sample in part])
    if labels:
        found = {name: [replace(sample, choices=labels) for sample in part] for name, part in found.items()}
    return found


def searchable(parts: dict[str, list[Sample]], *, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """(train, dev) for a search: the file's own, or halves of the samples that name no split, by a digest of their
    input: copies and clusters stay together. Samples of the test are not among them. ConfigError where one is empty."""
    train, dev = list(parts["train"]), list(parts["dev"])
    if not train and not dev:
        for sample in parts[""]:
            (dev if _half(sample, seed) else train).append(sample)
    elif parts[""]:
        raise ConfigError(f"{len(parts['']):,} samples name no split, others do", hint="train, dev or test for each")
    elif not dev or not train:
        given, other = (train, "dev") if train else (dev, "train")
        raise ConfigError(f"there are {len(given):,} samples, but none of {other}", hint="name splits, or none at all")
    return train, dev


def _half(sample: Sample, seed: int) -> bool:
    told = f"{seed}\x1f{sample.cluster or sample.input}"
    return hashlib.sha256(told.encode("utf-8", "backslashreplace")).digest()[0] % 2 == 1


def _sample(row: Row) -> Sample:
    values = row.values
    if not isinstance(values.get("input"), (str, int, float)):
        raise DataError(f"{row.where}: there is no input", hint="columns: input, target, choices")
    targets = _texts(values.get("targets", values.get("target")), row.where)
    try:
        return Sample(
            id=str(values.get("id", "") or row.where.rpartition(":")[2]),
            input=str(values["input"]),
            targets=targets,
            choices=_texts(values.get("choices"), row.where),
            cluster=str(values.get("cluster", "") or ""),
            metadata={name: value for name, value in values.items() if name not in _OWN},
        )
    except DataError as error:
        raise DataError(f"{row.where}: {error.message}", hint=error.hint) from error


def _texts(value: Any, where: str) -> tuple[str, ...]:
    """A list, or one text; a CSV cell may hold a list as JSON."""
    if value is None or value == "":
        return ()
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return (str(value),)
    if isinstance(value, (list, tuple)):
        if not all(isinstance(one, (str, int, float)) for one in value):
            raise DataError(f"{where}: a list of texts is meant")
        return tuple(map(str, value))
    return (str(value),)


def _labels(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The targets, where they are a few that recur and no sample has choices of its own."""
    if any(sample.choices for sample in samples):
        return ()
    found = {target for sample in samples for target in sample.targets}
    labelled = sum(bool(sample.targets) for sample in samples)
    few = 2 <= len(found) <= _MOST_CHOICES and len(found) * 5 <= labelled
    return tuple(sorted(found)) if few else ()
