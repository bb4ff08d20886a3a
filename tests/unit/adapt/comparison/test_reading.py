"""Rows of several kinds of file become the same samples; a row that makes no sense is named."""

from __future__ import annotations

import gzip
import json
import lzma

import pytest

from bloomery.adapt.comparison.reading import content_hash, read_samples
from bloomery.adapt.comparison.task import TaskConfig
from bloomery.core.errors import DataError

ROWS = [{"q": "Two, and two?", "a": "4"}, {"q": "Three?", "a": "3"}]


def test_formats_give_the_same_samples(tmp_path):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "x.jsonl").write_text("\ufeff" + lines, encoding="utf-8")
    (tmp_path / "x.csv").write_text('q,a\n"Two, and two?",4\nThree?,3\n', encoding="utf-8")
    (tmp_path / "x.tsv").write_text("q\ta\nTwo, and two?\t4\nThree?\t3\n", encoding="utf-8")
    (tmp_path / "x.jsonl.xz").write_bytes(lzma.compress(lines.encode()))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    names = ("x.jsonl", "x.csv", "x.tsv", "x.jsonl.xz", "x.jsonl.gz")
    found = [read_samples(TaskConfig(samples=str(tmp_path / name), input="q", target="a")) for name in names]
    assert all(one == found[0] for one in found) and found[0][0].targets == ("4",)


def read(tmp_path, *rows, **settings):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_samples(TaskConfig(samples=str(path), **settings))


def test_choices_targets_clusters_and_contexts(tmp_path):
    row = {"input": "?", "target": 1, "options": ["a", "b"], "who": 7, "text": "Once."}
    found = read(tmp_path, row, choices_column="options", cluster="who", context="text")[0]
    assert found.targets == ("b",) and found.cluster == "7" and found.input == "Once.\n\n?"
    assert found.metadata["question"] == "?"
    assert read(tmp_path, {"input": "?", "target": ["x", "y"]})[0].targets == ("x", "y")
    rubric = read(tmp_path, {"input": "?", "good": "is short"}, rubric="good")[0]
    assert rubric.targets == () and rubric.metadata["rubric"] == "is short"


@pytest.mark.parametrize(
    "row",
    [
        {"input": "", "target": "x"},
        {"input": 3, "target": "x"},
        {"input": "?"},
        {"input": "?", "target": True},
        {"input": "?", "target": 5, "options": ["a", "b"]},
        {"input": "?", "target": "c", "options": ["a", "b"]},
        {"input": "?", "target": "a", "options": "ab"},
    ],
)
def test_a_row_that_makes_no_sense_is_named(tmp_path, row):
    with pytest.raises(DataError, match=r"rows\.jsonl:1"):
        read(tmp_path, row, choices_column="options" if "options" in row else "")


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no samples"):
        read_samples(TaskConfig(samples=str(tmp_path / "gone.jsonl")))
    for name, data in (
        ("a.jsonl", b"{"),
        ("b.jsonl", b""),
        ("c.jsonl.xz", b"x"),
        ("d.jsonl", b"\xff\n"),
        ("e.jsonl", b"[]"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError):
            read_samples(TaskConfig(samples=str(tmp_path / name)))


def test_case_and_space_are_no_content():
    assert content_hash("Ｆree  ENTRY") == content_hash("free entry\n")
    assert content_hash("a", ("x", "y")) != content_hash("a", ("y", "x"))


def test_columns_of_numbers(tmp_path):
    rows = [{"amount": 12.5, "night": "1", "target": "a", "input": ""}, {"amount": 3, "night": 0, "target": "b"}]
    one, two = read(tmp_path, *rows, columns=("amount", "night"))
    assert one.metadata == {"amount": 12.5, "night": 1.0} and one.input == "amount 12.5, night 1" and one.id != two.id
    (told,) = read(tmp_path, {**rows[0], "input": "at night"}, columns=("amount",))
    assert told.input == "at night" and told.metadata == {"amount": 12.5}
    for wrong in ("x", "nan", None, True, [1]):
        with pytest.raises(DataError, match='"amount" should be a number'):
            read(tmp_path, {**rows[0], "amount": wrong}, columns=("amount",))
