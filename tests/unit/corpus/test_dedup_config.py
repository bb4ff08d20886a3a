"""What the config of deduplication refuses, and that it asks for nothing by default."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError
from bloomery.corpus.dedup_config import DedupConfig


def test_nothing_is_asked_for_by_default():
    config = DedupConfig()
    assert not config.active and config.stamp() == config.files() == []
    assert from_dict(DedupConfig, to_dict(config)) == config
    for name, value in {"urls": True, "lines": True, "paragraphs": True, "near": True, "substring_words": 50}.items():
        assert DedupConfig(**{name: value}).active and DedupConfig(**{name: value}).stamp()


@pytest.mark.parametrize(
    "values",
    [
        {"near_bands": 0},
        {"near_rows": 101},
        {"near_bands": 1000, "near_rows": 11},
        {"near_words": 0},
        {"near_similarity": 1.5},
        {"substring_words": 3},
        {"substring_words": -1},
        {"min_characters": 0},
        {"evaluation": ("a.jsonl", " ")},
        {"evaluation_words": 0},
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any]):
    with pytest.raises(ConfigError, match=next(iter(values))):
        DedupConfig(near=True, **values)


def test_evaluation_files_are_what_the_result_depends_on(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text("{}")
    assert DedupConfig(evaluation=(str(tmp_path),)).files() == [tmp_path / "a.jsonl"]
    assert all(field.name in to_dict(DedupConfig()) for field in fields(DedupConfig))
