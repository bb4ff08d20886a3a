"""Bodies: strict types, named refusals, neutral values."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bloomery.core.errors import RequestError
from bloomery.server.schemas import ChatBody, CompletionBody, Message

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
COMPLETION = {"model": "m", "prompt": "x"}


@pytest.mark.parametrize(
    "values",
    [{"n": 0}, {"n": 1.0}, {"n": "1"}, {"n": True}, {"temperature": "1"}, {"temperature": True}, {"top_p": 1.01},
     {"top_k": -2}, {"seed": 0.5}, {"stream": 1}, {"stream": "true"}, {"stop": 5}, {"stop": ["x"] * 17},
     {"stop": ["x" * 2_000]}, {"model": None}, {"model": 5}, {"temperature": float("nan")}, {"min_p": float("inf")},
     {"stream_options": {"include_usage": "yes"}}],
    ids=str,
)  # fmt: skip
def test_strict_types_on_both_routes(values):
    for cls, base in ((ChatBody, CHAT), (CompletionBody, COMPLETION)):
        with pytest.raises(ValidationError):
            cls.model_validate({**base, **values})


@pytest.mark.parametrize("prompt", [None, 5, {}, [None], [1, "x"], [[1], "x"], [[]], [-1], [True], [1.0]], ids=str)
def test_prompts_of_no_form(prompt):
    with pytest.raises(ValidationError):
        CompletionBody.model_validate({"model": "m", "prompt": prompt})


@pytest.mark.parametrize("prompt", ["", "x", ["x", ""], [1, 2], [[1], [2, 3]]], ids=str)
def test_prompts_of_every_form(prompt):
    assert CompletionBody.model_validate({"model": "m", "prompt": prompt}).prompt == prompt


@pytest.mark.parametrize(
    ("name", "value"),
    [("tools", [1]), ("suffix", "x"), ("reasoning_effort", "high"),
     ("store", True), ("functions", [{}]), ("tool_choice", "required"), ("audio", {}),
     ("suffix", False), ("max_token", 3), ("x" * 5_000, 1)],
)  # fmt: skip
def test_what_asks_for_something_unsupported_is_named(name, value):
    with pytest.raises(RequestError) as caught:
        CompletionBody.model_validate({**COMPLETION, name: value}).refuse_unsupported()
    assert caught.value.param == name
    assert len(caught.value.one_line()) < 1_000


def test_a_misspelt_parameter_is_answered_with_the_nearest():
    with pytest.raises(RequestError, match="unknown") as caught:
        CompletionBody.model_validate({**COMPLETION, "max_token": 3}).refuse_unsupported()
    assert "max_tokens" in caught.value.hint


def test_messages_become_plain():
    parts = {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    assert Message.model_validate(parts).plain(0) == {"role": "system", "content": "ab"}
    named = Message.model_validate({"role": "user", "content": "x", "name": "Ada", "tool_calls": None})
    assert named.plain(0) == {"role": "user", "content": "x", "name": "Ada"}
    assistant = Message.model_validate({"role": "assistant", "content": "x", "refusal": None, "tool_calls": []})
    assert assistant.plain(0) == {"role": "assistant", "content": "x"}
