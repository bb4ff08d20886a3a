"""Rewards: what an answer is worth where that can be checked: a number, a text, a form, JSON of a schema.

A reward is any object with a `name` and a call of (answer, row), so that a user's own function is one, given in Python:
none is ever loaded by name. Rewards see the answer's text and the row that the prompt came from. This module does not
know models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Protocol

from bloomery.core.errors import ConfigError, DataError, MissingExtraError, nearest

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+")
_MARKED = "####"
"""What GSM8K's answers stand after."""
_FIELDS = ("answer", "target", "solution")
_MAX_SCHEMA_BYTES = 1024 * 1024
_KINDS = ("exact", "number", "pattern", "json")


class Reward(Protocol):
    """Worth of an answer, usually from 0 to 1."""

    @property
    def name(self) -> str:
        """Stands in curves and figures."""
        ...

    def __call__(self, answer: str, row: Mapping[str, Any]) -> float:
        """An answer that makes no sense is worth 0, never an exception."""
        ...


@dataclass(frozen=True)
class Weighted:
    """A reward by its name and its weight in the sum."""

    name: str
    weight: float
    score: Callable[[str, Mapping[str, Any]], float]


def exact(answer: str, row: Mapping[str, Any]) -> float:
    """1 if the answer is the row's, white space around it aside."""
    return float(answer.strip() == str(target_of(row)).strip())


def number(answer: str, row: Mapping[str, Any]) -> float:
    """1 if the last number of the answer equals that of the row's (what stands after #### counts, if it is there)."""
    found, wanted = last_number(answer), last_number(str(target_of(row)))
    return float(found is not None and found == wanted)


def last_number(text: str) -> Decimal | None:
    """The last number of a text, exactly; commas between thousands are none of it."""
    found = _NUMBER.findall(text.rpartition(_MARKED)[2])
    try:
        return Decimal(found[-1].replace(",", "")) if found else None
    except InvalidOperation:
        return None


def pattern(expression: str) -> Callable[[str, Mapping[str, Any]], float]:
    """1 if the whole answer, white space around it aside, has the form of a regular expression. ConfigError for
    none."""
    try:
        form = re.compile(expression, re.DOTALL)
    except re.error as error:
        raise ConfigError(f"{expression!r:.80} is no regular expression: {error}") from error
    return lambda answer, row: float(form.fullmatch(answer.strip()) is not None)


def json_form(schema: Mapping[str, Any] | None = None) -> Callable[[str, Mapping[str, Any]], float]:
    """1 if the answer is JSON, and of the schema if there is one; a row's own `schema` counts before it.

    References are followed within a schema, never to another place. MissingExtraError without jsonschema.
    """
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError, ValidationError
        from referencing import Registry
        from referencing.exceptions import Unresolvable
    except ImportError:
        raise MissingExtraError("jsonschema", "evaluate", "rewarding JSON") from None
    nowhere: Any = Registry()

    def validator(wanted: Mapping[str, Any]) -> Any:
        try:
            Draft202012Validator.check_schema(wanted)
        except SchemaError as error:
            raise DataError(f"this is no JSON schema: {error.message:.200}") from error
        return Draft202012Validator(wanted, registry=nowhere)

    usual = None if schema is None else validator(schema)

    def score(answer: str, row: Mapping[str, Any]) -> float:
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            return 0.0
        own = row.get("schema")
        check = validator(own) if isinstance(own, Mapping) else usual
        try:
            if check is not None:
                check.validate(value)
        except (ValidationError, Unresolvable, RecursionError):
            return 0.0
        return 1.0

    return score


def target_of(row: Mapping[str, Any]) -> Any:
    """What is right, under any of its usual names. DataError where there is none."""
    for name in _FIELDS:
        if row.get(name) is not None:
            return row[name]
    raise DataError(f"a row has no answer to compare with: it has {', '.join(map(str, row))}", hint='name it "answer"')


def reward_named(spec: str) -> Weighted:
    """A reward as a config spells it: kind, then ":" and what it needs, then "*" and its weight. ConfigError."""
    body, star, factor = spec.rpartition("*")
    weight = _weight(factor) if star else None
    body = spec if weight is None else body
    kind, _, rest = body.partition(":")
    if kind == "pattern" and rest:
        return Weighted(body, 1.0 if weight is None else weight, pattern(rest))
    if kind == "json":
        return Weighted("json", 1.0 if weight is None else weight, json_form(_schema(rest) if rest else None))
    known = {"exact": exact, "number": number}
    if kind not in known or rest:
        raise ConfigError(f"unknown reward {spec!r:.60}", hint=nearest(kind, _KINDS))
    return Weighted(kind, 1.0 if weight is None else weight, known[kind])


def all_rewards(specs: Sequence[str], own: Sequence[Reward] = ()) -> list[Weighted]:
    """Those that a config names, and a user's own. ConfigError if two have one name."""
    found = [reward_named(spec) for spec in specs]
    found += [Weighted(str(one.name), 1.0, one) for one in own]
    names = [one.name for one in found]
    if len(set(names)) != len(names):
        raise ConfigError("two rewards have the same name")
    return found


def _weight(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _schema(path: str) -> Mapping[str, Any]:
    try:
        data = Path(path).expanduser().read_bytes()[: _MAX_SCHEMA_BYTES + 1]
        read = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON schema: {error}") from error
    if not isinstance(read, dict):
        raise ConfigError(f"{path} is no JSON schema: it is no object")
    return read
