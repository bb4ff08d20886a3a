"""Columns: the usual spellings of a choice are a choice, whichever way the right one is written; the rest is told."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.evaluate.tasks.columns import Columns, columns_of, rows_of
from bloomery.evaluate.tasks.rows import Row

CHOICES = ["wind", "a furnace", "the moon", "salt"]
LETTERS = dict(zip("ABCD", CHOICES, strict=True))
ASKED = "What melts iron?"


def read(*values: dict[str, Any]) -> list[dict[str, Any]]:
    found = columns_of(values[0], "mine.csv")
    assert found is not None
    _, rows = rows_of(found, [Row(one, f"mine.csv:{n}", "mine") for n, one in enumerate(values, 2)])
    return [row.values for row in rows]


@pytest.mark.parametrize(
    "row",
    [
        {"question": ASKED, **LETTERS, "answer": "B"},
        {"Question": ASKED, **{k.lower(): v for k, v in LETTERS.items()}, "Correct Answer": "(b)"},
        {"query": ASKED, **{f"option_{k}": v for k, v in LETTERS.items()}, "gold": "B."},
        {"prompt": ASKED, **{f"Option {n}": v for n, v in enumerate(CHOICES, 1)}, "label": "2"},
        {"question": ASKED, **{f"choice{n}": v for n, v in enumerate(CHOICES)}, "answer": "1"},
        {"Stem": ASKED, **{f"ans{k}": v for k, v in LETTERS.items()}, "answer_key": "a furnace"},
        {"question": ASKED, "choices": CHOICES, "answer": "B"},
        {"question": ASKED, "options": LETTERS, "answer_idx": "B"},
        {"question": ASKED, "choices": {"text": CHOICES, "label": list("ABCD")}, "answerKey": "B"},
        {"input": ASKED, "choices": [{"label": k, "text": v} for k, v in LETTERS.items()], "target": 1},
        {"question": ASKED, "choices": str(CHOICES), "answer": 1.0},
        {"question": ASKED, "options": "wind|a furnace|the moon|salt", "correct": "a furnace"},
    ],
)
def test_spellings_of_a_choice(row: dict[str, Any]):
    (values,) = read(row)
    assert (values["question"], values["choices"], values["answer"]) == (ASKED, CHOICES, 1)


def test_wrong_choices_beside_the_right_one():
    rows = (
        {"question": ASKED, "correct_answer": "a furnace", **{f"distractor{n}": CHOICES[n] for n in (2, 3)}},
        {"question": ASKED, "correct_answer": "a furnace", "incorrect_answers": CHOICES[2:]},
    )
    with_one = {"question": ASKED, "correct_answer": "a furnace", "distractor1": "the moon", "distractor2": "salt"}
    for row in (with_one, rows[1]):
        (values,) = read(row)
        assert values["choices"][values["answer"]] == "a furnace"
        assert sorted(values["choices"]) == values["choices"] == ["a furnace", "salt", "the moon"]


def test_a_column_for_each_wrong_choice_is_not_cut():
    row = {"question": ASKED, "correct_answer": "a furnace", "distractor1": "wind; rain | hail", "distractor2": ""}
    (values,) = read({**row, "distractor3": "salt"})
    assert values["choices"] == ["a furnace", "salt", "wind; rain | hail"] and values["answer"] == 0
    with pytest.raises(DataError):
        read({"question": ASKED, "correct_answer": "a furnace", "incorrect_answers": ["salt"]}, {**row})


def test_ten_choices_by_number_are_in_their_order():
    row = {"question": ASKED, "options": {str(n): f"choice {n}" for n in range(1, 12)}}
    assert [one["answer"] for one in read({**row, "answer": "2"}, {**row, "answer": "11"})] == [1, 10]
    (values,) = read({**row, "answer": "10"})
    assert values["choices"][values["answer"]] == "choice 10"


def test_the_whole_file_says_how_right_ones_are_written():
    """ "2" is the third of choices that are counted from 0, the second of those from 1, or a choice's own text."""
    row = {"question": ASKED, "choices": CHOICES}
    assert [one["answer"] for one in read({**row, "answer": 2}, {**row, "answer": 0})] == [2, 0]
    assert [one["answer"] for one in read({**row, "answer": 2}, {**row, "answer": 4})] == [1, 3]
    numbers = {"question": "1 + 1?", "choices": ["3", "2"]}
    assert [one["answer"] for one in read({**numbers, "answer": "2"}, {**numbers, "answer": "3"})] == [1, 0]
    named = {"question": ASKED, **{f"option{n}": v for n, v in enumerate(CHOICES, 1)}}
    assert [one["answer"] for one in read({**named, "answer": 2}, {**named, "answer": 3})] == [1, 2]


def test_rows_may_have_fewer_choices():
    first, second = read(
        {"question": ASKED, **LETTERS, "answer": "D"},
        {"question": "Hot?", "A": "yes", "B": "no", "C": "", "D": "", "answer": "A"},
    )
    assert (len(first["choices"]), second["choices"], second["answer"]) == (4, ["yes", "no"], 0)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": ASKED, **LETTERS, "answer": "B"}, {"question": ASKED, **LETTERS, "answer": "E"}], "mine.csv:3"),
        ([{"question": ASKED, **LETTERS, "answer": "B"}, {"question": ASKED, **LETTERS, "answer": ""}], "mine.csv:3"),
        ([{"question": ASKED, "choices": CHOICES, "answer": "B"}, {"question": ASKED, "answer": "A"}], "mine.csv:3"),
    ],
)
def test_a_row_that_does_not_fit_is_told_with_its_line(rows: list[dict[str, Any]], said: str):
    with pytest.raises(DataError) as caught:
        read(*rows)
    assert said in caught.value.one_line() and "\n" not in caught.value.one_line()


def test_half_a_choice_is_no_free_answer():
    for row in ({"question": ASKED, **LETTERS}, {**LETTERS, "answer": "B"}):
        with pytest.raises(ConfigError) as caught:
            columns_of(row, "mine.csv")
        assert "[columns]" in caught.value.hint


def test_free_answers():
    assert read({"Instruction": "Say yes", "Response": "yes"})[0] == {"input": "Say yes", "targets": ["yes"]}
    assert read({"question": "?", "answers": ["a", "b"]})[0]["targets"] == ["a", "b"]
    assert columns_of({"text": "so"}, "f") is None and columns_of({"input": "a", "goal": "b"}, "f") is None
    assert columns_of({"query": "q", "choices": ["a", "b"], "gold": [0, 1]}, "f") is None  # several are right


def test_what_was_read_is_said():
    found = columns_of({"Q": ASKED, **LETTERS, "Answer": "B"}, "f")
    assert found is not None and found.settled([]).text() == (
        "read as a choice: 'Q' is asked, choices in 'A' to 'D', right is 'Answer'"
    )
    settled, _ = rows_of(found, [Row({"Q": ASKED, **LETTERS, "Answer": "B"}, "f:2", "f")])
    assert settled.written == "letter" and settled.text().endswith("right is 'Answer' (a letter)")
    for wrong in ({"question": "q"}, {"question": "q", "answer": "a", "choices": ("c",), "wrong": ("w",)}):
        with pytest.raises(BloomeryError):
            Columns(**wrong)
