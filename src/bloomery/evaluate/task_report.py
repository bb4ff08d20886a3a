"""Task report: a task of an evaluation as a report to read, beside the one that it was compared with.

This module does not know how records came about, nor HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError
from bloomery.evaluate.evaluation import read_evaluation, read_records
from bloomery.evaluate.report import EvaluationReport, build_report
from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.tasks import Record

_NO_SCORES = frozenset({"nats", "words", "bytes", "answers"})


def report_of(artifact: Artifact, task: str, *, against: Artifact | None = None) -> EvaluationReport:
    """One task of an evaluation; `against` is another evaluation of the same samples. ConfigError for a task that is
    not in it, or has no scores of samples (perplexity of texts)."""
    document = read_evaluation(artifact)
    results = {one["task"]: one for one in document["tasks"]}
    if task not in results:
        raise ConfigError(f"{artifact.name} has no task {task!r:.60}", hint=", ".join(results))
    found = read_records(artifact, task)
    name = document["model"]["name"]
    arms = {name: found}
    if against is not None:
        other = read_evaluation(against)["model"]["name"]
        arms[other if other != name else f"{other} ({against.name})"] = read_records(against, task)
    metrics = [metric for metric in found[0].scores if metric not in _NO_SCORES]
    if not metrics:
        raise ConfigError(f"{task} has no scores of single samples", hint="its figures are in the artifact")
    result = results[task]
    told = {key: result[key] for key in ("kind", "few_shot", "files", "licence", "source") if result[key]}
    dirty = [record.id for record in found if record.contaminated]
    checked = {**result["contamination"], "ids": dirty} if "contamination" in result else None
    return build_report(
        {"name": task, "description": result["title"], **told},
        [_sample(record) for record in found],
        {arm: [_answered(record) for record in records] for arm, records in arms.items()},
        {arm: _scores(records, metrics) for arm, records in arms.items()},
        main=metrics[0],
        contamination=checked,
        notes=[result["note"]] if result["note"] else (),
        made={"artifact": artifact.name},
    )


def _sample(record: Record) -> Sample:
    choices = tuple(dict.fromkeys(record.choices))
    return Sample(
        id=record.id,
        input=record.input,
        targets=record.targets,
        choices=choices if len(choices) > 1 else (),
        cluster=record.cluster,
    )


def _answered(record: Record) -> Answered:
    each = zip(record.choices, record.nats, record.tokens, strict=False)
    details = {
        f"choice {n}": f"{choice}  ({nats:.3f} nats, {tokens} tokens)" for n, (choice, nats, tokens) in enumerate(each)
    }
    return Answered(
        sample_id=record.id,
        text=record.answer,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        seconds=record.seconds,
        energy_joules=record.energy_joules,
        error=record.error,
        details=details,
    )


def _scores(records: Sequence[Record], metrics: Sequence[str]) -> list[Score]:
    return [
        Score(
            sample_id=record.id,
            scorer=metric,
            value=record.scores.get(metric, 0.0),
            why=str(record.details.get(metric, {}).get("why", "")),
        )
        for record in records
        for metric in metrics
    ]
