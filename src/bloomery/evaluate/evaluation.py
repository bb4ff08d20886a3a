"""The evaluation stage: a model put to tasks; an artifact with every sample's answer, scores with intervals, and cost.

    scores = evaluate("model-0123", ["arc_easy"], data="../data", limit=200)

Answers are kept as they come, so that a run that was killed goes on where it stopped. This module does not know how
tasks are asked or scored.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.core.answer_cache import AnswerCache
from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.budget import Budget, BudgetConfig, BudgetError
from bloomery.core.errors import BloomeryError, ConfigError, RequestError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus import read_documents
from bloomery.energy import open_meter
from bloomery.engine import LanguageModel
from bloomery.evaluate.against import compare_records
from bloomery.evaluate.classified import labelled_task
from bloomery.evaluate.contamination import Contamination, Sought
from bloomery.evaluate.judge_pairs import judge_pairs
from bloomery.evaluate.opened_judges import OpenedJudge, OpenedJudges
from bloomery.evaluate.preparing import EvaluateConfig, Prepared, prepare
from bloomery.evaluate.statistics import detectable_paired_binary
from bloomery.evaluate.subject import ANSWERS, Opened, open_subject
from bloomery.evaluate.tasks import (
    Record,
    Subject,
    Task,
    ask,
    by_group,
    figures,
)
from bloomery.evaluate.tasks.record import answered_of
from bloomery.evaluate.tasks.scoring import Judging
from bloomery.evaluate.tasks.task_judge import judged, judging_cost, labelled

KIND = "evaluation"
_ASSUMED_DISCORDANCE = 0.2
"""Share of samples on which two models differ, for what can be told apart before anything is known."""


def evaluate(
    model: str | Path | Artifact | LanguageModel | Opened,
    tasks: Sequence[str | Path | Task],
    *,
    adapter: str | Path | Artifact | None = None,
    config: EvaluateConfig | None = None,
    budget: BudgetConfig | None = None,
    data: str | Path | None = None,
    corpus: Artifact | None = None,
    against: Artifact | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Measure a model on tasks; returns an "evaluation" artifact, which `read_evaluation` reads.

    `model` is what `bl.load` takes, a LoRA adapter (on its own base, or as `adapter` on another), a model that is
    loaded, or what `open_subject` opened; `data` is the folder where the tasks' files lie, or "hub"; None takes
    $BLOOMERY_DATA. Samples are sought in `corpus`; None is what the model's own lineage says it was trained on.
    `against` is an evaluation of the same tasks that this one is compared with, sample by sample. `budget` limits what
    the model and the judges of tasks are asked anew; answers that were kept cost nothing. With `fresh` nothing is taken
    from earlier answers.

    RequestError or BudgetError where too many questions failed, or the budget is spent: nothing is published then, and
    the same call goes on with the answers that were kept.
    """
    workspace = as_workspace(workspace)
    config = config or EvaluateConfig()
    prepared = prepare(tasks, config, data=data)
    how: dict[str, Any] = {"adapter": adapter, "chat": config.chat, "bos": config.bos, "classifiers": True}
    opened = model if isinstance(model, Opened) else open_subject(model, workspace=workspace, **how)
    judges = None
    try:
        if opened.labels:
            prepared = [labelled_task(one, opened.labels, opened.subject.name) for one in prepared]
        judges = OpenedJudges([one.task for one in prepared], workspace)
        corpora = [corpus] if corpus is not None else _trained_on(opened, workspace)
        work = _Work(opened, judges, prepared, config, budget, corpora, against)
        return _evaluated(work, workspace, fresh)
    finally:
        if judges is not None:
            judges.close()
        if opened is not model:
            opened.close()


