"""Models are opened once, in the way that they know, and their answers are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.adapt.comparison import models
from bloomery.adapt.comparison.models import opened_model
from bloomery.adapt.comparison.task import ModelConfig
from bloomery.core.answer_cache import AnswerCache
from bloomery.core.messages import ChatOptions


def test_one_model_is_asked_in_chat_or_in_plain_text(make_model, workspace, tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    told = ModelConfig(name=str(make_model().path), label="tiny")
    chat = opened_model(told, workspace, cache)
    chat.close()
    opened = opened_model(replace(told, ask="plain"), workspace, cache)
    try:
        assert not chat.plain and opened.plain and opened.identity != chat.identity
        assert opened.loaded is not None and opened.chat.name == "tiny"
        options = ChatOptions(temperature=0.0, max_new_tokens=3)
        first = opened.chat.answer([{"role": "user", "content": "Once"}], options)
        assert opened.chat.answer([{"role": "user", "content": "Once"}], options).cached and not first.cached
    finally:
        opened.close()
        cache.close()


def test_an_endpoint_that_is_away_is_known_by_its_name(workspace, tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    config = ModelConfig(name="m", endpoint="http://127.0.0.1:9/v1", key_variable="NONE_SUCH")
    opened = opened_model(config, workspace, cache)
    assert opened.loaded is None and not opened.plain and opened.identity == "m@127.0.0.1:9"
    assert "until --fresh" in opened.told and opened.work.read > 0
    opened.close()
    cache.close()


@pytest.mark.parametrize("right", [True, False])
def test_no_clock_decides_what_computes(make_model, workspace, tmp_path, monkeypatch, right):
    """Native code where it is right: also where a trial on a busy machine found it slower."""
    from bloomery.models.native import trial

    asked: list[bool] = []

    def trial_of(decoder, *, timed=True):
        asked.append(timed)
        return trial.Trial(object() if right else None, "as told")

    monkeypatch.setattr(models, "trial_of", trial_of)
    cache = AnswerCache(tmp_path / "answers.sqlite")
    opened = opened_model(ModelConfig(name=str(make_model().path)), workspace, cache)
    assert opened.loaded is not None and opened.loaded.engine.config.native == ("on" if right else "off")
    assert asked == [False] and opened.told == ""
    opened.close()
    cache.close()
