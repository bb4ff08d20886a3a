"""The evaluation stage: a model put to tasks; an artifact with every sample's answer, scores with intervals, and cost.

    scores = evaluate("model-0123", ["arc_easy"], data="../data", limit=200)

Answers are kept as they come, so that a run that was killed goes on where it stopped. This module does not know how
tasks are asked or scored.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bloomery.core.answer_cache import AnswerCache
from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.engine import LanguageModel
from bloomery.evaluate.statistics import detectable_paired_binary
from bloomery.evaluate.subject import ANSWERS, Opened, open_subject
from bloomery.evaluate.tasks import (
    Question,
    Record,
    Subject,
    Task,
    ask,
    by_group,
    figures,
    find_task,
    limited,
    questions,
)
from bloomery.evaluate.tasks import places as task_places

KIND = "evaluation"
_ASSUMED_DISCORDANCE = 0.2
"""Share of samples on which two models differ, for what can be told apart before anything is known."""


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

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is a whole number from 1, not {self.limit}")
        if self.few_shot is not None and not 0 <= self.few_shot <= 1000:
            raise ConfigError(f"few_shot is from 0 to 1,000, not {self.few_shot}")


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
    if len(set(names)) < len(names):
        raise ConfigError("a task is named twice", hint="each once")
    return [_prepared(task, config, data) for task in found]


def _prepared(task: Task, config: EvaluateConfig, data: str | Path | None) -> Prepared:
    where, download = task_places.folders(data), str(data) == task_places.HUB
    few_shot = task.few_shot if config.few_shot is None else config.few_shot
    found = task_places.questions(task, where, download=download)
    shots = task_places.examples(task, where, download=download) if few_shot else None
    made = questions(
        task,
        limited(task, found.rows(), config.limit),
        examples=list(shots.rows()) if shots is not None else (),
        few_shot=few_shot,
        seed=config.seed,
    )
    files = (*found.places, *(shots.places if shots is not None else ()))
    digest = hashlib.sha256(json.dumps(asdict(task), sort_keys=True).encode())
    for path in dict.fromkeys(place.path for place in files):
        digest.update(path.read_bytes())
    return Prepared(
        task=task,
        questions=tuple(made),
        few_shot=few_shot,
        files=tuple(map(str, files)),
        digest=digest.hexdigest(),
        note=found.note,
    )


def evaluate(
    model: str | Path | Artifact | LanguageModel | Opened,
    tasks: Sequence[str | Path | Task],
    *,
    config: EvaluateConfig | None = None,
    data: str | Path | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Measure a model on tasks; returns an "evaluation" artifact, which `read_evaluation` reads.

    `model` is what `bl.load` takes, a model that is loaded, or what `open_subject` opened; `data` is the folder where
    the tasks' files lie, or "hub"; None takes $BLOOMERY_DATA. With `fresh` nothing is taken from earlier answers.
    """
    workspace = as_workspace(workspace)
    config = config or EvaluateConfig()
    prepared = prepare(tasks, config, data=data)
    own = not isinstance(model, Opened)
    opened = (
        model
        if isinstance(model, Opened)
        else open_subject(model, workspace=workspace, chat=config.chat, bos=config.bos)
    )
    try:
        return _evaluated(opened, prepared, config, workspace, fresh)
    finally:
        if own:
            opened.close()


def _evaluated(
    opened: Opened, prepared: Sequence[Prepared], config: EvaluateConfig, workspace: Workspace, fresh: bool
) -> Artifact:
    plain = asdict(config) | {"tasks": {one.task.name: one.digest for one in prepared}, "model": opened.identity}
    inputs = StageInputs(stage="evaluate", config=plain, parents=opened.parents, seed=config.seed)
    if not fresh and opened.lasting and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        cache = AnswerCache(workspace.root / ANSWERS)
        try:
            identity = "" if opened.lasting else f"{opened.identity} {_attempt(run.scratch)}"
            subject = opened.kept(cache, identity=identity, fresh=fresh)
            folder = run.new_folder()
            (folder / "samples").mkdir()
            results = [_measured(run, one, subject, config, folder) for one in prepared]
        finally:
            cache.close()
        document = {"model": {"name": opened.subject.name, "identity": opened.identity}, "tasks": results}
        write_durably(folder / "results.json", _json(document, indent=1))
        return run.publish(folder, kind=KIND, metrics=headline(results))


def _attempt(scratch: Path) -> str:
    """Names the attempts at one stage until one is published: what a server answered before may be another's."""
    path = scratch / "attempt"
    if not path.is_file():
        write_durably(path, secrets.token_hex(8).encode())
    return path.read_text(encoding="ascii")


def _measured(run: Run, one: Prepared, subject: Subject, config: EvaluateConfig, folder: Path) -> dict[str, Any]:
    task, total = one.task, len(one.questions)
    if one.note:
        run.note(one.note)
    if total and task.kind in ("choice", "context"):
        run.note(f"{task.name}: {detectable_paired_binary(total, _ASSUMED_DISCORDANCE).text()}")
    records: dict[int, Record] = {}
    with run.phase(task.name):
        for place, record in ask(task, one.questions, subject, seed=config.seed):
            records[place] = record
            run.progress(len(records), total, unit="samples", **_live(task, record))
    ordered = [records[place] for place in range(total)]
    lines = b"".join(_json(record.to_dict()) + b"\n" for record in ordered)
    write_durably(folder / "samples" / f"{task.name}.jsonl", lines)
    return result_of(one, ordered)


def _live(task: Task, record: Record) -> dict[str, float | str]:
    return {} if not record.error else {"error": record.error[:60]}


def _json(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace")


def result_of(one: Prepared, records: Sequence[Record]) -> dict[str, Any]:
    """What a task came to, as plain data."""
    task = one.task
    if not records:
        raise ConfigError(f"{task.name} has no samples", hint="are its files empty?")
    joules = records[0].energy_joules
    for record in records[1:]:
        joules = joules + record.energy_joules
    groups = by_group(task, records, task.measured)
    return {
        "task": task.name,
        "title": task.title,
        "kind": task.kind,
        "samples": len(records),
        "few_shot": one.few_shot,
        "metrics": {name: figure.to_dict() for name, figure in figures(task, records, task.measured).items()},
        "groups": {name: {m: f.to_dict() for m, f in own.items()} for name, own in groups.items()},
        "errors": sum(bool(record.error) for record in records),
        "cached": sum(record.cached for record in records),
        "cost": {
            "prompt_tokens": _sum([record.prompt_tokens for record in records]),
            "completion_tokens": _sum([record.completion_tokens for record in records]),
            "seconds": sum(record.seconds for record in records),
            "energy_joules": joules.to_dict(),
        },
        "files": list(one.files),
        "note": one.note,
        "licence": task.licence,
        "source": task.source,
    }


def _sum(values: Sequence[int | None]) -> int | None:
    return None if None in values else sum(v for v in values if v is not None)


def headline(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The first metric of each task."""
    return {f"{one['task']}.{name}": figure["value"] for one in results for name, figure in one["metrics"].items()}


def read_evaluation(artifact: Artifact) -> dict[str, Any]:
    """The content of an evaluation: model, tasks with their metrics, cost."""
    return json.loads(artifact.file("results.json").read_text(encoding="utf-8"))


def read_records(artifact: Artifact, task: str) -> list[Record]:
    """Every sample of a task of an evaluation, in the task's order."""
    path = artifact.file(f"samples/{task}.jsonl")
    with path.open(encoding="utf-8") as file:
        return [Record.from_dict(json.loads(line)) for line in file]