@dataclass(frozen=True)
class _Work:
    """All that one evaluation is made of."""

    opened: Opened
    judges: OpenedJudges
    prepared: Sequence[Prepared]
    config: EvaluateConfig
    budget: BudgetConfig | None
    corpora: Sequence[Artifact]
    against: Artifact | None

    @property
    def lasting(self) -> bool:
        return self.opened.lasting and self.judges.lasting

    def inputs(self) -> StageInputs:
        """What the result depends on: not how much may fail or be spent on the way."""
        plain = asdict(self.config) | {"tasks": {one.task.name: one.digest for one in self.prepared}}
        del plain["max_failed"]
        plain |= {"model": self.opened.identity} | ({"judges": own} if (own := self.judges.identities) else {})
        beside = [*self.corpora, *([self.against] if self.against is not None else [])]
        parents = tuple(dict.fromkeys((*self.opened.parents, *(one.id for one in beside))))
        return StageInputs(stage="evaluate", config=plain, parents=parents, seed=self.config.seed)


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


def _evaluated(work: _Work, workspace: Workspace, fresh: bool) -> Artifact:
    inputs, opened = work.inputs(), work.opened
    if not fresh and work.lasting and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        cache = AnswerCache(workspace.root / ANSWERS)
        try:
            attempt = "" if work.lasting else _attempt(run.scratch)
            identity = "" if opened.lasting else f"{opened.identity} {attempt}"
            budget = None if work.budget is None else Budget(work.budget)
            subject = opened.kept(cache, identity=identity, fresh=fresh, budget=budget)
            judges = work.judges.kept(cache, attempt=attempt, fresh=fresh, budget=budget)
            folder = run.new_folder()
            (folder / "samples").mkdir()
            found = sought(run, work.prepared, work.corpora) if work.corpora else {}
            results, records = [], {}
            for one in work.prepared:
                name = one.task.name
                records[name] = _asked(run, one, subject, work.config, found.get(name), judges.get(name))
                results.append(_written(one, records[name], folder, found.get(name), judges.get(name)))
            document: dict[str, Any] = {"model": {"name": opened.subject.name, "identity": opened.identity}}
            document["tasks"] = results
            if work.against is not None:
                try:
                    document["against"] = _compared(work, records, judges)
                except (RequestError, BudgetError) as error:
                    answers = [record for own in records.values() for record in own]
                    error.hint = "; ".join(filter(None, (error.hint, going_on(error, answers, len(answers)))))
                    raise
            if budget is not None:
                document["budget"] = {"limits": asdict(budget.config), "spent": budget.spent.to_dict()}
        finally:
            cache.close()
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
    run: Run,
    one: Prepared,
    subject: Subject,
    config: EvaluateConfig,
    found: Contamination | None,
    judge: OpenedJudge | None,
) -> list[Record]:
    task, total = one.task, len(one.questions)
    if one.note:
        run.note(one.note)
    if total > 1 and task.kind in ("choice", "context"):  # of one nothing can be told apart
        run.note(f"{task.name}: {detectable_paired_binary(total, _ASSUMED_DISCORDANCE).text()}")
    records: dict[int, Record] = {}
    scorer = None if judge is None else judge.scorer
    most = int(config.max_failed * total)
    try:
        with run.phase(task.name):
            for place, record in ask(task, one.questions, subject, seed=config.seed, judge=scorer, most_failed=most):
                records[place] = record
                run.progress(len(records), total, unit="samples", **_live(task, record))
    except (RequestError, BudgetError) as error:
        error.hint = "; ".join(filter(None, (error.hint, going_on(error, list(records.values()), total))))
        raise
    _usable(task, list(records.values()))
    for place, (words, _) in (found.shared if found is not None else {}).items():
        records[place] = replace(records[place], contaminated=words)
    return labelled([records[place] for place in range(total)], one.labels)


def going_on(error: BloomeryError, records: Sequence[Record], total: int) -> str:
    """What becomes of an evaluation that ended before its end, for whoever has to mend it."""
    kept = sum(not record.error for record in records)
    more = " with a larger budget" if isinstance(error, BudgetError) else ""
    said = f"{kept:,} of {total:,} answers are kept: the same command{more} asks for the others alone"
    return said if kept else f"nothing is published; the same command{more} begins anew"


