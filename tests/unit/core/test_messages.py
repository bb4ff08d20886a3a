"""The protocol that applications ask models by."""

from __future__ import annotations

import jsonschema
import pytest

from bloomery.core.errors import ConfigError
from bloomery.core.messages import (
    AnswerToken,
    ChatDelta,
    ChatOptions,
    Usage,
    choice_schema,
    chosen,
    gathered,
)


def test_a_stream_becomes_one_answer():
    token = AnswerToken(b"a", -0.5)
    found = gathered(
        [
            ChatDelta(text="a", tokens=(token,)),
            ChatDelta(text="b", finish_reason="stop"),
            ChatDelta(usage=Usage(prompt_tokens=3, completion_tokens=2), seed=7),
        ]
    )
    assert (found.text, found.finish_reason, found.tokens, found.seed) == ("ab", "stop", (token,), 7)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (3, 2)
    assert not found.usage.energy_joules.known and found.seconds >= 0


def test_what_nobody_told_is_unknown():
    found = gathered([ChatDelta(text="a")])
    assert found.tokens is None and found.usage.prompt_tokens is None and found.seed is None


@pytest.mark.parametrize("text", ["spam", " spam\n", '{"answer": "spam"}', '{"answer":"spam"}'])
def test_a_choice_is_read(text: str):
    assert chosen(text, ("ham", "spam")) == "spam"


@pytest.mark.parametrize(
    "text",
    ["", "Spam", "spam.", "This is spam", '"spam"', '{"answer": "eggs"}', '{"answer": "spam", "why": ""}', "[" * 5000],
)
def test_nothing_else_is_a_choice(text: str):
    assert chosen(text, ("ham", "spam")) is None


def test_the_schema_of_choices_allows_them_and_nothing_else():
    schema = choice_schema(("ham", "spam"))
    jsonschema.validate({"answer": "ham"}, schema)
    for wrong in ({"answer": "eggs"}, {}, {"answer": "ham", "more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 3.0},
        {"max_new_tokens": 0},
        {"top_logprobs": 21},
        {"choices": ("a",), "schema": {"type": "object"}},
    ],
)
def test_options_out_of_range_are_refused(options: dict):
    with pytest.raises(ConfigError):
        ChatOptions(**options)


def test_options_as_data_say_what_is_asked():
    assert ChatOptions(choices=("a", "b"), seed=0, temperature=0.0).plain() == {
        "max_new_tokens": 512,
        "temperature": 0.0,
        "seed": 0,
        "choices": ["a", "b"],
    }
