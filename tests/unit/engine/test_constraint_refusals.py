"""Constraints that cannot be: one line that says why, and what would take minutes is ended."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bloomery.core.errors import RequestError
from bloomery.engine import LanguageModel
from bloomery.engine import constraint as module
from bloomery.engine.constraint import constraint_for


def test_a_token_that_is_not_allowed_is_refused(tiny: LanguageModel):
    constraint = constraint_for({"choice": ["a"]}, tiny.tokenizer)
    with pytest.raises(RequestError, match="cannot go on"):
        constraint.advance(tiny.tokenizer.encode("b")[0])


@pytest.mark.parametrize(
    ("given_spec", "what"),
    [
        ({"regex": "a(b"}, "unclosed group"),
        ({"regex": "(?=a)b"}, "look-around"),
        ({"regex": r"(a)\1"}, "backreferences"),
        ({"grammar": "start: nothing"}, "unknown name"),
        ({"grammar": "start: start"}, "allows no text"),
        ({"json_schema": False}, "schema is false"),
        ({"json_schema": {"type": "string", "format": "int32"}}, "int32"),
        ({"json_schema": {"$ref": "#/$defs/x"}}, "/$defs/x"),
        ({"json_schema": {"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}}, "allows no text"),
        ({"json_schema": {"oneOf": [{"type": "integer"}, {"minimum": 2}]}}, "oneOf"),
        ({"json_schema": {"allOf": [{"type": "string"}, {"type": "null"}]}}, "incompatible"),
    ],
    ids=str,
)
def test_what_cannot_be_compiled_is_a_request_error(tiny: LanguageModel, given_spec: Any, what: str):
    with pytest.raises(RequestError, match=re.escape(what)) as caught:
        constraint_for(given_spec, tiny.tokenizer)
    assert caught.value.param == "constraint" and "\n" not in caught.value.one_line()


def test_a_bomb_is_ended(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    """These patterns take minutes to intersect."""
    monkeypatch.setattr(module, "MAX_COMPILE_SECONDS", 2)
    bomb = {"allOf": [{"type": "string", "pattern": f".*a.{{{i}}}b"} for i in range(2, 20)]}
    with pytest.raises(RequestError, match="longer than 2 seconds"):
        constraint_for({"json_schema": bomb}, tiny.tokenizer)
