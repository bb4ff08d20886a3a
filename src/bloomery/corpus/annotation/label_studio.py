"""Label Studio: tasks with predictions out, annotations of people in, as its JSON has them.

A task's `data` holds the document's id, text, source and metadata, and the candidates where some are compared;
`results` are of the types choices, rating, pairwise, ranker and textarea, for the labelling interface that `interface`
gives. What comes in may be a project's whole export (JSON, not JSON-MIN or CSV), and may come again: an annotation is
known by its id and when it was changed. Source: labelstud.io/guide/task_format, /guide/export, /tags. This module does
not know the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from bloomery.core.config import digest
from bloomery.core.errors import DataError
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.annotation.store import Annotation
from bloomery.corpus.document import Document, readable

FROM, TO, OTHER = "answer", "text", "other"
_ID, _SOURCE, _METADATA, _CANDIDATES = "bloomery_id", "source", "metadata", "candidates"
_TYPES = {
    "choice": "choices",
    "choices": "choices",
    "rating": "rating",
    "pairwise": "pairwise",
    "ranking": "ranker",
    "text": "textarea",
}
_MAX_FILE_BYTES = 1 << 30
MAX_LISTED = 100


@dataclass
class Imported:
    """Answers with their documents; `skipped` counts what gave none, by reason, `listed` names the first of them."""

    answers: list[tuple[Document, Annotation]] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)

    def skip(self, reason: str, where: str, detail: str = "") -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(f"{where}: {reason.replace('_', ' ')}" + (f" ({detail})" if detail else ""))


def interface(question: Question) -> str:
    """The labelling interface (XML) whose results are read here."""
    lines = ["<View>", f"  <Header value={_attribute(question.instruction)}/>"]
    if question.kind == "pairwise":
        lines += [
            f'  <Text name="prompt" value="${TO}"/>',
            f'  <Pairwise name="{FROM}" toName="{TO},{OTHER}"/>',
            f'  <Text name="{TO}" value="$left"/>',
            f'  <Text name="{OTHER}" value="$right"/>',
        ]
        if question.tie:
            lines.append(f'  <Choices name="tie" toName="{TO}" choice="single"><Choice value="tie"/></Choices>')
    elif question.kind == "ranking":
        lines += [
            f'  <Text name="prompt" value="${TO}"/>',
            f'  <List name="{TO}" value="${_CANDIDATES}"/>',
            f'  <Ranker name="{FROM}" toName="{TO}"/>',
        ]
    else:
        lines.append(f'  <Text name="{TO}" value="${TO}"/>')
        lines += _control(question)
    return "\n".join([*lines, "</View>"]) + "\n"


def _control(question: Question) -> list[str]:
    if question.kind == "rating":
        return [f'  <Rating name="{FROM}" toName="{TO}" maxRating="{question.high - question.low + 1}"/>']
    if question.kind == "text":
        return [f'  <TextArea name="{FROM}" toName="{TO}" value="${TO}" maxSubmissions="1" editable="true"/>']
    single = "single" if question.kind == "choice" else "multiple"
    labels = [
        f"    <Choice value={_attribute(label)}"
        + (f" hint={_attribute(question.guidelines[label])}" if label in question.guidelines else "")
        + "/>"
        for label in question.labels
    ]
    return [f'  <Choices name="{FROM}" toName="{TO}" choice="{single}">', *labels, "  </Choices>"]


def _attribute(text: str) -> str:
    return quoteattr(text)


def tasks(
    question: Question, documents: Iterable[Document], answers: Mapping[str, Sequence[Annotation]]
) -> Iterator[dict[str, Any]]:
    """One task a document, with the answers of models and rules as predictions and those of people as annotations."""
    for number, document in enumerate(documents, 1):
        data: dict[str, Any] = {TO: document.text, _ID: document.id, _SOURCE: document.source}
        data[_METADATA] = document.metadata
        if question.kind == "pairwise":
            data |= dict(zip(("left", "right"), question.candidates(document), strict=True))
        elif question.kind == "ranking":
            texts = question.candidates(document)
            data[_CANDIDATES] = [{"id": str(n), "title": f"{n + 1}", "body": one} for n, one in enumerate(texts)]
        said = [one for one in answers.get(document.id, ()) if one.value is not None]
        yield {
            "id": number,
            "data": data,
            "annotations": [_annotation(question, one) for one in said if one.kind == "person"],
            "predictions": [_prediction(question, one) for one in said if one.kind != "person"],
        }


def _annotation(question: Question, one: Annotation) -> dict[str, Any]:
    when = datetime.fromtimestamp(one.time or 0).astimezone().isoformat()
    told = {"completed_by": {"email": one.annotator}, "result": [_result(question, one.value)]}
    return {**told, "was_cancelled": False, "created_at": when, "lead_time": one.seconds}


def _prediction(question: Question, one: Annotation) -> dict[str, Any]:
    told: dict[str, Any] = {"model_version": one.annotator, "result": [_result(question, one.value)]}
    if one.probabilities and isinstance(one.value, str) and one.value in one.probabilities:
        told["score"] = one.probabilities[one.value]
    return told


def _result(question: Question, value: Any) -> dict[str, Any]:
    kind = _TYPES[question.kind]
    if kind == "choices":
        held: Any = [value] if isinstance(value, str) else value
    elif kind == "rating":
        held = value - question.low + 1
    elif kind == "textarea":
        held = [value]
    elif kind == "ranker":
        held = {FROM: [str(one) for one in value]}
    else:
        held = value
    target = f"{TO},{OTHER}" if kind == "pairwise" else TO
    if kind == "pairwise" and value == "tie":
        return {"id": "r0", "from_name": "tie", "to_name": TO, "type": "choices", "value": {"choices": ["tie"]}}
    name = {"textarea": "text", "pairwise": "selected"}.get(kind, kind)
    return {"id": "r0", "from_name": FROM, "to_name": target, "type": kind, "value": {name: held}}


def read_export(
    path: str | Path, question: Question, documents: Mapping[str, Document], *, predictions: bool = False
) -> Imported:
    """The annotations of a file; with `predictions` also what models said there. What makes no sense is skipped and
    told.

    A task belongs to the document whose id it carries, or whose text it is; one of neither is a document of its own.
    DataError for a file that is no export.
    """
    listed = _tasks_of(Path(path))
    found = Imported()
    for number, task in enumerate(listed, 1):
        where = f"{path}, task {task.get('id', number) if isinstance(task, dict) else number}"
        document = _document(task, documents, question, str(path))
        if isinstance(document, str):
            found.skip(document, where)
            continue
        for place, one in enumerate(_list(task, "annotations")):
            _take(found, question, document, one, f"{where}, annotation {place + 1}", person=True)
        if predictions:
            for place, one in enumerate(_list(task, "predictions")):
                _take(found, question, document, one, f"{where}, prediction {place + 1}", person=False)
    return found


def _tasks_of(path: Path) -> list[Any]:
    hint = "export the project as JSON (not JSON-MIN, CSV or TSV)"
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise DataError(f"{path} is larger than {_MAX_FILE_BYTES >> 30} GiB", hint="export it in parts")
        listed = json.loads(path.read_bytes(), parse_constant=lambda _: None)  # NaN, which is not JSON
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {str(error)[:100]}", hint=hint) from error
    listed = [listed] if isinstance(listed, dict) else listed
    if not isinstance(listed, list) or (listed and not any(isinstance(t, dict) and "data" in t for t in listed)):
        raise DataError(f"{path} is no list of Label Studio's tasks", hint=hint)
    return listed


def _document(task: Any, documents: Mapping[str, Document], question: Question, path: str) -> Document | str:
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        return "no_data"
    if (known := documents.get(str(data.get(_ID)))) is not None:
        return known
    text = data.get(TO)
    if not isinstance(text, str) or not text:
        return "no_text"
    metadata = data.get(_METADATA)
    made = Document.of(readable(text), str(data.get(_SOURCE) or path), metadata if isinstance(metadata, dict) else {})
    return documents.get(made.id, made)


def _list(task: Mapping[str, Any], name: str) -> list[Any]:
    value = task.get(name)
    return value if isinstance(value, list) else []


def _take(found: Imported, question: Question, document: Document, one: Any, where: str, *, person: bool) -> None:
    if not isinstance(one, dict):
        return found.skip("no_annotation", where)
    who = _who(one.get("completed_by")) if person else str(one.get("model_version") or "unknown model")
    told = {"id": one.get("id"), "updated_at": one.get("updated_at") or one.get("created_at")}
    if one.get("ground_truth"):
        told["ground_truth"] = True
    seconds = one.get("lead_time")
    made: dict[str, Any] = {
        "item": document.id,
        "annotator": who,
        "kind": "person" if person else "model",
        "detail": {name: value for name, value in told.items() if value is not None},
        "time": _moment(told["updated_at"]),
        "seconds": float(seconds) if isinstance(seconds, (int, float)) and seconds >= 0 else None,
    }
    value = None
    if not one.get("was_cancelled"):
        try:
            value = _value(question, _list(one, "result"))
        except DataError as error:
            return found.skip("no_answer", where, error.message)
    else:
        made["detail"]["skipped"] = True
    origin = "label-studio:" + digest([told, one.get("result"), one.get("task")])[:16]
    found.answers.append((document, Annotation(**made, value=value, origin=origin)))
    return None


def _who(told: Any) -> str:
    """The address, or the number that Label Studio gives people."""
    if isinstance(told, dict):
        told = told.get("email") or told.get("id")
    return f"user-{told}" if isinstance(told, int) else str(told or "unknown person")


def _value(question: Question, results: Sequence[Any]) -> Any:
    """The answer in a list of results. DataError if none of them is one to the question."""
    kind = _TYPES[question.kind]
    for result in results:
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
            continue
        held = result["value"]
        if question.kind == "pairwise" and result.get("type") == "choices" and held.get("choices") == ["tie"]:
            return question.checked("tie")
        if result.get("type") == kind:
            return question.checked(_held(question, kind, held))
    raise DataError(f"no result of the type {kind}", hint="bloomery annotate export prints the interface")


def _held(question: Question, kind: str, held: Mapping[str, Any]) -> Any:
    value = held.get({"textarea": "text", "pairwise": "selected"}.get(kind, kind))
    if question.kind == "choice" and isinstance(value, list) and len(value) == 1:
        return value[0]
    if kind == "textarea" and isinstance(value, list):
        return "\n".join(str(one) for one in value)
    if kind == "rating" and isinstance(value, (int, float)):
        return value + question.low - 1
    if kind == "ranker":
        if isinstance(value, dict) and len(value) == 1:
            value = next(iter(value.values()))
        if isinstance(value, list) and all(isinstance(one, str) and one.isdecimal() for one in value):
            return [int(one) for one in value]
    return value


def _moment(told: Any) -> float | None:
    try:
        return datetime.fromisoformat(str(told)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
