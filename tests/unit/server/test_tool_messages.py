"""Messages with calls: arguments become JSON, ids are as long as templates want them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bloomery.core.errors import RequestError
from bloomery.server.tool_messages import CallBody, new_call_id


def call(arguments: str) -> CallBody:
    return CallBody.model_validate({"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}})


def test_arguments_become_json():
    assert call('{"a": [1]}').plain("m")["function"] == {"name": "f", "arguments": {"a": [1]}}
    assert call("").plain("m")["function"]["arguments"] == {}


@pytest.mark.parametrize("arguments", ["{", "[]", "5", "null", "x", "[" * 100_000])
def test_what_is_no_object_is_named(arguments: str):
    with pytest.raises(RequestError) as caught:
        call(arguments).plain("messages.2.tool_calls.0")
    assert caught.value.param == "messages.2.tool_calls.0.function.arguments"


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"id": "1"},
        {"id": 1, "function": {"name": "f", "arguments": ""}},
        {"id": "1", "function": {"name": "f", "arguments": {}}},
        {"id": "1", "type": "custom", "function": {"name": "f", "arguments": ""}},
    ],
    ids=str,
)
def test_other_forms_are_refused(value):
    with pytest.raises(ValidationError):
        CallBody.model_validate(value)


def test_ids():
    assert new_call_id(24).startswith("call_") and len(new_call_id(24)) == 29
    assert len(new_call_id(9)) == 9 and new_call_id(9).isalnum()
    assert len({new_call_id(24) for _ in range(100)}) == 100
