"""Structure: one constraint of all the ways in which a request may ask for a form."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bloomery.core.errors import RequestError
from bloomery.engine import ConstraintSpec
from bloomery.server.structure import StructureFields, structure_of
from bloomery.tokenizer import STYLES

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ODD = {"type": "object", "properties": {"a": {"not": {}}}}
HERMES = STYLES["hermes"]


def tool(name: str = "f", parameters: Any = SCHEMA, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


def of(**fields: Any):
    return structure_of(StructureFields.model_validate(fields), HERMES)


def test_nothing_asked_is_no_constraint():
    for fields in (
        {},
        {"tools": []},
        {"tools": None, "tool_choice": "auto"},
        {"response_format": {"type": "text"}},
        {"tools": [tool()], "tool_choice": "none"},
        {"parallel_tool_calls": True},
    ):
        assert of(**fields).constraint is None and not of(**fields).names


def test_an_answers_form():
    json_schema = {"name": "x", "schema": SCHEMA, "strict": False, "description": "d"}
    expected = ConstraintSpec(kind="json_schema", schema=SCHEMA)
    assert of(response_format={"type": "json_schema", "json_schema": json_schema}).constraint == expected
    assert of(guided_json=SCHEMA).constraint == of(structured_outputs={"json": SCHEMA}).constraint == expected
    assert of(response_format={"type": "json_object"}).constraint == ConstraintSpec(kind="json_object")
    assert of(structured_outputs={"json_object": True}).constraint == ConstraintSpec(kind="json_object")
    assert of(guided_choice=["a"]).constraint == ConstraintSpec(kind="choice", choices=("a",))


def test_tools():
    auto = of(tools=[tool(), tool("g")])
    assert auto.names == {"f", "g"} and auto.constraint is not None and auto.constraint.tools is not None
    assert not auto.constraint.tools.required and auto.constraint.tools.parallel
    assert [one.strict for one in auto.constraint.tools.functions] == [False, False]
    strict = of(tools=[tool(strict=True), tool("g")]).constraint.tools
    assert [one.strict for one in strict.functions] == [True, False]
    must = of(tools=[tool(), tool("g")], tool_choice="required", parallel_tool_calls=False).constraint.tools
    assert must.required and not must.parallel and all(one.strict for one in must.functions)
    named = of(tools=[tool(), tool("g")], tool_choice={"type": "function", "function": {"name": "g"}})
    assert named.names == {"g"} and named.constraint.tools.required and not named.constraint.tools.parallel


def test_tools_and_an_answers_schema():
    both = of(
        tools=[tool()], response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    ).constraint.tools
    assert both.answer == SCHEMA and not both.required
    assert of(tools=[tool()], response_format={"type": "json_object"}).constraint.tools.answer == {"type": "object"}


def test_a_tool_that_is_not_enforced_may_have_any_schema():
    assert of(tools=[tool(parameters=ODD)]).names == {"f"}
    for fields in ({"tool_choice": "required"}, {"tools": [tool(parameters=ODD, strict=True)]}):
        with pytest.raises(RequestError, match="'not'") as caught:
            of(**{"tools": [tool(parameters=ODD)], **fields})
        assert caught.value.param == "tools.0.function" and caught.value.code == "invalid_json_schema"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [tool(), tool()]}, "tools"),
        ({"tools": [tool()], "guided_choice": ["a"]}, "tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_object", "json_schema": {"schema": {}}}}, "response_format.json_schema"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_json": "{"}, "guided_json"),
        ({"structured_outputs": {"json": {"not": {}}}}, "structured_outputs.json_schema"),
    ],
    ids=str,
)
def test_contradictions_are_named(fields, param):
    with pytest.raises(RequestError) as caught:
        of(**fields)
    assert caught.value.param == param and caught.value.code


def test_a_model_that_knows_no_tools():
    with pytest.raises(RequestError, match="knows no tools") as caught:
        structure_of(StructureFields.model_validate({"tools": [tool()]}), None)
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "always"},
        {"tool_choice": {"type": "function"}},
        {"tools": [tool()] * 129},
        {"tool_choice": {"type": "function", "function": {"name": "f", "x": 1}}},
        {"tools": [{"type": "custom"}]},
        {"tools": [tool(more=1)]},
        {"parallel_tool_calls": 1},
        {"response_format": {"type": "xml"}},
        {"guided_choice": []},
        {"guided_regex": 5},
        {"structured_outputs": {"nope": 1}},
        {"tools": {}},
        {"tool_choice": 5},
    ],
    ids=str,
)
def test_other_forms_are_refused(fields):
    with pytest.raises(ValidationError):
        StructureFields.model_validate(fields)
