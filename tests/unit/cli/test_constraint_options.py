"""The flags of constraints: texts or files, one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.cli.constraint_options import ConstraintOptions
from bloomery.core.errors import ConfigError


def test_texts_and_files(tmp_path: Path):
    schema, grammar = tmp_path / "schema.json", tmp_path / "answer.lark"
    schema.write_text('{"type": "object"}', encoding="utf-8")
    grammar.write_text('start: "é"', encoding="utf-8")
    assert ConstraintOptions().constraint() is None
    assert ConstraintOptions(json_schema=str(schema)).constraint() == {"json_schema": '{"type": "object"}'}
    assert ConstraintOptions(json_schema='{"enum": [1]}').constraint() == {"json_schema": '{"enum": [1]}'}
    assert ConstraintOptions(grammar=str(grammar)).constraint() == {"grammar": 'start: "é"'}
    assert ConstraintOptions(regex="a+").constraint() == {"regex": "a+"}
    assert ConstraintOptions(choice=["a", "b"]).constraint() == {"choice": ["a", "b"]}


@pytest.mark.parametrize("value", ["missing.json", "", "a\0b", "."])
def test_files_that_are_not_there(value: str):
    with pytest.raises(ConfigError, match="--json-schema"):
        ConstraintOptions(json_schema=value).constraint()


def test_files_that_are_no_text(tmp_path: Path):
    broken, large = tmp_path / "broken", tmp_path / "large"
    broken.write_bytes(b"\xff\xfe")
    large.write_bytes(b" " * 1_000_001)
    for path in (broken, large):
        with pytest.raises(ConfigError, match="--grammar"):
            ConstraintOptions(grammar=str(path)).constraint()


def test_one_at_a_time():
    with pytest.raises(ConfigError, match="--regex and --choice"):
        ConstraintOptions(regex="a", choice=["a"]).constraint()
