"""The evaluation stage: a model put to tasks; an artifact with every sample's answer, scores with intervals, and cost.

    scores = evaluate("model-0123", ["arc_easy"], data="../data", limit=200)

Answers are kept as they come, so that a run that was killed goes on where it stopped. This module does not know how
tasks are asked or scored.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.core.answer_cache import AnswerCache
from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus import read_documents
from bloomery.energy import open_meter
from bloomery.engine import LanguageModel
from bloomery.evaluate.against import compare_records
from bloomery.evaluate.contamination import Contamination, Sought
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
    corpus: Artifact | None = None,
    against: Artifact | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Measure a model on tasks; returns an "evaluation" artifact, which `read_evaluation` reads.

    `model` is what `bl.load` takes, a model that is loaded, or what `open_subject` opened; `data` is the folder where
    the tasks' files lie, or "hub"; None takes $BLOOMERY_DATA. Samples are sought in `corpus`; None is what the model's
    own lineage says it was trained on. `against` is an evaluation of the same tasks that this one is compared with,
    sample by sample. With `fresh` nothing is taken from earlier answers.
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
        corpora = [corpus] if corpus is not None else _trained_on(opened, workspace)
        return _evaluated(opened, prepared, config, workspace, fresh, corpora, against)
    finally:
        if own:
            opened.close()


def _trained_on(opened: Opened, workspace: Workspace) -> list[Artifact]:
    """The corpora among a model's ancestors."""
    found: dict[str, Artifact] = {}
    for parent in opened.parents:
        artifact = workspace.published(parent)
        if artifact is not None:
            found |= {
                identity: one
                for _, identity, one in workspace.lineage(artifact)
                if one is not None and one.kind == "corpus"
            }
    return list(found.values())


def _evaluated(
    opened: Opened,
    prepared: Sequence[Prepared],
    config: EvaluateConfig,
    workspace: Workspace,
    fresh: bool,
    corpora: Sequence[Artifact],
    against: Artifact | None,
) -> Artifact:
    plain = asdict(config) | {"tasks": {one.task.name: one.digest for one in prepared}, "model": opened.identity}
    beside = [*corpora, *([against] if against is not None else [])]
    parents = tuple(dict.fromkeys((*opened.parents, *(one.id for one in beside))))
    inputs = StageInputs(stage="evaluate", config=plain, parents=parents, seed=config.seed)
    if not fresh and opened.lasting and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        cache = AnswerCache(workspace.root / ANSWERS)
        try:
            identity = "" if opened.lasting else f"{opened.identity} {_attempt(run.scratch)}"
            subject = opened.kept(cache, identity=identity, fresh=fresh)
            folder = run.new_folder()
            (folder / "samples").mkdir()
            found = sought(run, prepared, corpora) if corpora else {}
            results, records = [], {}
            for one in prepared:
                records[one.task.name] = _asked(run, one, subject, config, found.get(one.task.name))
                results.append(_written(one, records[one.task.name], folder, found.get(one.task.name)))
        finally:
            cache.close()
        document = {"model": {"name": opened.subject.name, "identity": opened.identity}, "tasks": results}
        if against is not None:
            document["against"] = _compared(against, records, opened.subject.name, config)
        write_durably(folder / "results.json", _json(document, indent=1))
        return run.publish(folder, kind=KIND, metrics=headline(results))


def _attempt(scratch: Path) -> str:
    """Names the attempts at one stage until one is published: what a server answered before may be another's."""
    path = scratch / "attempt"
    if not path.is_file():
        write_durably(path, secrets.token_hex(8).encode())
    return path.read_text(encoding="ascii")


def sought(run: Run, prepared: Sequence[Prepared], corpora: Sequence[Artifact]) -> dict[str, Contamination]:
    """By task, which of its questions stand in the corpora's training split."""
    names = [(one.task.name, place) for one in prepared for place in range(len(one.questions))]
    wanted = Sought([question.texts for one in prepared for question in one.questions])
    with run.phase("contamination"):
        documents = (document for corpus in corpora for document in read_documents(corpus, "train"))
        found = wanted.found(documents, lambda done: run.progress(done, None, unit="documents"))
    each: dict[str, dict[int, tuple[str, str]]] = {one.task.name: {} for one in prepared}
    for number, shared in found.shared.items():
        name, place = names[number]
        each[name][place] = shared
    return {name: replace(found, shared=own) for name, own in each.items()}


def _asked(
    run: Run, one: Prepared, subject: Subject, config: EvaluateConfig, found: Contamination | None
) -> list[Record]:
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
    for place, (words, _) in (found.shared if found is not None else {}).items():
        records[place] = replace(records[place], contaminated=words)
    return [records[place] for place in range(total)]


def _written(one: Prepared, records: Sequence[Record], folder: Path, found: Contamination | None) -> dict[str, Any]:
    lines = b"".join(_json(record.to_dict()) + b"\n" for record in records)
    write_durably(folder / "samples" / f"{one.task.name}.jsonl", lines)
    result = result_of(one, records)
    if found is not None:
        clean = [record for record in records if not record.contaminated]
        scored = figures(one.task, clean, one.task.measured) if clean else {}
        result["contamination"] = {
            "documents": found.documents,
            "contaminated": len(records) - len(clean),
            "clean_metrics": {name: figure.to_dict() for name, figure in scored.items()},
        }
    return result


def _compared(against: Artifact, records: dict[str, list[Record]], name: str, config: EvaluateConfig) -> dict[str, Any]:
    document = read_evaluation(against)
    others = {one["task"]: read_records(against, one["task"]) for one in document["tasks"]}
    other = document["model"]["name"]
    names = (name, other) if name != other else (f"{name} (this)", f"{other} (against)")
    compared = compare_records(records, others, names=names, seed=config.seed)
    return {"artifact": against.name, "model": document["model"], "comparisons": compared}


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
    errors = [record.error for record in records if record.error]
    return {
        "task": task.name,
        "title": task.title,
        "kind": task.kind,
        "samples": len(records),
        "few_shot": one.few_shot,
        "metrics": {name: figure.to_dict() for name, figure in figures(task, records, task.measured).items()},
        "groups": {name: {m: f.to_dict() for m, f in own.items()} for name, own in groups.items()},
        "errors": len(errors),
        "error": Counter(errors).most_common(1)[0][0] if errors else "",  # the commonest
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
