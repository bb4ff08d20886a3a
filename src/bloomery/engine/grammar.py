"""Grammars: what llguidance compiles, written from a ConstraintSpec for one tokenizer.

Between the parts of JSON stands what people write there: nothing, one space, or one line end and an indentation that
the schema's nesting gives reason for. A small model with more freedom spends an answer's tokens on white space. Nothing
else is forced: among the tokens that go on towards an allowed text the model chooses as it would without a grammar.
This module does not compile or match.
"""

from __future__ import annotations

import json
from typing import Any

from bloomery.engine.constraint_spec import ConstraintSpec, ToolChoice
from bloomery.engine.json_schema import costly, embedded, nesting
from bloomery.tokenizer import STYLES, Tokenizer, ToolStyle

_OPTIONS = '%llguidance {"no_forcing": true}\n'
_MAX_LEVELS = 5  # of indentation, each up to four spaces, or a tab; deeper parts may stand further to the left
_MAX_SHORT_PATTERN = 500
_WORDS = "TEXT: /(.|\\n)*/\nWS: /[ \\n]{1,2}/\n"
# Llama's calls begin as JSON does, so a text may not.
_PLAIN = "PLAIN: /[ \\t\\r\\n]*[^{ \\t\\r\\n](.|\\n)*/\n"


def grammar_of(spec: ConstraintSpec, tokenizer: Tokenizer) -> str:
    """The grammar as llguidance's JSON; equal for equal constraints."""
    if spec.kind == "tools":
        assert spec.tools is not None
        return _joined(*_tools(spec.tools, STYLES[spec.tools.style], tokenizer))
    if spec.kind in ("json_schema", "json_object"):
        schema = {"type": "object"} if spec.kind == "json_object" else spec.schema
        return _joined("start: @whole\n", {"whole": schema})
    if spec.kind == "choice":
        return _joined("start: " + " | ".join(map(_literal, spec.choices)) + "\n", {})
    if spec.kind == "regex":
        return _joined(f"start: WHOLE\nWHOLE: /{_in_slashes(spec.text)}/\n", {})
    return _joined(spec.text, {})


def takes_long(spec: ConstraintSpec) -> bool:
    """Whether compiling might take seconds: grammars, long regular expressions, schemas with patterns or many parts."""
    if spec.kind == "tools":
        assert spec.tools is not None
        return any(costly(one.parameters) for one in spec.tools.functions) or costly(spec.tools.answer)
    if spec.kind == "regex":
        return len(spec.text) > _MAX_SHORT_PATTERN
    return spec.kind == "grammar" or (spec.kind == "json_schema" and costly(spec.schema))


def _joined(lark: str, schemas: dict[str, Any]) -> str:
    parts: list[dict[str, Any]] = [{"lark_grammar": f"{lark}\n{_OPTIONS}"}]
    for name, schema in schemas.items():
        plain = {} if schema is True else schema
        parts.append({"name": name, "json_schema": plain if plain is False else _with_options(plain)})
    return json.dumps({"grammars": parts})


def _with_options(schema: dict[str, Any]) -> dict[str, Any]:
    levels = int(min(nesting(schema), _MAX_LEVELS))
    white = rf" |\n( {{0,{4 * levels}}}|\t{{0,{levels}}})"
    return {"x-guidance": {"whitespace_pattern": white, "json_allow_general_unicode_escapes": True}, **schema}


def _tools(choice: ToolChoice, style: ToolStyle, tokenizer: Tokenizer) -> tuple[str, dict[str, Any]]:
    schemas = {"call": _call(choice, style)}
    if choice.answer is not None:
        schemas["answer"] = choice.answer
    special = {tokenizer.token_text(index): index for index in tokenizer.special_ids}

    def mark(text: str) -> str:
        return f"<[{special[text]}]>" if text in special else _literal(text)

    if style.listed:
        one = embedded(schemas["call"], "#/$defs/call")
        schemas["call"] = {"$defs": {"call": one}, "type": "array", "items": {"$ref": "#/$defs/call"}, "minItems": 1}
        if not choice.parallel:
            schemas["call"]["maxItems"] = 1
        rest = "rest: WS? @call\n"
    elif style.opening:
        more = f" (WS? {mark(style.opening)} WS? @call WS? {mark(style.closing)})*" if choice.parallel else ""
        rest = f"rest: WS? @call WS? {mark(style.closing)}{more}\n"
    else:
        prefix = f"{mark(style.prefix)}? " if style.prefix in special else ""
        rest = f"rest: {prefix}@call\n"  # one call: Llama's templates refuse messages with more
    return _start(choice, style, mark(style.opening) if style.opening else "", style.opening in special) + rest, schemas


def _start(choice: ToolChoice, style: ToolStyle, opening: str, opens_with_special: bool) -> str:
    """The rules `start` and what it needs but `rest`, which follows the opening."""
    if choice.required:
        return f"start: {opening} rest\n{_WORDS}"
    if choice.answer is not None:
        return f"start: @answer | {opening} rest\n{_WORDS}"
    if not opening:
        return f"start: PLAIN? | rest\n{_WORDS}{_PLAIN}"
    if opens_with_special:
        return f"start: TEXT | TEXT {opening} rest\n{_WORDS}"
    return f"start: TEXT | head rest\nhead[lazy]: TEXT {opening}\n{_WORDS}"


def _call(choice: ToolChoice, style: ToolStyle) -> dict[str, Any]:
    """The JSON schema of one call: one alternative a function."""
    places = {f"f{number}": one for number, one in enumerate(choice.functions)}
    return {
        "$defs": {place: embedded(one.parameters, f"#/$defs/{place}") for place, one in places.items()},
        "anyOf": [
            {
                "type": "object",
                "properties": {"name": {"const": one.name}, style.arguments: {"$ref": f"#/$defs/{place}"}},
                "required": ["name", style.arguments],
                "additionalProperties": False,
            }
            for place, one in places.items()
        ],
    }


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _in_slashes(pattern: str) -> str:
    """A regular expression as Lark holds it: on one line, without a bare slash."""
    result, escaped = [], False
    for character in pattern:
        if character == "\n":
            result.append("n" if escaped else "\\n")
        elif character == "/" and not escaped:
            result.append("\\/")
        else:
            result.append(character)
        escaped = character == "\\" and not escaped
    return "".join(result)
