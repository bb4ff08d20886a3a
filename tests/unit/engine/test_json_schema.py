"""JSON schemas: both dialects mean what the jsonschema library says, and what cannot be enforced is named."""

from __future__ import annotations

import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import RequestError
from bloomery.engine.json_schema import MAX_PROPERTIES, costly, embedded, nesting, normalised

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
VALUES: list[Any] = [
    None,
    True,
    0,
    3,
    -1.5,
    "",
    "abc",
    [],
    [1],
    [1, "a"],
    [1, "a", 2],
    {},
    {"a": 1},
    {"a": "x", "b": 2},
]


def agree(given_schema: Any) -> None:
    """The copy accepts what the schema accepts, by its own dialect."""
    judge = jsonschema.validators.validator_for(given_schema, jsonschema.Draft202012Validator)(given_schema)
    copy = jsonschema.Draft202012Validator(normalised(given_schema))
    for value in VALUES:
        assert copy.is_valid(value) == judge.is_valid(value), value


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": DRAFT_7, "type": "array", "items": [{"type": "integer"}, {"type": "string"}]},
        {"$schema": DRAFT_7, "items": [{"type": "integer"}], "additionalItems": False},
        {"$schema": DRAFT_7, "items": [{"type": "integer"}], "additionalItems": {"type": "string"}},
        {"$schema": DRAFT_7, "items": {"type": "integer"}, "additionalItems": False},
        {"$schema": DRAFT_7, "definitions": {"n": {"type": "integer"}}, "$ref": "#/definitions/n"},
        {
            "$schema": DRAFT_7,
            "properties": {"a": {"$ref": "#/definitions/n", "type": "string"}},
            "definitions": {"n": {"type": "integer"}},
        },
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "prefixItems": [{"type": "integer"}],
            "items": False,
        },
        {"properties": {"a": {"$ref": "#/$defs/n", "minimum": 1}}, "$defs": {"n": {"type": "integer"}}},
        {
            "$id": "https://example.org/one",
            "title": "T",
            "description": "d",
            "type": ["object", "null"],
            "required": ["a", "a"],
            "default": {},
            "examples": [1],
        },
        {"enum": [1, "abc", None]},
        {"const": {"a": 1}},
        {"minItems": 1.0, "type": "array", "uniqueItems": False},
        {"anyOf": [{"type": "string", "maxLength": 2}, {"minimum": 1, "type": "number"}]},
    ],
    ids=str,
)
def test_the_copy_means_what_the_schema_means(schema):
    agree(schema)


@pytest.mark.parametrize(
    "keyword",
    [
        "not",
        "if",
        "contains",
        "propertyNames",
        "dependentRequired",
        "x-guidance",
        "unevaluatedProperties",
        "nullable",
        "strict",
        "patern",
    ],
)
def test_what_is_not_enforced_is_named(keyword):
    with pytest.raises(RequestError) as caught:
        normalised({"type": "object", "properties": {"a": {keyword: {}}}})
    line = caught.value.one_line()
    assert repr(keyword) in line and "#/properties/a" in line and caught.value.param == "constraint"


def test_a_property_may_have_any_name():
    schema = {"properties": {name: {"type": "string"} for name in ("not", "$ref", "if", "x-guidance", "type")}}
    assert normalised(schema) == schema


def test_strict_and_schema_stand_at_the_top():
    assert normalised({"strict": True, "$schema": DRAFT_7, "type": "string"}) == {"type": "string"}
    assert normalised(True) is True and normalised(False) is False


