"""ConstraintSpec: which texts a request allows, as plain data, checked when it is made.

Nothing is compiled here; what is too large, malformed or not supported is refused in one line. This module does not
know tokens or automata (see `constraint`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, get_args

from bloomery.core.errors import RequestError
from bloomery.engine.json_schema import normalised

MAX_TEXT_CHARACTERS = 50_000
MAX_CHOICES = 1_000
MAX_TOOLS = 128
INVALID_CONSTRAINT = "invalid_constraint"
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LARK_LITERALS = re.compile(r'"(?:\\.|[^"\\\n])*"|/(?:\\.|[^/\\\n])+/')
_LARK_OPTIONS = re.compile(r"\b(temperature|stop)\s*=")

Kind = Literal["json_schema", "json_object", "regex", "grammar", "choice", "tools"]


@dataclass(frozen=True, kw_only=True)
class ToolFunction:
    """A function that may be called. With `strict` its arguments follow `parameters`; else they are any object."""

    name: str
    parameters: Any = field(default_factory=lambda: {"type": "object"}, hash=False)
    """JSON schema of the arguments."""
    strict: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _TOOL_NAME.fullmatch(self.name):
            _refuse(f"a function's name is 1 to 64 letters, digits, _ or -, not {self.name!r:.80}")
        parameters = normalised(self.parameters) if self.strict else {"type": "object"}
        if not isinstance(parameters, dict):
            _refuse(f"the parameters of {self.name} should be an object")
        if parameters.setdefault("type", "object") != "object":
            _refuse(f"the parameters of {self.name} should be of the type object")
        object.__setattr__(self, "parameters", parameters)


@dataclass(frozen=True, kw_only=True)
class ToolChoice:
    """Which calls an answer may hold, and what it may be instead."""

    functions: tuple[ToolFunction, ...]
    style: str
    """A name of `bloomery.tokenizer.STYLES`."""
    required: bool = False
    """The answer is a call; else it may be text, or what `answer` says."""
    parallel: bool = True
    """Several calls may follow each other."""
    answer: Any = field(default=None, hash=False)
    """JSON schema of an answer that calls nothing; None allows any text."""

    def __post_init__(self) -> None:
        names = [function.name for function in self.functions]
        if not 0 < len(names) <= MAX_TOOLS or len(set(names)) < len(names):
            _refuse(f"there should be 1 to {MAX_TOOLS} functions, each with a name of its own")
        if self.answer is not None:
            object.__setattr__(self, "answer", normalised(self.answer))


@dataclass(frozen=True, kw_only=True)
class ConstraintSpec:
    """One constraint; the field that its `kind` names is given, and no other. RequestError (param "constraint") if it
    is malformed, too large, or asks for what cannot be enforced."""

    kind: Kind
    schema: Any = field(default=None, hash=False)
    """kind "json_schema": a JSON schema (draft-07 or 2020-12) as an object or as its text."""
    text: str = ""
    """kind "regex": a regular expression, in the syntax of Rust's `regex`, that the whole text matches; kind
    "grammar": a context-free grammar in llguidance's dialect of Lark."""
    choices: tuple[str, ...] = ()
    """kind "choice": the text is one of these."""
    tools: ToolChoice | None = None
    """kind "tools": calls of functions."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            _refuse(f"{self.kind!r:.40} is no kind of constraint")
        given = {"json_schema": self.schema is not None, "text": self.text != "", "choice": self.choices != ()}
        given["tools"] = self.tools is not None
        wanted = {"json_object": None, "regex": "text", "grammar": "text"}.get(self.kind, self.kind)
        if any(there != (name == wanted) for name, there in given.items()):
            _refuse(f"a constraint of the kind {self.kind} has its own field, and no other")
        if wanted == "json_schema":
            schema = _parsed(self.schema) if isinstance(self.schema, str) else self.schema
            object.__setattr__(self, "schema", normalised(schema))
        elif wanted == "text":
            self._check_text()
        elif wanted == "choice":
            object.__setattr__(self, "choices", _checked_choices(self.choices))

    def _check_text(self) -> None:
        if not isinstance(self.text, str) or not _is_sound(self.text):
            _refuse(f"a {self.kind} is text")
        if len(self.text) > MAX_TEXT_CHARACTERS:
            _refuse(f"the {self.kind} has {len(self.text):,} characters, more than {MAX_TEXT_CHARACTERS:,}")
        if self.kind == "grammar":
            bare = _LARK_LITERALS.sub('""', self.text)
            if (option := _LARK_OPTIONS.search(bare)) is not None:
                _refuse(f"the grammar's option {option[1]} is not supported")
            if "x-guidance" in self.text:
                _refuse("the grammar's key x-guidance is not supported")


def spec_of(constraint: ConstraintSpec | Mapping[str, Any]) -> ConstraintSpec:
    """A spec as it is, or one of the form {"json_schema": {...}}, {"json_object": true}, {"regex": "..."},
    {"grammar": "..."} or {"choice": ["a", "b"]}."""
    if isinstance(constraint, ConstraintSpec):
        return constraint
    if not isinstance(constraint, Mapping) or len(constraint) != 1:
        _refuse("a constraint names one of json_schema, json_object, regex, grammar and choice")
    kind, value = next(iter(constraint.items()))
    if kind == "json_object" and value is True:
        return ConstraintSpec(kind=kind)
    if kind == "json_schema" and value is not None:
        return ConstraintSpec(kind=kind, schema=value)
    if kind in ("regex", "grammar"):
        if not isinstance(value, str) or not value:
            _refuse(f"the {kind} should be text")
        return ConstraintSpec(kind=kind, text=value)
    if kind == "choice":
        return ConstraintSpec(kind=kind, choices=_checked_choices(value))
    _refuse(f"{kind!r:.40} is no constraint: json_schema, json_object, regex, grammar and choice are")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        _refuse("the schema's text is not JSON")


def _checked_choices(choices: Any) -> tuple[str, ...]:
    if isinstance(choices, str) or not isinstance(choices, Sequence) or not 0 < len(choices) <= MAX_CHOICES:
        _refuse(f"there should be 1 to {MAX_CHOICES:,} choices")
    for choice in choices:
        if not isinstance(choice, str) or not choice or not _is_sound(choice):
            _refuse("a choice is text, and not empty")
    if sum(map(len, choices)) > MAX_TEXT_CHARACTERS:
        _refuse(f"the choices have more than {MAX_TEXT_CHARACTERS:,} characters")
    return tuple(dict.fromkeys(choices))


def _is_sound(text: str) -> bool:
    """No half of a surrogate pair, which UTF-8 cannot hold, and no NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _refuse(what: str) -> NoReturn:
    raise RequestError(what, param="constraint", code=INVALID_CONSTRAINT)
