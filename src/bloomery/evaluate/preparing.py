"""Preparing: tasks with their questions, read whole before a model is asked anything.

A row that could not be judged is an error before it costs anything. This module does not know models.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.tasks import Question, Task, find_task, limited, questions
from bloomery.evaluate.tasks import places as task_places
from bloomery.evaluate.tasks.columns import rows_of
from bloomery.evaluate.tasks.rows import Row
from bloomery.evaluate.tasks.scoring import Judging
from bloomery.evaluate.tasks.task_judge import read_labels


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What of the tasks is asked, and how."""

    limit: int | None = None
    """Samples of each task, or of each of its groups, from its beginning; None: all."""
    few_shot: int | None = None
    """Examples before each question; None: as many as each task says."""
    seed: int = 0
    """Draws the examples."""
    chat: bool = False
    """Free answers go through the model's chat template."""
    bos: bool | None = None
    """Whether scored contexts begin with BOS; None: as the tokenizer has it."""
    max_failed: float = 0.1
    """Share of a task's questions that may stay without an answer through no fault of their own: they count as wrong,
    and it is said; once more fail, the evaluation ends without a result, and what was answered is kept."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is a whole number from 1, not {self.limit}")
        if self.few_shot is not None and not 0 <= self.few_shot <= 1000:
            raise ConfigError(f"few_shot is from 0 to 1,000, not {self.few_shot}")
        if not 0 <= self.max_failed <= 1:
            raise ConfigError(f"max_failed is a share from 0 to 1, not {self.max_failed:g}")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A task with its questions, read whole before a model is asked anything."""

    task: Task
    questions: tuple[Question, ...]
    few_shot: int
    files: tuple[str, ...]
    digest: str
    """Of task and files."""
    note: str = ""
    labels: tuple[tuple[str, str, str | None], ...] = ()
    """People's, which the task's judge is held against: sample, label and the answer that has it."""


def prepare(
    tasks: Sequence[str | Path | Task],
    config: EvaluateConfig | None = None,
    *,
    data: str | Path | None = None,
) -> list[Prepared]:
    """Tasks by name or file, with the questions that `config` asks for. ConfigError and DataError as their parts."""
    config = config or EvaluateConfig()
    if not tasks:
        raise ConfigError("which tasks?", hint="bloomery evaluate --list")
    found = [one if isinstance(one, Task) else find_task(one) for one in tasks]
    names = [task.name for task in found]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        own = any(task.folder for task in found if task.name == twice)
        hint = (
            "a file of one's own is called by its name up to the first dot: rename one of them" if own else "each once"
        )
        raise ConfigError(f"the task {twice!r:.80} is named twice", hint=hint)
    return [_prepared(task, config, data) for task in found]


def _prepared(task: Task, config: EvaluateConfig, data: str | Path | None) -> Prepared:
    where, download = task_places.folders(data), str(data) == task_places.HUB
    few_shot = task.few_shot if config.few_shot is None else config.few_shot
    found = task_places.questions(task, where, download=download)
    shots = task_places.examples(task, where, download=download) if few_shot else None
    every, note = _rows(task, found)
    rows = limited(task, every, config.limit)
    if task.folder:  # a person's own
        rows = list(rows)
    made: Iterable[Question] = questions(
        task,
        rows,
        examples=list(_rows(task, shots)[0]) if shots is not None else (),
        few_shot=few_shot,
        seed=config.seed,
    )
    if task.kind == "generation":
        _check(task, made := list(made))
    if isinstance(rows, list):
        made, repeated = _told_apart(list(made), rows)
        note = "; ".join(filter(None, (note, repeated)))
    labels, label_files = _labels(task, where)
    files = (*found.places, *(shots.places if shots is not None else ()), *label_files)
    digest = hashlib.sha256(json.dumps(asdict(task), sort_keys=True).encode())
    for path in dict.fromkeys(place.path for place in files):
        digest.update(path.read_bytes())
    return Prepared(
        task=task,
        questions=tuple(made),
        few_shot=few_shot,
        files=tuple(map(str, files)),
        digest=digest.hexdigest(),
        note="; ".join(filter(None, (found.note, note))),
        labels=labels,
    )


def _rows(task: Task, found: task_places.Found) -> tuple[Iterable[Row], str]:
    """A task's rows, and how they were read, where it is a person's own to say so."""
    if task.columns is not None:
        columns, rows = rows_of(task.columns, found.rows())
        return rows, f"{task.title} is {columns.text()}"
    return found.rows(), ""


def _check(task: Task, asked: Sequence[Question]) -> None:
    """Before a model is asked anything: every row has what its answer will be judged by. DataError, with file and line,
    for one that has not."""
    judging = Judging(task)
    for question in asked:
        if lacking := judging.lacks(question.sample):
            hint = "a column of that name, or keep in the task's [[layouts]]"
            raise DataError(f"{question.sample.metadata['where']} has no {lacking}", hint=hint)


def _told_apart(asked: list[Question], rows: Sequence[Row]) -> tuple[list[Question], str]:
    """Rows of one id are one cluster where nothing else says what hangs together, and it is said how many there are.
    DataError, with file and line, for equal choices, and for an id of a task's own layout that is given twice."""
    seen: dict[str, str] = {}
    for one in asked:
        where = one.sample.metadata["where"]
        equal = next((choice for place, choice in enumerate(one.choices) if choice in one.choices[:place]), None)
        if equal is not None:
            raise DataError(f"{where}: the choice {equal!r:.60} is there twice", hint="choices differ from each other")
        if one.sample.id in seen:
            before = seen[one.sample.id]
            raise DataError(
                f"{where}: the id {one.sample.id!r:.60} is that of {before} too", hint="one id for each row"
            )
        seen[one.sample.id] = where
    ids = ["" if (own := row.values.get("id")) in (None, "") else str(own) for row in rows]
    counted = Counter(filter(None, ids))
    repeats = sum(counted.values()) - len(counted)
    said = f"{repeats:,} row{' repeats' if repeats == 1 else 's repeat'} the id of an earlier one"
    if not repeats or any(one.sample.cluster for one in asked):
        return asked, said if repeats else ""
    clustered = [
        replace(one, sample=replace(one.sample, cluster=f"id {own}"[:40])) if counted[own] > 1 else one
        for one, own in zip(asked, ids, strict=True)
    ]
    return clustered, f"{said}: rows of one id count as one cluster"


def _labels(
    task: Task, where: Sequence[Path]
) -> tuple[tuple[tuple[str, str, str | None], ...], tuple[task_places.Place, ...]]:
    if task.judge is None or not task.judge.labels:
        return (), ()
    folders = [Path(folder) for folder in (task.folder, *where) if str(folder)]
    path = next((one for folder in folders if (one := folder / task.judge.labels).is_file()), None)
    if path is None:
        raise DataError(f"there is no file of labels {task.judge.labels!r:.80}", hint="beside the task's own file")
    return tuple(read_labels(path, task.judge.scale)), (task_places.Place(path),)
