"""Label Studio's JSON: out and in again, an export as it documents it, and what people may do to one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bloomery.core.errors import DataError
from bloomery.corpus.annotation.label_studio import interface, read_export, tasks
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.annotation.store import Annotation
from bloomery.corpus.document import Document

DOCUMENT = Document.of("A text & more", "s", {"candidates": ["one", "other"], "row": 3})
THREE = Document.of("Order", "s", {"candidates": ["a", "b", "c"]})
QUESTIONS = {
    "choice": (Question(name="q", kind="choice", instruction="Which <one>?", labels=("a", 'b "c"')), DOCUMENT, 'b "c"'),
    "choices": (Question(name="q", kind="choices", instruction="?", labels=("a", "b", "c")), DOCUMENT, ["a", "c"]),
    "rating": (Question(name="q", kind="rating", instruction="?", low=0, high=4), DOCUMENT, 0),
    "pairwise": (Question(name="q", kind="pairwise", instruction="?"), DOCUMENT, "right"),
    "tie": (Question(name="q", kind="pairwise", instruction="?", tie=True), DOCUMENT, "tie"),
    "ranking": (Question(name="q", kind="ranking", instruction="?"), THREE, [2, 0, 1]),
    "text": (Question(name="q", kind="text", instruction="Rewrite."), DOCUMENT, "Two\nlines"),
}
CHOICE = QUESTIONS["choice"][0]


def export(tmp_path: Path, listed: Any) -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(listed))
    return path


def annotated(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A task as a project's export has it, with one annotation."""
    annotation = {
        "id": 1001,
        "completed_by": 10,
        "result": list(results),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2021-03-09T22:16:08.728353Z",
        "updated_at": "2021-03-09T22:16:08.728378Z",
        "lead_time": 4.288,
        "task": 1,
        **more,
    }
    data = {"text": "From elsewhere"}
    return {"id": 1, "data": data, "annotations": [annotation], "predictions": [], "project": 83}


def choice(*labels: str) -> dict[str, Any]:
    return {"id": "Dx_a", "from_name": "answer", "to_name": "text", "type": "choices", "value": {"choices": [*labels]}}


@pytest.mark.parametrize("kind", QUESTIONS)
def test_what_goes_out_comes_in_again(tmp_path: Path, kind: str):
    question, document, value = QUESTIONS[kind]
    by_person = Annotation(
        item=document.id, annotator="anna@example.org", kind="person", value=value, time=1e9, seconds=3.5
    )
    by_model = Annotation(item=document.id, annotator="m", kind="model", value=value)
    made = list(tasks(question, [document], {document.id: [by_person, by_model]}))
    found = read_export(export(tmp_path, made), question, {document.id: document}, predictions=True)
    assert not found.skipped
    person, model = (one for _, one in found.answers)
    assert (person.value, person.annotator, person.kind, person.time, person.seconds) == (
        value,
        "anna@example.org",
        "person",
        1e9,
        3.5,
    )
    assert (model.value, model.annotator, model.kind) == (value, "m", "model")
    assert all(one == document for one, _ in found.answers)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_the_interface_is_xml_whose_names_are_those_of_results(kind: str):
    question, document, value = QUESTIONS[kind]
    root = ElementTree.fromstring(interface(question))
    names = {one.get("name") for one in root.iter() if one.get("name")}
    task = next(tasks(question, [document], {}))
    for one in root.iter():
        if (read := one.get("value", "")).startswith("$"):
            assert read[1:] in task["data"]
    told = Annotation(item=document.id, annotator="m", kind="model", value=value)
    result = next(tasks(question, [document], {document.id: [told]}))["predictions"][0]["result"][0]
    assert result["from_name"] in names and set(result["to_name"].split(",")) <= names
    if kind == "choice":
        assert [one.get("value") for one in root.iter("Choice")] == list(question.labels)


def test_a_prediction_says_how_sure_it_is():
    told = Annotation(
        item=DOCUMENT.id, annotator="m", kind="model", value="a", probabilities={"a": 0.75, 'b "c"': 0.25}
    )
    task = next(tasks(CHOICE, [DOCUMENT], {DOCUMENT.id: [told]}))
    assert task["predictions"][0]["score"] == 0.75 and task["data"]["bloomery_id"] == DOCUMENT.id


def test_an_export_from_elsewhere(tmp_path: Path):
    found = read_export(export(tmp_path, [annotated(choice("a"))]), CHOICE, {})
    document, one = found.answers[0]
    assert document == Document.of("From elsewhere", document.source)
    assert (one.value, one.annotator, one.seconds) == ("a", "user-10", 4.288)
    assert one.time == pytest.approx(1615328168.728378) and one.detail["id"] == 1001


def test_the_same_text_is_the_same_document(tmp_path: Path):
    known = Document.of("From elsewhere", "corpus", {"row": 1})
    assert read_export(export(tmp_path, [annotated(choice("a"))]), CHOICE, {known.id: known}).answers[0][0] == known


def test_an_annotation_is_known_again_and_a_changed_one_is_another(tmp_path: Path):
    def origin(*results: dict[str, Any], **more: Any) -> str:
        return read_export(export(tmp_path, [annotated(*results, **more)]), CHOICE, {}).answers[0][1].origin

    first = origin(choice("a"))
    assert first == origin(choice("a"))
    assert first != origin(choice("a"), updated_at="2021-03-10T00:00:00Z") != origin(choice('b "c"'))


def test_numbers_that_json_has_not(tmp_path: Path):
    task = annotated(choice("a"))
    task["data"]["metadata"] = {"score": float("nan")}
    assert read_export(export(tmp_path, [task]), CHOICE, {}).answers[0][0].metadata == {"score": None}


def test_skipped_ones_are_kept_as_no_answer_and_gold_is_told(tmp_path: Path):
    listed = [annotated(was_cancelled=True), annotated(choice("a"), ground_truth=True, id=2)]
    (_, skipped), (_, gold) = read_export(export(tmp_path, listed), CHOICE, {}).answers
    assert skipped.value is None and skipped.detail["skipped"] is True
    assert gold.value == "a" and gold.detail["ground_truth"] is True


@pytest.mark.parametrize(
    "task, reason",
    [
        (annotated(choice("eggs")), "no_answer"),
        (annotated(choice("a", 'b "c"')), "no_answer"),
        (annotated(), "no_answer"),
        (annotated({"type": "choices"}), "no_answer"),
        (annotated({"type": "rating", "value": {"rating": 3}}), "no_answer"),
        ({"data": {"image": "x.png"}, "annotations": []}, "no_text"),
        ({"data": {"text": "t"}, "annotations": [7]}, "no_annotation"),
        (3, "no_data"),
    ],
)
def test_what_makes_no_sense_is_skipped_and_named(tmp_path: Path, task: Any, reason: str):
    found = read_export(export(tmp_path, [task, annotated(choice("a"))]), CHOICE, {})
    assert found.skipped == {reason: 1} and len(found.answers) == 1
    assert "export.json, task" in found.listed[0]


@pytest.mark.parametrize("text", ["", "{", "3", '"text"', '[{"text": "a", "answer": "b"}]', "[" * 100_000])
def test_files_that_are_no_export(tmp_path: Path, text: str):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(DataError, match="export"):
        read_export(tmp_path / "export.json", CHOICE, {})
    with pytest.raises(DataError, match="cannot read"):
        read_export(tmp_path / "none.json", CHOICE, {})
