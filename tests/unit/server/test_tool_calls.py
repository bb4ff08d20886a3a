"""ToolCallReader: calls in every published style, however the text is cut, and content that is no call."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.server.tool_calls import CallArguments, CallStart, Content, ToolCallReader
from bloomery.tokenizer import STYLES


def read(style: str, pieces: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """(content, (name, arguments) of each call) of a text in pieces."""
    reader = ToolCallReader(STYLES[style], {"f", "g"})
    events = [event for piece in pieces for event in reader.push(piece)] + reader.finish()
    content, calls = "", []
    for event in events:
        if isinstance(event, Content):
            content += event.text
        elif isinstance(event, CallStart):
            assert event.index == len(calls)
            calls.append((event.name, ""))
        elif isinstance(event, CallArguments):
            assert event.index == len(calls) - 1
            calls[-1] = (calls[-1][0], calls[-1][1] + event.text)
    assert reader.calls == len(calls)
    return content, calls


F, G = '{"name": "f", "arguments": {"x": "a}{\\"<tool_call>", "y": [1, {}]}}', '{"arguments": {"a":1} , "name":"g"}'
ARGUMENTS = '{"x": "a}{\\"<tool_call>", "y": [1, {}]}'
CASES = [
    ("hermes", "hello ", "hello ", []),
    ("hermes", f"Let me see.\n<tool_call>\n{F}\n</tool_call>", "Let me see.", [("f", ARGUMENTS)]),
    ("hermes", f"<tool_call>{F}</tool_call>\n<tool_call>{G}</tool_call>", "", [("f", ARGUMENTS), ("g", '{"a":1}')]),
    ("hermes", "a <tool_call", "a <tool_call", []),
    ("hermes", '<tool_call>\n{"na', '<tool_call>\n{"na', []),
    ("hermes", '<tool_call>\n{"name": "f", "argu', "", [("f", "")]),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a":', "", [("f", '{"a":')]),
    ("hermes", '<tool_call>{"name":"f","arguments":"{\\"a\\":1}"}</tool_call>', "", [("f", '{"a":1}')]),
    ("hermes", '<tool_call>{"name":"f"}</tool_call>', "", [("f", "{}")]),
    (
        "hermes",
        '<tool_call>{"name":"h","arguments":{}}</tool_call>',
        '<tool_call>{"name":"h","arguments":{}}</tool_call>',
        [],
    ),
    ("hermes", "<tool_call>no JSON</tool_call> x", "<tool_call>no JSON</tool_call> x", []),
    ("hermes", f"<tool_call>{G}</tool_call> That is all.", " That is all.", [("g", '{"a":1}')]),
    ("hermes", "  ", "  ", []),
    ("hermes", "", "", []),
    ("mistral", f"[TOOL_CALLS] [{F}, {G}]", "", [("f", ARGUMENTS), ("g", '{"a":1}')]),
    ("mistral", f"Hm. [TOOL_CALLS][{G}]", "Hm.", [("g", '{"a":1}')]),
    ("mistral", "x [TOOL_CALLS] y", "x [TOOL_CALLS] y", []),
    ("mistral", "hi [TOOL", "hi [TOOL", []),
    ("llama", '{"name": "f", "parameters": {"a": 1}}', "", [("f", '{"a": 1}')]),
    ("llama", '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}', "", [("f", "{}"), ("g", "{}")]),
    ("llama", '<|python_tag|>{"name": "f", "parameters": {}}', "", [("f", "{}")]),
    ("llama", '{"say": {"name":"f"}} x', '{"say": {"name":"f"}} x', []),
    ("llama", 'plain {"name": "f"}', 'plain {"name": "f"}', []),
    ("llama", "<|pyth", "<|pyth", []),
]


@pytest.mark.parametrize(("style", "text", "content", "calls"), CASES)
def test_calls_and_content(style: str, text: str, content: str, calls: list):
    assert read(style, [text]) == (content, calls)
    assert read(style, list(text)) == (content, calls)


PIECES = st.lists(
    st.sampled_from(
        [
            "<tool_call>",
            "</tool_call>",
            "[TOOL_CALLS]",
            "[",
            "]",
            "{",
            "}",
            '"',
            "name",
            ": ",
            '"f"',
            ", ",
            "\\",
            '"name": "f"',
            '"arguments": ',
            "{}",
            "\n",
            "; ",
            F,
            G,
            "x",
            "<|python_tag|>",
            "<tool",
            "é",
        ]
    ),
    max_size=14,
)


@settings(max_examples=400, deadline=None)
@given(pieces=PIECES, style=st.sampled_from(sorted(STYLES)), cuts=st.lists(st.integers(1, 7), min_size=1, max_size=9))
def test_how_the_text_is_cut_changes_nothing(pieces: list[str], style: str, cuts: list[int]):
    text, parts, start = "".join(pieces), [], 0
    while start < len(text):
        size = cuts[len(parts) % len(cuts)]
        parts.append(text[start : start + size])
        start += size
    assert read(style, parts) == read(style, [text])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    arguments=st.lists(st.dictionaries(st.text(), VALUES, max_size=3), min_size=1, max_size=3),
    indent=st.sampled_from([None, 2]),
)
def test_what_json_and_a_pattern_find(arguments: list[dict], indent: int | None):
    calls = [json.dumps({"name": "f", "arguments": one}, indent=indent, ensure_ascii=False) for one in arguments]
    text = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)
    if any("</tool_call>" in call for call in calls):
        return
    expected = [
        json.loads(found)["arguments"] for found in re.findall(r"<tool_call>\s*(.*?)\s*</tool_call>", text, re.S)
    ]
    content, found = read("hermes", list(text))
    assert content == "" and [json.loads(one) for _, one in found] == expected
