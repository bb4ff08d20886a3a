"""Questions and what counts as an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.annotation.question import Question, read_question
from bloomery.corpus.document import Document

BASE: dict[str, Any] = {"name": "q", "instruction": "?"}
KINDS: dict[str, dict[str, Any]] = {
    "choice": {"labels": ["a", "b"]},
    "choices": {"labels": ["a", "b", "c"]},
    "rating": {"low": 1, "high": 5},
    "pairwise": {"tie": True},
    "ranking": {},
    "text": {},
}


def question(kind: str, **more: Any) -> Question:
    return Question.of({**BASE, "kind": kind, **KINDS[kind], **more})


@pytest.mark.parametrize(
    "kind, given, kept",
    [
        ("choice", "a", "a"),
        ("choices", ["c", "a", "a"], ["a", "c"]),
        ("choices", [], []),
        ("rating", 5, 5),
        ("rating", 4.0, 4),
        ("pairwise", "tie", "tie"),
        ("ranking", [2, 0, 1], [2, 0, 1]),
        ("text", " any ", " any "),
    ],
)
def test_answers(kind: str, given: Any, kept: Any):
    assert question(kind).checked(given) == kept


@pytest.mark.parametrize(
    "kind, given",
    [
        ("choice", "c"),
        ("choice", ["a"]),
        ("choice", None),
        ("choices", "a"),
        ("choices", ["a", "d"]),
        ("choices", [["a"]]),
        ("rating", 6),
        ("rating", 0),
        ("rating", 3.5),
        ("rating", True),
        ("rating", "3"),
        ("rating", float("nan")),
        ("rating", float("inf")),
        ("pairwise", "both"),
        ("ranking", [0, 0, 1]),
        ("ranking", [1, 2]),
        ("ranking", [0]),
        ("ranking", [True, False]),
        ("text", "  "),
        ("text", 3),
    ],
)
def test_what_is_none(kind: str, given: Any):
    with pytest.raises(DataError, match="no answer to"):
        question(kind).checked(given)


def test_a_tie_only_where_it_is_allowed_and_an_order_of_all_candidates():
    with pytest.raises(DataError):
        question("pairwise", tie=False).checked("tie")
    with pytest.raises(DataError):
        question("ranking").checked([1, 0], candidates=3)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "choice"},
        {"kind": "choice", "labels": ["a"]},
        {"kind": "choice", "labels": ["a", "a"]},
        {"kind": "choice", "labels": ["a", " b"]},
        {"kind": "text", "labels": ["a", "b"]},
        {"kind": "rating", "low": 5, "high": 1},
        {"kind": "choice", "labels": ["a", "b"], "guidelines": {"c": "?"}},
        {"kind": "choice", "labels": ["a", "b"], "examples": [{"text": "t", "answer": "c"}]},
        {"kind": "choice", "labels": ["a", "b"], "instruction": " "},
        {"kind": "choice", "labels": ["a", "b"], "name": ""},
        {"kind": "chioce", "labels": ["a", "b"]},
        {"kind": "choice", "label": ["a", "b"]},
    ],
)
def test_questions_that_cannot_be_answered(values: dict[str, Any]):
    with pytest.raises(ConfigError):
        Question.of({**BASE, **values})


def test_another_instruction_is_another_question():
    assert question("text").id == question("text").id
    assert question("text").id != question("text", instruction="??").id


def test_candidates():
    asked = question("pairwise")
    good = Document.of("prompt", "s", {"candidates": ["one", "other"]})
    assert asked.candidates(good) == ["one", "other"]
    for value in (None, ["one"], ["one", "two", "three"], "ab", [1, 2]):
        with pytest.raises(DataError, match="no list of two texts"):
            asked.candidates(Document.of("prompt", "s", {"candidates": value}))
    assert len(question("ranking").candidates(Document.of("p", "s", {"candidates": ["a", "b", "c"]}))) == 3


def test_from_a_file(tmp_path: Path):
    path = tmp_path / "q.toml"
    path.write_text(
        'name = "spam"\nkind = "choice"\ninstruction = "Spam?"\nlabels = ["ham", "spam"]\n'
        '[guidelines]\nspam = "nobody asked for it"\n[[examples]]\ntext = "win!"\nanswer = "spam"\n'
        '[[function]]\nname = "f"\nlabel = "spam"\nregex = "x"\n'
    )
    found = read_question(path)
    assert found.labels == ("ham", "spam") and found.examples[0].answer == "spam"
    assert Question.of(found.to_dict()) == found and found.measured == "nominal"


@pytest.mark.parametrize("text", ["name = ", 'name = "x"\nkid = "choice"', "\x00"])
def test_files_that_are_none_are_named(tmp_path: Path, text: str):
    (tmp_path / "q.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"q\.toml") as caught:
        read_question(tmp_path / "q.toml")
    assert caught.value.message.count("q.toml") == 1
    with pytest.raises(ConfigError, match="no such file"):
        read_question(tmp_path / "none.toml")
