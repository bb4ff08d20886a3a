"""Grammars: one for each kind of constraint, equal for equal ones, tool calls in every published style."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from bloomery.engine import ConstraintSpec, LanguageModel, ToolChoice, ToolFunction
from bloomery.engine.constraint import constraint_for
from bloomery.engine.constraint_spec import spec_of
from bloomery.engine.grammar import grammar_of, takes_long
from bloomery.tokenizer import STYLES, Tokenizer

POINT = {
    "type": "object",
    "properties": {"at": {"$ref": "#/$defs/n"}},
    "required": ["at"],
    "additionalProperties": False,
    "$defs": {"n": {"type": "integer"}},
}
ANSWER = {
    "type": "object",
    "properties": {"say": {"type": "string"}},
    "required": ["say"],
    "additionalProperties": False,
}


def tools(style: str, *, answer=None, required=False, parallel=True) -> ConstraintSpec:
    functions = (ToolFunction(name="move", parameters=POINT), ToolFunction(name="say", strict=False))
    choice = ToolChoice(functions=functions, style=style, answer=answer, required=required, parallel=parallel)
    return ConstraintSpec(kind="tools", tools=choice)


def accepted(tiny: LanguageModel, spec: ConstraintSpec, text: str) -> bool:
    """Whether a text passes, token by token, and may end there."""
    constraint = constraint_for(spec, tiny.tokenizer)
    for token in tiny.tokenizer.encode(text):
        if not constraint.allowed()[token]:
            return False
        constraint.advance(token)
    return constraint.may_stop


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def mistral(*calls: tuple[str, str]) -> str:
    return "[TOOL_CALLS] [" + ", ".join(f'{{"name": "{n}", "arguments": {a}}}' for n, a in calls) + "]"


def llama(name: str, arguments: str) -> str:
    return f'{{"name": "{name}", "parameters": {arguments}}}'


GOOD = {
    "hermes": hermes("move", '{"at": 3}'),
    "mistral": mistral(("move", '{"at": 3}')),
    "llama": llama("move", '{"at": 3}'),
}
TWO = {
    "hermes": hermes("move", '{"at": 3}') + "\n" + hermes("say", '{"x": [1, {}]}'),
    "mistral": mistral(("move", '{"at": 3}'), ("say", '{"x": [1, {}]}')),
    "llama": llama("move", '{"at": 3}') + "; " + llama("say", '{"x": [1, {}]}'),
}


@pytest.mark.parametrize("style", ["hermes", "mistral", "llama"])
def test_calls(tiny: LanguageModel, style: str):
    auto, must, single = tools(style), tools(style, required=True), tools(style, required=True, parallel=False)
    for spec in (auto, must, single):
        assert accepted(tiny, spec, GOOD[style])
        assert not accepted(tiny, spec, GOOD[style].replace("move", "fly"))
        assert not accepted(tiny, spec, GOOD[style].replace("3", '"3"'))
        assert not accepted(tiny, spec, GOOD[style].replace("at", "to"))
        assert not accepted(tiny, spec, GOOD[style][:-1])
    several = style != "llama"  # its templates refuse messages with several calls
    assert accepted(tiny, auto, TWO[style]) == accepted(tiny, must, TWO[style]) == several
    assert not accepted(tiny, single, TWO[style])
    for text in ("", "Hello there.", "a < b and {c}"):
        assert accepted(tiny, auto, text) and not accepted(tiny, must, text)


@pytest.mark.parametrize("style", ["hermes", "mistral", "llama"])
def test_calls_or_an_answer_by_schema(tiny: LanguageModel, style: str):
    either, must = tools(style, answer=ANSWER), tools(style, answer=ANSWER, required=True)
    assert accepted(tiny, either, GOOD[style]) and accepted(tiny, must, GOOD[style])
    if style != "llama":
        assert accepted(tiny, either, TWO[style]) and accepted(tiny, must, TWO[style])
    assert accepted(tiny, either, '{"say": "x"}') and not accepted(tiny, must, '{"say": "x"}')
    assert not accepted(tiny, either, "Hello") and not accepted(tiny, either, '{"say": 5}')


def test_text_may_lead_to_a_call(tiny: LanguageModel):
    assert accepted(tiny, tools("hermes"), "Let me see.\n" + GOOD["hermes"])
    assert accepted(tiny, tools("mistral"), "Let me see.\n" + GOOD["mistral"])
    assert not accepted(tiny, tools("hermes"), GOOD["hermes"] + " There.")
    assert not accepted(tiny, tools("hermes"), "<tool_call> is a mark")


@pytest.mark.parametrize("style", ["hermes", "mistral", "llama"])
def test_marks_may_be_special_tokens(tiny_folder: Path, tmp_path: Path, style: str):
    """As in Mistral's tokenizer and Llama's: the mark is one token, which no text can spell."""
    backend = Backend.from_file(str(tiny_folder / "tokenizer.json"))
    marks = STYLES[style].markers
    backend.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_bytes((tiny_folder / "tokenizer_config.json").read_bytes())
    tokenizer = Tokenizer.load(tmp_path)
    text = {"llama": "<|python_tag|>"}.get(style, "") + GOOD[style]
    for spec in (tools(style), tools(style, required=True), tools(style, answer=ANSWER)):
        constraint = constraint_for(spec, tokenizer)
        ids = tokenizer.encode(text, allow_special=True)
        assert set(ids) & {backend.token_to_id(mark) for mark in marks}
        for token in ids:
            assert constraint.allowed()[token]
            constraint.advance(token)
        assert constraint.may_stop
    first = constraint_for(tools(style, required=True), tokenizer).allowed()
    allowed = {tokenizer.token_text(i) for i in first.nonzero().flatten().tolist()}
    assert allowed == {"hermes": {"<tool_call>"}, "mistral": {"[TOOL_CALLS]"}}.get(style, {"<|python_tag|>", "{"})


def test_equal_constraints_have_equal_grammars(tiny: LanguageModel):
    one, two = (
        spec_of({"json_schema": {"type": "string", "title": "A"}}),
        spec_of({"json_schema": '{"type": "string"}'}),
    )
    assert grammar_of(one, tiny.tokenizer) == grammar_of(two, tiny.tokenizer)
    assert json.loads(grammar_of(tools("hermes"), tiny.tokenizer))["grammars"][1]["name"] == "call"


def test_white_space_is_what_people_write(tiny: LanguageModel):
    """Python's json writes the texts; what is added to them is no JSON less, and only spends tokens."""
    value = {"at": [{"x": 1}, {"x": 2}], "to": "b"}
    inner = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    schema = {"type": "object", "properties": {"at": {"type": "array", "items": inner}, "to": {"enum": ["a", "b"]}}}
    for spec in (spec_of({"json_schema": schema}), spec_of({"json_object": True})):
        for indent in (None, 0, 1, 2, 4, "\t"):
            assert accepted(tiny, spec, json.dumps(value, indent=indent)), indent
        assert accepted(tiny, spec, json.dumps(value, separators=(",", ":")))
        assert accepted(tiny, spec, '{ "at": [ { "x" : 1 } ], "to": "b" }')
        for wasteful in ('{  "at": []}', '{"at":\n\n[]}', '{"at": \n[]}', '{"at":\r[]}', '{"at":\n' + " " * 22 + "[]}"):
            assert not accepted(tiny, spec, wasteful)
    for style, mark, wasteful in (("hermes", "\n{", "\n\n\n{"), ("mistral", " [", "   [")):
        assert not accepted(tiny, tools(style, required=True), GOOD[style].replace(mark, wasteful))


