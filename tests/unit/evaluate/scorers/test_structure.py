"""Structure: JSON of a schema, held to jsonschema; what is fetched from elsewhere is not; patterns."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.scorers import JsonSchema, Pattern, read_json

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def worth(scorer: JsonSchema | Pattern, text: str, **more: object) -> float:
    sample = Sample(id="s", input="?", **more)  # type: ignore[arg-type]
    return scorer.score(sample, Answered(sample_id="s", text=text)).value


@pytest.mark.parametrize(
    "text, right",
    [
        ('{"name": "Ada"}', 1),
        ('{"name": "Ada", "age": 36}', 1),
        ('{"name": "Ada", "age": -1}', 0),
        ('{"name": 1}', 0),
        ("{}", 0),
        ('{"name": "a", "x": 1}', 0),
        ('{"name": "a", "name": "b"}', 0),
        ('{"name": "a"} and more', 0),
        ("nothing", 0),
        ("NaN", 0),
        ("[" * 100_000, 0),
        ('{"name": "' + "x" * (1 << 20) + '"}', 0),
    ],
)
def test_schema(text: str, right: int):
    assert worth(JsonSchema(schema=SCHEMA), text) == right
    assert worth(JsonSchema(), text, metadata={"schema": SCHEMA}) == right


def test_loose_and_equal():
    fenced = 'Here it is:\n```json\n{"name": "Ada"}\n```\nDone.'
    assert worth(JsonSchema(schema=SCHEMA), fenced) == 0 and worth(JsonSchema(schema=SCHEMA, strict=False), fenced) == 1
    assert worth(JsonSchema(schema=SCHEMA, strict=False), 'Sure! {"name": "Ada"} is it.') == 1
    equal = JsonSchema(equal=True)
    assert worth(equal, '{"b": 1, "a": [1, 2]}', targets=('{"a": [1,2], "b": 1}',)) == 1
    assert worth(equal, '{"b": 1, "a": [2, 1]}', targets=('{"a": [1,2], "b": 1}',)) == 0
    assert JsonSchema(strict=False).name == "json_schema (loose)"


def test_schemas_from_elsewhere_are_not_fetched():
    for schema in ({"$ref": "http://127.0.0.1:9/schema.json"}, {"$ref": "#/none"}):
        with pytest.raises(ConfigError, match="cannot be followed"):
            worth(JsonSchema(schema=schema), "{}")
    with pytest.raises(ConfigError):
        JsonSchema(schema={"type": "no such type"})


def test_patterns():
    assert worth(Pattern(pattern=r"\bfurnace\b"), "a furnace") == 1 and worth(Pattern(pattern=r"^x"), "a") == 0
    last = Pattern(pattern=r"Answer: (\w+)")
    assert worth(last, "Answer: no. Answer: yes", targets=("yes",)) == 1
    assert worth(last, "Answer: Yes", targets=("yes",)) == 0
    assert worth(Pattern(pattern=r"Answer: (\w+)", ignore_case=True), "answer: Yes", targets=("yes",)) == 1
    assert worth(Pattern(pattern="a"), "a" * (1 << 17)) == 0
    with pytest.raises(ConfigError, match="no regular expression"):
        Pattern(pattern="(")


def test_json_is_strict():
    assert read_json("[1, 2]") == [1, 2] and read_json("x [1] y", strict=False) == [1]
    for text in ("", "Infinity", '{"a": 1, "a": 2}'):
        with pytest.raises(ValueError):
            read_json(text)
