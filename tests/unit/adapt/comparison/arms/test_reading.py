"""The arms that read: whether there is room, and what is put before a question."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.adapt.comparison.arms.reading import ReadingArm, context_characters, reader_of
from bloomery.adapt.comparison.compare import opened_settings


@pytest.fixture
def setting(made):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        yield settings[made.task.config.model[0].called]


def test_prompts_with_passages_fit_into_the_context(setting):
    assert ReadingArm("rag").unfit(setting) == "" == ReadingArm("long-context").unfit(setting)
    for passages in (0, 3):
        asked, taken = reader_of(setting, passages).read(setting.dev[0])
        tokens = len(setting.model.loaded.tokenizer.encode(asked.input))
        assert taken and tokens < setting.model.loaded.context_length
    assert 0 < context_characters(setting) < 512 * 4


def test_no_documents_and_too_many(setting, tmp_path):
    assert "no documents" in ReadingArm("rag").unfit(replace(setting, config=replace(setting.config, documents="")))
    (tmp_path / "long.txt").write_text("word " * 20_000, encoding="utf-8")
    long = replace(setting, config=replace(setting.config, documents=str(tmp_path)))
    assert "fit into the model's context" in ReadingArm("long-context").unfit(long)
    assert ReadingArm("rag").unfit(long) == ""