def test_the_longest_white_space_is_short(tiny: LanguageModel):
    """A model that always writes white space where it may still answers: the form of a question with two labels."""
    listed = {"type": "array", "items": {"enum": ["yes", "no"]}, "minItems": 0, "maxItems": 2}
    schema = {"type": "object", "properties": {"answer": listed}, "required": ["answer"], "additionalProperties": False}
    constraint = constraint_for(spec_of({"json_schema": schema}), tiny.tokenizer)
    text = b""
    while not constraint.may_stop:
        allowed = constraint.allowed().nonzero().flatten().tolist()
        pieces = {token: tiny.tokenizer.token_bytes(token) for token in allowed}
        # One character at a time, white before all else.
        token = min(allowed, key=lambda one: (pieces[one].strip() != b"", len(pieces[one]), pieces[one] == b"]"))
        text += pieces[token]
        constraint.advance(token)
        assert len(text) < 200
    assert set(json.loads(text)["answer"]) <= {"yes", "no"}


def test_what_may_take_long():
    assert takes_long(spec_of({"grammar": 'start: "a"'})) and takes_long(spec_of({"json_schema": {"pattern": "a"}}))
    assert takes_long(spec_of({"regex": "a" * 600})) and not takes_long(spec_of({"regex": "a+"}))
    assert not takes_long(tools("hermes")) and not takes_long(spec_of({"choice": ["a"]}))


@pytest.mark.parametrize("pattern", ["a/b", r"a\/b", "a\nb", "a\\\nb", r"[/]x", '"q"', "#x", "// y"])
def test_slashes_and_line_ends_in_regular_expressions(tiny: LanguageModel, pattern: str):
    text = {r"a\/b": "a/b", "a\\\nb": "a\nb", r"[/]x": "/x"}.get(pattern, pattern)
    assert accepted(tiny, spec_of({"regex": pattern}), text)
