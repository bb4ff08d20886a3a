"""Structure: an answer that is JSON of a schema, or a text that a pattern finds.

Schemas are checked by jsonschema, without fetching what they refer to elsewhere. Patterns and schemas are the task's,
not the model's: a pattern that takes for ever on some text is the task's mistake. This module does not know what the
fields mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bloomery.core.errors import ConfigError, MissingExtraError
from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers.given import nothing

MAX_JSON, MAX_PATTERN_TEXT = 1 << 20, 1 << 16
"""Characters of an answer that are read as JSON, and that a pattern is looked for in; longer ones are worth nothing."""
_FENCE = re.compile(r"```(?:json|JSON)?[ \t]*\n(.*?)\n?```", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class JsonSchema:
    """The schema is this one, else the sample's (`metadata["schema"]`)."""

    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    strict: bool = True
    """The answer is nothing but JSON; False: it may stand in a fence of backticks, text around it."""
    equal: bool = False
    """It also has to be the target, once both are read as JSON."""

    def __post_init__(self) -> None:
        if self.schema is not None:
            _validator(json.dumps(self.schema, sort_keys=True))

    @property
    def name(self) -> str:
        settings = (["loose"] if not self.strict else []) + (["equal"] if self.equal else [])
        return f"json_schema ({', '.join(settings)})" if settings else "json_schema"

    def score(self, sample: Sample, answered: Answered) -> Score:
        if (worthless := nothing(self.name, sample, answered)) is not None:
            return worthless
        schema = self.schema if self.schema is not None else sample.metadata.get("schema", {})
        why = schema_problem(answered.text, schema, strict=self.strict)
        if not why and self.equal:
            value = read_json(answered.text, strict=self.strict)
            why = "" if any(_equal(value, target) for target in sample.targets) else "is not the target"
        return Score(sample_id=sample.id, scorer=self.name, value=float(not why), why=why)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Python's regular expressions. Without a group the answer is right if it is found; with one, if what the first
    group finds last is a target."""

    pattern: str
    ignore_case: bool = False

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"{self.pattern!r:.60} is no regular expression: {error}") from None

    @property
    def name(self) -> str:
        return f"pattern ({self.pattern:.40})"

    def score(self, sample: Sample, answered: Answered) -> Score:
        if (worthless := nothing(self.name, sample, answered)) is not None:
            return worthless
        text = answered.text
        if len(text) > MAX_PATTERN_TEXT:
            why = f"longer than {MAX_PATTERN_TEXT:,} characters"
            return Score(sample_id=sample.id, scorer=self.name, value=0.0, why=why)
        compiled = re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)
        found = list(compiled.finditer(text))
        if not found:
            return Score(sample_id=sample.id, scorer=self.name, value=0.0, why="not found")
        if not compiled.groups:
            return Score(sample_id=sample.id, scorer=self.name, value=1.0, answer=found[-1][0][:1000])
        taken = (found[-1][1] or "").strip()
        targets = [target.strip() for target in sample.targets]
        same = taken in targets or (self.ignore_case and taken.casefold() in [one.casefold() for one in targets])
        return Score(sample_id=sample.id, scorer=self.name, value=float(same), answer=taken[:1000])


def schema_problem(text: str, schema: Mapping[str, Any], *, strict: bool = True) -> str:
    """Why a text is no JSON of a schema, in one line; "" for one that is. ConfigError for a schema that is none, or
    refers to what is not in it: that is the task's mistake, not the answer's."""
    validator = _validator(json.dumps(schema, sort_keys=True))
    from referencing.exceptions import Unresolvable

    try:
        error = next(validator.iter_errors(read_json(text, strict=strict)), None)
        return "" if error is None else f"{error.json_path}: {error.message}"[:300]
    except ValueError as error:
        return str(error)
    except RecursionError:
        return "nested too deeply"
    except (Unresolvable, re.error) as error:
        raise ConfigError(f"this JSON schema cannot be followed: {' '.join(str(error).split()):.200}") from None


def read_json(text: str, *, strict: bool = True) -> Any:
    """The JSON that a text is, or has in a fence or between its first brace and last. ValueError, one line, for none.

    Strictly JSON: no NaN, and a name stands once in an object.
    """
    if len(text) > MAX_JSON:
        raise ValueError(f"longer than {MAX_JSON:,} characters")
    candidates = [text]
    if not strict:
        candidates += reversed(_FENCE.findall(text))
        begins = [place for place in (text.find("{"), text.find("[")) if place >= 0]
        if begins:
            candidates.append(text[min(begins) : max(text.rfind("}"), text.rfind("]")) + 1])
    problem = ""
    for one in candidates:
        try:
            return json.loads(one, parse_constant=_no_constant, object_pairs_hook=_no_twins)
        except ValueError as error:
            problem = problem or f"no JSON: {error}"
    raise ValueError(problem)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _equal(value: Any, target: str) -> bool:
    try:
        return json.dumps(read_json(target), sort_keys=True) == json.dumps(value, sort_keys=True)
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    try:
        from jsonschema import validators
        from jsonschema.exceptions import SchemaError
        from referencing import Registry
    except ImportError:
        raise MissingExtraError("jsonschema", "evaluate", "checking JSON schemas") from None
    found = json.loads(schema)
    kind = validators.validator_for(found, default=validators.Draft202012Validator)
    try:
        kind.check_schema(found)
    except SchemaError as error:
        raise ConfigError(f"this is no JSON schema: {error.message:.200}") from None
    return kind(found, registry=Registry())  # an empty registry: what is elsewhere is not fetched