def _usable(task: Task, records: Sequence[Record]) -> None:
    """RequestError where not one question has an answer: there is nothing to measure."""
    if records and all(record.error for record in records):
        error = Counter(record.error for record in records).most_common(1)[0][0]
        own = all(not record.failed for record in records)
        hint = "fewer --few-shot examples, or a model that reads more" if own else "is the model the right one?"
        raise RequestError(f"{task.name}: none of its {len(records):,} questions has an answer: {error}", hint=hint)


def _written(
    one: Prepared, records: Sequence[Record], folder: Path, found: Contamination | None, judge: OpenedJudge | None
) -> dict[str, Any]:
    lines = b"".join(_json(record.to_dict()) + b"\n" for record in records)
    write_durably(folder / "samples" / f"{one.task.name}.jsonl", lines)
    result = result_of(one, records)
    if judge is not None:
        result["judge"] = _judged(judge, records)
    if found is not None:
        clean = [record for record in records if not record.contaminated]
        result["contamination"] = {
            "documents": found.documents,
            "contaminated": len(records) - len(clean),
            "clean_metrics": _figures(one.task, clean),
        }
    return result


def _figures(task: Task, records: Sequence[Record]) -> dict[str, Any]:
    return {name: one.to_dict() for name, one in figures(task, records, task.measured).items()} if records else {}


def _judged(judge: OpenedJudge, records: Sequence[Record]) -> dict[str, Any]:
    """Whose judgement a task's figures are, and what it is worth."""
    name, config = judge.scorer.name, judge.config
    found = judged(records, config.scale, name=name, threshold=config.threshold)
    told: dict[str, Any] = {"name": name, "rubric": config.rubric, "scale": list(config.scale)}
    told |= {"threshold": config.threshold, "cost": judging_cost(records)}
    return told if found is None else {**told, **found.to_dict(), "sentence": found.text()}


def _compared(work: _Work, records: dict[str, list[Record]], judges: dict[str, OpenedJudge]) -> dict[str, Any]:
    assert work.against is not None
    document = read_evaluation(work.against)
    others = {one["task"]: read_records(work.against, one["task"]) for one in document["tasks"]}
    name, other = work.opened.subject.name, document["model"]["name"]
    names = (name, other) if name != other else (f"{name} (this)", f"{other} (against)")
    compared = compare_records(records, others, names=names, seed=work.config.seed)
    told = {"artifact": work.against.name, "model": document["model"], "comparisons": compared}
    preferred = {}
    for one in work.prepared:
        judge = judges.get(one.task.name)
        if judge is not None and judge.config.pairs and one.task.name in others:
            samples = [question.sample for question in one.questions]
            a, b = ([answered_of(record) for record in each[one.task.name]] for each in (records, others))
            how: dict[str, Any] = {"config": judge.config, "names": names, "threshold": judge.config.threshold}
            preferred[one.task.name] = judge_pairs(judge.chat, samples, a, b, concurrency=8, **how).to_dict()
    return told | ({"preferences": preferred} if preferred else {})


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
    failed = sum(record.failed for record in records)
    told: dict[str, Any] = {}
    if task.kind in ("choice", "context"):
        told["chance"] = sum(len(record.golds) / len(record.choices) for record in records) / len(records)
    if failed:
        told["answered_metrics"] = _figures(task, [record for record in records if not record.failed])
    if task.kind == "generation" and (corpus := _corpus(one, records)):
        told["corpus"] = corpus
    return {
        "task": task.name,
        "title": task.title,
        "kind": task.kind,
        "samples": len(records),
        "few_shot": one.few_shot,
        "metrics": _figures(task, records),
        "groups": {name: {m: f.to_dict() for m, f in own.items()} for name, own in groups.items()},
        "errors": len(errors),
        "failed": failed,
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
        **told,
    }


def _corpus(one: Prepared, records: Sequence[Record]) -> dict[str, Any]:
    """Figures over all samples that are not the mean of theirs (BLEU)."""
    samples = [question.sample for question in one.questions]
    return Judging(one.task).corpus(samples, [record.answer for record in records])


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