def deep(levels: int) -> Any:
    schema: Any = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        None,
        5,
        "x",
        [],
        {"type": 5},
        {"type": "text"},
        {"type": []},
        {"properties": []},
        {"properties": {"a": 1}},
        {"required": "a"},
        {"required": [1]},
        {"enum": []},
        {"enum": 5},
        {"anyOf": []},
        {"anyOf": {}},
        {"minItems": -1},
        {"minItems": 1.5},
        {"minItems": True},
        {"maxLength": 10**12},
        {"minimum": "1"},
        {"minimum": float("nan")},
        {"minimum": float("inf")},
        {"maximum": 10**400},
        {"multipleOf": 0},
        {"multipleOf": -1},
        {"pattern": 5},
        {"pattern": "a" * 5_000},
        {"$ref": "http://example.org/x"},
        {"$ref": "other.json"},
        {"$ref": "#anchor"},
        {"$ref": 5},
        {"$schema": "http://json-schema.org/draft-04/schema#"},
        {"$schema": 5},
        {"const": {"$ref": "#"}},
        {5: 5},
        {"properties": {str(i): {} for i in range(MAX_PROPERTIES + 1)}},
        {"enum": [str(i) for i in range(50_000)]},
        {"anyOf": [{}] * 20_000},
        deep(100),
        deep(5_000),
        {"const": {1, 2}},
        {"enum": [object()]},
        {"uniqueItems": True},
        {"required": [str(i) for i in range(MAX_PROPERTIES + 1)]},
    ],
    ids=lambda schema: str(schema)[:60] if not isinstance(schema, dict) or "items" not in schema else "deep",
)
def test_malformed_and_huge_schemas_are_refused_in_one_line(schema):
    with pytest.raises(RequestError) as caught:
        normalised(schema)
    assert "\n" not in caught.value.one_line() and len(caught.value.one_line()) < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "items", "properties", "anyOf", "enum", "const", "required", "$ref", "minItems", "not", "a"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_is_read_or_refused(value):
    try:
        copy = normalised(value)
    except RequestError as error:
        assert "\n" not in error.one_line()
        return
    assert normalised(copy) == copy


def test_references_hold_where_a_schema_is_embedded():
    tree = {
        "type": "object",
        "properties": {"next": {"$ref": "#"}, "a": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"type": "integer"}},
        "additionalProperties": False,
    }
    outer = jsonschema.Draft202012Validator(
        {"$defs": {"one": embedded(normalised(tree), "#/$defs/one")}, "type": "array", "items": {"$ref": "#/$defs/one"}}
    )
    assert outer.is_valid([{"a": 1, "next": {"next": {}}}])
    assert not outer.is_valid([{"a": "x"}]) and not outer.is_valid([{"next": {"b": 1}}])
    assert embedded(True, "#/x") is True


@pytest.mark.parametrize(
    ("schema", "levels"),
    [
        ({"type": "string"}, 0),
        ({"enum": ["a", 1]}, 0),
        ({"type": ["object", "null"], "properties": {"a": {"type": "integer"}}}, 1),
        ({"type": "object", "properties": {"a": {"type": "array", "items": {"enum": [1]}}}}, 2),
        ({"prefixItems": [{"$ref": "#/$defs/a~1b"}], "$defs": {"a/b": {"type": "array", "items": False}}}, 2),
        ({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}}]}, 1),
        ({"type": "object", "additionalProperties": False}, 1),
        ({"type": "object"}, math.inf),
        ({}, math.inf),
        ({"type": "array", "items": {"$ref": "#"}}, math.inf),
        ({"$ref": "#/$defs/no"}, math.inf),
        ({"allOf": [{"type": "object"}, {"properties": {"a": {"type": "integer"}}}]}, 1),
    ],
)
def test_nesting(schema: Any, levels: float):
    assert nesting(normalised(schema)) == levels


def test_nesting_of_a_long_chain_of_references():
    chain = {f"n{i}": {"allOf": [{"$ref": f"#/$defs/n{i + 1}"}]} for i in range(3000)}
    assert nesting(normalised({"$ref": "#/$defs/n0", "$defs": chain})) == math.inf


def test_patterns_are_tried_first():
    assert costly({"pattern": "a"}) and costly({"items": {"multipleOf": 3}}) and not costly({"type": "string"})
