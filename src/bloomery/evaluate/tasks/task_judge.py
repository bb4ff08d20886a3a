"""Task judge: the model that judges a task's answers, as its file says it, and what that judging is worth.

    [judge]
    model = "http://127.0.0.1:8001/v1#large"
    rubric = "Is the tone friendly?"
    labels = "labels.jsonl"

People's labels are rows with the `id` of a sample, a `label` of the scale, and the `answer` that was labelled: a label
of another answer says nothing, and is not used. This module does not know how models are opened or asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import ConfigError, DataError
from bloomery.core.quantity import Quantity
from bloomery.evaluate.judge import JudgeConfig
from bloomery.evaluate.judge_calibration import THRESHOLD, JudgedScore, judged_score
from bloomery.evaluate.sample import Score
from bloomery.evaluate.tasks.rows import read_rows

if TYPE_CHECKING:
    from bloomery.evaluate.tasks.record import Record

JUDGE = "judge"
"""The metric's name."""


@dataclass(frozen=True, kw_only=True)
class TaskJudge(JudgeConfig):
    """Who judges, how it is asked, and what it is held against."""

    model: str = ""
    """Artifact, folder, hub id, or a server's address up to the version: ADDRESS#NAME."""
    labels: str = ""
    """A file of people's labels, beside the task's: rows with id, label and answer."""
    threshold: float = THRESHOLD
    """The judge is calibrated once the lower end of kappa's interval is here."""
    pairs: bool = False
    """Beside another evaluation it is also asked, in both orders, which of two answers is better."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise ConfigError("which model judges?", hint='[judge] with model = "..."')


def read_labels(path: Path, scale: Sequence[str]) -> list[tuple[str, str, str | None]]:
    """(id, label, answer or None) of each row. DataError, with file and line, for one that is no label of the scale."""
    found = []
    for row in read_rows(path):
        identity, label = row.values.get("id"), row.values.get("label")
        if identity is None or label is None:
            raise DataError(f"{row.where} lacks id or label", hint="a row is {id, label, answer}")
        if str(label) not in scale:
            raise DataError(f"{row.where}: {str(label)!r:.40} is not on the scale", hint=", ".join(scale))
        answer = row.values.get("answer")
        found.append((str(identity), str(label), None if answer is None else str(answer)))
    return found


def labelled(records: Sequence[Record], labels: Sequence[tuple[str, str, str | None]]) -> list[Record]:
    """The records with people's labels of their answers in their details."""
    by_id: dict[str, list[tuple[str, str | None]]] = {}
    for identity, label, answer in labels:
        by_id.setdefault(identity, []).append((label, answer))
    made = []
    for record in records:
        fitting = [label for label, answer in by_id.get(record.id, ()) if answer is None or answer == record.answer]
        if fitting and JUDGE in record.details:
            details = {**record.details, JUDGE: {**record.details[JUDGE], "label": fitting[-1]}}
            record = replace(record, details=details)
        made.append(record)
    return made


def judged(records: Sequence[Record], scale: Sequence[str], *, name: str, threshold: float) -> JudgedScore | None:
    """What the judge's scores of a task are worth, beside the labels in the records; None with fewer than two. Answers
    that failed, or that the judge could not be asked about, are none of them."""
    asked = [record for record in records if not record.error and JUDGE in record.details]
    if len(asked) < 2:
        return None
    scores = [
        Score(
            sample_id=record.id,
            scorer=name,
            value=record.scores.get(JUDGE, 0.0),
            answer=str(record.details[JUDGE].get("answer", "")),
            details=record.details[JUDGE],
        )
        for record in asked
    ]
    labels = {record.id: str(one["label"]) for record in asked if "label" in (one := record.details[JUDGE])}
    clusters = {record.id: record.cluster for record in asked if record.cluster}
    return judged_score(scores, labels, scale, clusters=clusters or None, threshold=threshold)


def judging_cost(records: Sequence[Record]) -> dict[str, Any]:
    """What judging took: sums, None and unknown where one of them was not told."""
    each: list[Mapping[str, Any]] = [one for record in records if (one := record.details.get(JUDGE, {})).get("asked")]
    joules = Quantity.exact(0.0, "counter")
    for one in each:
        joules = joules + Quantity.from_dict(one["energy_joules"])
    tokens = [one["tokens"] for one in each]
    return {
        "answers": len(each),
        "tokens": None if None in tokens else sum(tokens),
        "seconds": sum(one["seconds"] for one in each),
        "energy_joules": joules.to_dict(),
    }
