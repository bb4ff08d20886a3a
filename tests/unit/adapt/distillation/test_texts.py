"""Texts of every form, and plain ones cut into windows that hold each token once."""

from __future__ import annotations

import pytest

from bloomery.adapt.distillation.texts import Text, read_texts, windows
from bloomery.core.errors import DataError
from bloomery.corpus import CurateConfig, curate

USER, SAID = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "whole"}, Text(None, "whole")),
        ({"prompt": "a", "completion": "b"}, Text("a", "b")),
        ({"prompt": "a"}, Text("a", None)),
        ({"instruction": "a", "input": "", "output": "b"}, Text((USER,), "b")),
        ({"messages": [USER, SAID]}, Text((USER,), "b")),
        ({"messages": [USER]}, Text((USER,), None)),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, Text("a", "b")),
    ],
)
def test_every_form(rows_file, row, expected):
    assert read_texts(rows_file([row])) == [expected]


def test_what_is_none_is_said_with_its_row(rows_file):
    with pytest.raises(DataError, match="row 2"):
        read_texts(rows_file([{"text": "a"}, {"completion": "b"}]))


def test_a_corpus_gives_its_training_documents(tmp_path):
    (tmp_path / "a.txt").write_text("First document, which is long enough to be one.")
    corpus = curate(
        config=CurateConfig(sources=(str(tmp_path / "a.txt"),), validation_fraction=0.0, test_fraction=0.0),
        workspace=tmp_path / "home",
    )
    assert read_texts(corpus) == [Text(None, "First document, which is long enough to be one.")]


@pytest.mark.parametrize("length", [2, 3, 5, 100])
def test_windows_hold_every_token_once(length):
    ids = list(range(1, 12))
    parts = list(windows(ids, length, 0))
    assert [token for _, after in parts for token in after] == ids
    assert all(len(before) + len(after) <= length for before, after in parts)
    assert all(([0, *ids])[n - 1] == before[-1] for before, (n, *_) in parts)
