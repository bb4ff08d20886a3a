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
from pathlib import Path
from typing import Any, Protocol

from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.core.number import find_number
from bloomery.evaluate.scorers.structure import JsonSchema, schema_problem

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
    """1 if the number that the answer announces, or ends with, equals that of the row, as the scorer "numeric" reads
    both."""
    found, wanted = find_number(answer), find_number(str(target_of(row)))
    return float(found is not None and found == wanted)


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

    References are followed within a schema, never to another place. MissingExtraError without jsonschema; ConfigError
    for a schema that is none, also where a row has it.
    """
    usual = JsonSchema(schema=schema or {}).schema or {}  # looked at now, not at the first answer

    def score(answer: str, row: Mapping[str, Any]) -> float:
        own = row.get("schema")
        return float(not schema_problem(answer, own if isinstance(own, Mapping) else usual))

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
