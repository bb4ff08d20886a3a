"""ConstraintSpec: what is malformed, too large or cannot be enforced is refused when the spec is made."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import RequestError
from bloomery.engine.constraint_spec import ConstraintSpec, ToolChoice, ToolFunction, spec_of


def test_the_short_forms():
    assert spec_of({"json_schema": '{"type": "string"}'}).schema == {"type": "string"}
    assert spec_of({"json_schema": {"title": "T"}}) == ConstraintSpec(kind="json_schema", schema={})
    assert spec_of({"json_object": True}).kind == "json_object"
    assert spec_of({"regex": "a+"}) == ConstraintSpec(kind="regex", text="a+")
    assert spec_of({"choice": ["a", "b", "a"]}).choices == ("a", "b")
    spec = ConstraintSpec(kind="grammar", text='start: "a"')
    assert spec_of(spec) is spec and hash(spec) == hash(spec_of({"grammar": 'start: "a"'}))


@pytest.mark.parametrize(
    "given",
    [
        {},
        5,
        "regex",
        {"regex": ""},
        {"regex": 5},
        {"regex": "a", "choice": ["b"]},
        {"choice": []},
        {"choice": "ab"},
        {"choice": [5]},
        {"choice": [""]},
        {"choice": ["a"] * 2_000},
        {"choice": ["x" * 60_000]},
        {"json_object": False},
        {"json_schema": None},
        {"json_schema": "{"},
        {"json_schema": "5"},
        {"tools": {}},
        {"nope": 1},
        {5: 1},
        {"regex": "a" * 60_000},
        {"regex": "\ud800"},
        {"grammar": "start: /a/\0"},
        {"choice": ["\ud800"]},
        {"grammar": 'start[temperature=0.5]: "a"'},
        {"grammar": "start[stop = /x/]: /a/"},
        {"grammar": 'start: %json {"x-guidance": {"lenient": true}}'},
    ],
    ids=lambda given: str(given)[:40],
)
def test_malformed_constraints_are_refused_in_one_line(given: Any):
    with pytest.raises(RequestError) as caught:
        spec_of(given)
    assert caught.value.param == "constraint" and caught.value.code and "\n" not in caught.value.one_line()


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "regex"},
        {"kind": "regex", "text": "a", "schema": {}},
        {"kind": "json_object", "text": "a"},
        {"kind": "tools"},
        {"kind": "text", "text": "a"},
        {"kind": []},
        {"kind": "choice"},
        {"kind": "json_schema"},
    ],
    ids=str,
)
def test_a_kind_has_its_own_field(fields: Any):
    with pytest.raises(RequestError):
        ConstraintSpec(**fields)


def test_options_inside_literals_are_text():
    spec_of({"grammar": 'start: "temperature=" /stop=[0-9]/'})


def test_functions():
    loose = ToolFunction(name="f", parameters={"not": {}}, strict=False)
    assert loose.parameters == {"type": "object"}
    assert ToolFunction(name="f", parameters={"properties": {}}).parameters == {"properties": {}, "type": "object"}
    for fields in (
        {"name": "a b"},
        {"name": ""},
        {"name": "x" * 65},
        {"name": 5},
        {"name": "f", "parameters": {"not": {}}},
        {"name": "f", "parameters": {"type": "string"}},
        {"name": "f", "parameters": True},
    ):
        with pytest.raises(RequestError):
            ToolFunction(**fields)  # type: ignore[arg-type]
    one = ToolFunction(name="f")
    for functions in ((), (one, one), tuple(ToolFunction(name=f"f{i}") for i in range(200))):
        with pytest.raises(RequestError):
            ToolChoice(functions=functions, style="hermes")
    with pytest.raises(RequestError):
        ToolChoice(functions=(one,), style="hermes", answer={"not": {}})
