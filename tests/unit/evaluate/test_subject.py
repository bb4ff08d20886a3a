"""Subjects: a model by folder, artifact or in memory, with answers kept under what its weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bloomery.core.answer_cache import AnswerCache
from bloomery.core.errors import BloomeryError, ConfigError, RequestError
from bloomery.core.likelihood import Pair
from bloomery.core.messages import ChatOptions
from bloomery.evaluate import open_subject


def test_the_same_weights_share_their_answers(made: Any, tmp_path: Path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    named = open_subject(made.model.name, workspace=made.workspace)
    loaded = open_subject(made.loaded, workspace=made.workspace)
    assert named.parents == (made.model.id,) and loaded.parents == ()
    assert named.identity.partition("#")[2] == loaded.identity.partition("#")[2]
    bare = open_subject(made.loaded, workspace=made.workspace, bos=False)
    assert bare.identity != loaded.identity
    pairs = [Pair("if code", " value")]
    first, again = (list(loaded.kept(cache).likelihoods.likelihoods(pairs)) for _ in range(2))  # type: ignore[union-attr]
    assert not first[0][1].cached and again[0][1].cached and again[0][1].nats == first[0][1].nats
    cache.close()


def test_free_answers_go_on_from_the_prompt_or_through_the_template(made: Any):
    options = ChatOptions(temperature=0.0, max_new_tokens=5)
    asked = [{"role": "user", "content": "if code"}]
    plain = open_subject(made.loaded, workspace=made.workspace).subject.chat
    assert plain is not None
    assert plain.answer(asked, options).text == made.loaded.generate("if code", max_new_tokens=5, temperature=0.0).text
    templated = open_subject(made.loaded, workspace=made.workspace, chat=True).subject.chat
    assert templated is not None
    if made.loaded.tokenizer.chat_template is None:
        with pytest.raises(RequestError):
            templated.answer(asked, options)


def test_what_is_no_model(made: Any, tmp_path: Path):
    with pytest.raises(BloomeryError):
        open_subject("nowhere", workspace=made.workspace)
    with pytest.raises(ConfigError):
        open_subject("http:///v1", workspace=made.workspace)
