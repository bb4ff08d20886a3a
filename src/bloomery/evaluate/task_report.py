"""Task report: a task of an evaluation as a report to read, beside the one that it was compared with.

This module does not know how records came about, nor HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError
from bloomery.evaluate.evaluation import read_evaluation, read_records
from bloomery.evaluate.judge_calibration import JudgedScore
from bloomery.evaluate.report import EvaluationReport, build_report
from bloomery.evaluate.sample import Score
from bloomery.evaluate.tasks import Record
from bloomery.evaluate.tasks.record import answered_of, sample_of
from bloomery.evaluate.tasks.task_judge import judged

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
    told = {key: result[key] for key in ("kind", "few_shot", "chance", "files", "licence", "source") if result.get(key)}
    dirty = [record.id for record in found if record.contaminated]
    checked = {**result["contamination"], "ids": dirty} if "contamination" in result else None
    return build_report(
        {"name": task, "description": result["title"], **told},
        [sample_of(record) for record in found],
        {arm: [answered_of(record) for record in records] for arm, records in arms.items()},
        {arm: _scores(records, metrics) for arm, records in arms.items()},
        main=metrics[0],
        corpus={name: result["corpus"]} if "corpus" in result else None,
        judged=_judged(result, arms),
        contamination=checked,
        notes=_notes(result),
        made={"artifact": artifact.name},
    )


def _notes(result: Mapping[str, Any]) -> list[str]:
    notes = [result["note"]] if result["note"] else []
    if result["failed"]:
        without = ", ".join(f"{name} {one['value']:.4g}" for name, one in result["answered_metrics"].items())
        notes.append(f"{result['failed']:,} questions failed on the way and count as wrong; without them: {without}")
    return notes


def _judged(
    result: Mapping[str, Any], arms: Mapping[str, Sequence[Record]]
) -> dict[str, dict[str, JudgedScore]] | None:
    """By arm and judge; None for a task that has none."""
    judge = result.get("judge")
    if judge is None:
        return None
    name, scale = judge["name"], tuple(judge["scale"])
    found = {arm: judged(own, scale, name=name, threshold=judge["threshold"]) for arm, own in arms.items()}
    return {arm: {name: one} for arm, one in found.items() if one is not None}


def _scores(records: Sequence[Record], metrics: Sequence[str]) -> list[Score]:
    return [
        Score(
            sample_id=record.id,
            scorer=metric,
            value=record.scores.get(metric, 0.0),
            answer=taken if (taken := str(record.details.get(metric, {}).get("answer", ""))) != record.answer else "",
            why=str(record.details.get(metric, {}).get("why", "")),
        )
        for record in records
        for metric in metrics
    ]
