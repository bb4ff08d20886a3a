"""Files of samples: splits, labels, and that a test is not for searching."""

from __future__ import annotations

import json

import pytest

from bloomery.adapt.prompts.sample_file import read_sample_file, searchable
from bloomery.core.errors import ConfigError, DataError


def written(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_splits_labels_and_the_rest(tmp_path):
    splits = ["train", "train", "validation", "test"] * 5
    rows = [
        {"input": f"t{n}", "target": "ab"[n % 2], "split": split, "year": 1999, "id": n + 7}
        for n, split in enumerate(splits)
    ]
    found = read_sample_file(written(tmp_path / "s.jsonl", rows))
    assert {name: len(part) for name, part in found.items()} == {"train": 10, "dev": 5, "test": 5, "": 0}
    assert found["train"][0].choices == ("a", "b") and found["train"][0].metadata == {"year": 1999}
    assert found["train"][0].id == "7"
    train, dev = searchable(found)
    assert {one.id for one in train + dev} == {str(n + 7) for n in range(20) if splits[n] != "test"}


def test_a_csv_with_choices(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text('input,target,choices\n"2 + 2, what?",4,"[""3"", ""4""]"\nx,y,\n', encoding="utf-8")
    one, other = read_sample_file(path)[""]
    assert one.choices == ("3", "4") and one.targets == ("4",) and other.choices == () and one.id == "2"


def test_halves_where_no_split_is_named(tmp_path):
    rows = [{"input": f"t{n % 50}", "target": str(n), "cluster": ""} for n in range(100)]
    parts = read_sample_file(written(tmp_path / "s.jsonl", rows))
    train, dev = searchable(parts)
    assert len(train) + len(dev) == 100 and min(len(train), len(dev)) > 25
    assert not {one.input for one in train} & {one.input for one in dev}
    assert searchable(parts)[0] == train != searchable(parts, seed=1)[0]
    assert not train[0].choices  # free answers that do not recur


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([{"target": "a"}], DataError, "no input"),
        ([{"input": "a", "split": "tets"}], DataError, "no split 'tets'"),
        ([{"input": "a", "target": "c", "choices": ["a", "b"]}], DataError, "s.jsonl:1"),
        ([{"input": "a", "target": {"x": 1}, "choices": [[1]]}], DataError, "list of texts"),
    ],
)
def test_rows_that_cannot_be_meant(rows, error, message: str, tmp_path):
    with pytest.raises(error, match=message):
        read_sample_file(written(tmp_path / "s.jsonl", rows))


def test_splits_that_do_not_suffice(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_sample_file(tmp_path / "none.jsonl")
    for splits in (["train", ""], ["train", "train"], ["dev", "test"]):
        rows = [{"input": str(n), "target": "a", "split": split} for n, split in enumerate(splits)]
        with pytest.raises(ConfigError):
            searchable(read_sample_file(written(tmp_path / "s.jsonl", rows)))
