"""JSON schemas from strangers, checked and brought into one dialect before a grammar is made of them.

Draft-07 and 2020-12 are read; what comes out is 2020-12 without annotations. A keyword that would not be enforced is
an error that names it and where it stands, never ignored, and sizes are bounded before anything is compiled. Sources:
JSON Schema draft-07 (Wright et al. 2018) and 2020-12 (Wright et al. 2022).

This module does not know grammars, tokens or models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import unquote

from bloomery.core.errors import RequestError

MAX_SCHEMA_CHARACTERS = 200_000
MAX_SCHEMA_DEPTH = 64
MAX_SCHEMA_NODES = 10_000
MAX_PROPERTIES = 1_000
MAX_PATTERN_CHARACTERS = 2_000
INVALID_SCHEMA = "invalid_json_schema"

_2020 = frozenset({"json-schema.org/draft/2020-12/schema", "json-schema.org/draft/2019-09/schema"})
_07 = frozenset({"json-schema.org/draft-07/schema", "json-schema.org/draft-06/schema"})
_ANNOTATIONS = frozenset(
    {"$comment", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
    | {"contentMediaType", "contentEncoding", "discriminator"}
)
_ONE = frozenset({"additionalProperties", "items", "additionalItems"})
_SEVERAL = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_COUNTS = frozenset({"minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"})
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_TEXTS = frozenset({"pattern", "format", "$ref"})
_OTHER = frozenset({"type", "required", "enum", "const"})
_TYPES = frozenset({"null", "boolean", "number", "integer", "string", "array", "object"})
# Patterns multiply when they meet, in a string or over the names of properties, and multiples become large tables.
_COSTLY = ('"pattern":', '"patternProperties":', '"multipleOf":')


def normalised(schema: Any) -> dict[str, Any] | bool:
    """A checked copy of a schema in the dialect of 2020-12. RequestError (param "constraint") for one that cannot be
    enforced; its message names the keyword."""
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, Mapping):
        _refuse("a schema is an object", "#")
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (ValueError, TypeError, RecursionError):
        _refuse("it is not JSON, or nested without end", "#")
    if size > MAX_SCHEMA_CHARACTERS:
        _refuse(f"it has {size:,} characters, more than {MAX_SCHEMA_CHARACTERS:,}", "#")
    root = dict(schema)
    if isinstance(root.get("strict"), bool):  # some clients put OpenAI's flag inside
        del root["strict"]
    return _Walk(_is_draft_7(root.pop("$schema", None))).whole(root)


def embedded(schema: dict[str, Any] | bool, place: str) -> dict[str, Any] | bool:
    """A normalised schema whose references still hold when it stands at the JSON pointer `place` ("#/$defs/one")."""
    if isinstance(schema, bool):
        return schema
    return _relocated(schema, place)


def costly(schema: Any) -> bool:
    """Whether a normalised schema may take long to compile: it has patterns, multiples, or very many parts."""
    text = json.dumps(schema)
    formats_meet = '"format":' in text and '"allOf":' in text
    return len(text) > 20_000 or formats_meet or any(keyword in text for keyword in _COSTLY)


def nesting(schema: Any) -> float:
    """How many objects and lists within each other a normalised schema speaks of; infinity where it sets no end."""
    return _Nesting(schema).of(schema, MAX_SCHEMA_DEPTH)


class _Nesting:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[str, float] = {}

    def of(self, schema: Any, left: int) -> float:
        """`left`: so many schemas deep are looked at, through references too."""
        if not isinstance(schema, Mapping) or not left:
            return 0 if schema is False else math.inf
        # All that a schema says holds at once, so the least of these does.
        bounds = self._each(schema.get("allOf", ()), left)
        bounds += [max(self._each(schema[key], left)) for key in ("anyOf", "oneOf") if key in schema]
        if "const" in schema or "enum" in schema:
            bounds.append(0)
        if "$ref" in schema:
            bounds.append(self._at(schema["$ref"], left))
        inner = {
            "object": [one for key in ("properties", "patternProperties") for one in schema.get(key, {}).values()]
            + [schema[key] for key in ("additionalProperties",) if key in schema],
            "array": [*schema.get("prefixItems", ()), *(schema[key] for key in ("items",) if key in schema)],
        }
        named = schema.get("type", [kind for kind, parts in inner.items() if parts])
        if named:
            kinds = [parts for kind, parts in inner.items() if kind in named]
            bounds.append(max((1 + max(self._each(parts, left), default=math.inf) for parts in kinds), default=0))
        return min(bounds, default=math.inf)

    def _each(self, schemas: Iterable[Any], left: int) -> list[float]:
        return [self.of(one, left - 1) for one in schemas]

    def _at(self, place: str, left: int) -> float:
        if place not in self._known:
            self._known[place] = math.inf  # of what refers to itself
            found = self._root
            for name in place.split("/")[1:]:
                name = unquote(name).replace("~1", "/").replace("~0", "~")
                try:
                    found = found[int(name)] if isinstance(found, list) else found[name]
                except (KeyError, IndexError, ValueError, TypeError):
                    return math.inf  # the compiler says that it is not there
            self._known[place] = self.of(found, left - 1)
        return self._known[place]


def _relocated(value: Any, place: str) -> Any:
    """Walks schemas and data alike: "$ref" inside `const` or `enum` data is refused by `normalised`."""
    if isinstance(value, dict):
        moved = {key: _relocated(one, place) for key, one in value.items()}
        if isinstance(value.get("$ref"), str):
            moved["$ref"] = place + value["$ref"][1:]
        return moved
    if isinstance(value, list):
        return [_relocated(one, place) for one in value]
    return value


def _is_draft_7(dialect: Any) -> bool:
    if dialect is None:
        return False
    if isinstance(dialect, str):
        name = dialect.removesuffix("#").removeprefix("https://").removeprefix("http://")
        if name in _07 or name in _2020:
            return name in _07
    _refuse(f"$schema {dialect!r:.80} is not supported; draft-07 and 2020-12 are", "#")


class _Walk:
    def __init__(self, draft_7: bool) -> None:
        self._draft_7 = draft_7
        self._nodes = 0

    def whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        result = self._schema(schema, "#", 0)
        assert isinstance(result, dict)
        return result

    def _schema(self, schema: Any, where: str, depth: int) -> dict[str, Any] | bool:
        self._nodes += 1
        if depth > MAX_SCHEMA_DEPTH:
            _refuse(f"it is nested deeper than {MAX_SCHEMA_DEPTH}", "#")
        if self._nodes > MAX_SCHEMA_NODES:
            _refuse(f"it has more than {MAX_SCHEMA_NODES:,} parts", "#")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, Mapping):
            _refuse("a schema is an object, true or false", where)
        if self._draft_7 and "$ref" in schema:  # draft-07: what stands beside a $ref counts for nothing
            schema = {key: schema[key] for key in schema if key in ("$ref", "$defs", "definitions")}
        result: dict[str, Any] = {}
        for keyword, value in schema.items():
            self._keyword(result, schema, keyword, value, where, depth)
        return result

    def _keyword(
        self, result: dict[str, Any], schema: Mapping[str, Any], keyword: Any, value: Any, where: str, depth: int
    ) -> None:
        here = f"{where}/{keyword}"
        if keyword in _ANNOTATIONS or (keyword in ("$id", "id") and isinstance(value, str)):
            return
        if keyword == "uniqueItems" and value is False:
            return
        if keyword == "items" and isinstance(value, (list, tuple)):  # draft-07's tuples
            result["prefixItems"] = self._several(value, here, depth)
        elif keyword == "additionalItems":
            if isinstance(schema.get("items"), (list, tuple)):  # else it counts for nothing
                result["items"] = self._schema(value, here, depth + 1)
        elif keyword in _ONE:
            result[keyword] = self._schema(value, here, depth + 1)
        elif keyword in _SEVERAL:
            result[keyword] = self._several(value, here, depth)
        elif keyword in _NAMED:
            result[keyword] = self._named(value, here, depth, limited=keyword in ("properties", "patternProperties"))
        elif keyword in _COUNTS or keyword in _NUMBERS or keyword in _TEXTS or keyword in _OTHER:
            result[keyword] = _plain_value(keyword, value, here)
        else:
            _refuse(f"the keyword {keyword!r:.80} is not supported", where)

    def _several(self, value: Any, where: str, depth: int) -> list[Any]:
        if not isinstance(value, (list, tuple)) or not value:
            _refuse("a list of schemas belongs here", where)
        return [self._schema(one, f"{where}/{place}", depth + 1) for place, one in enumerate(value)]

    def _named(self, value: Any, where: str, depth: int, *, limited: bool) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            _refuse("an object of schemas belongs here", where)
        if limited and len(value) > MAX_PROPERTIES:
            _refuse(f"{len(value):,} properties are more than {MAX_PROPERTIES:,}", where)
        return {name: self._schema(one, f"{where}/{name}", depth + 1) for name, one in value.items()}


def _plain_value(keyword: str, value: Any, where: str) -> Any:
    if keyword in _COUNTS:
        if not _is_whole(value) or value < 0:
            _refuse("a whole number from 0 belongs here", where)
        return int(value)
    if keyword in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e300:
            _refuse("a number of bearable size belongs here", where)
        if keyword == "multipleOf" and value <= 0:
            _refuse("a number above 0 belongs here", where)
        return value
    if keyword in _TEXTS:
        if not isinstance(value, str) or len(value) > MAX_PATTERN_CHARACTERS:
            _refuse(f"a text of at most {MAX_PATTERN_CHARACTERS:,} characters belongs here", where)
        if keyword == "$ref" and value != "#" and not value.startswith("#/"):
            _refuse(f"$ref {value!r:.80} is not supported: only places in the same schema are, as #/$defs/name", where)
        return value
    if keyword == "type":
        named = [value] if isinstance(value, str) else value
        if not isinstance(named, (list, tuple)) or not named or not all(isinstance(t, str) for t in named):
            _refuse("a type or a list of types belongs here", where)
        if unknown := [name for name in named if name not in _TYPES]:
            _refuse(f"{unknown[0]!r:.80} is no type", where)
        return value if isinstance(value, str) else list(named)
    if keyword == "required":
        if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
            _refuse("a list of names belongs here", where)
        if len(value) > MAX_PROPERTIES:
            _refuse(f"{len(value):,} properties are more than {MAX_PROPERTIES:,}", where)
        return list(dict.fromkeys(value))
    return _data(keyword, value, where)


def _data(keyword: str, value: Any, where: str) -> Any:
    if keyword == "enum" and (not isinstance(value, (list, tuple)) or not value):
        _refuse("a list of values belongs here", where)
    copy = json.loads(json.dumps(value))
    if '"$ref":' in json.dumps(copy):
        _refuse('a value with the key "$ref" is not supported', where)
    return copy


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and value == int(value) and abs(value) < 1e9


def _refuse(what: str, where: str) -> NoReturn:
    place = f" at {where:.200}" if where != "#" else ""
    raise RequestError(f"the JSON schema cannot be enforced: {what}{place}", param="constraint", code=INVALID_SCHEMA)
