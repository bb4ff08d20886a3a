"""ToolStyle: which style a chat template writes."""

from __future__ import annotations

import pytest

from bloomery.tokenizer.special import CHAT_TEMPLATE, ILLUSTRATED_CHAT_TEMPLATE
from bloomery.tokenizer.tool_style import HERMES, LLAMA, MISTRAL, STYLES, style_of

# What tells them apart in the published templates.
TEMPLATES = {
    "{%- if tools %}{{- '<tools>' }}{%- endif %}{{- '\\n<tool_call>\\n{\"name\": \"' }}": HERMES,
    '{%- if tools is not none %}{{- "[AVAILABLE_TOOLS]" }}{{- "[TOOL_CALLS] [" }}': MISTRAL,
    "{%- if custom_tools is defined %}{%- set tools = custom_tools %}{{- 'Answer with JSON' }}"
    "{{- '\"parameters\": ' }}{%- if message.role == 'ipython' %}": LLAMA,
    "{%- for m in messages %}{{- m.content }}{%- endfor %}": None,
    "{%- if tools %}{{- '[TOOL_CALLS]' ~ name ~ '[ARGS]' }}": None,
    "{%- if tools %}{{- '<tool_call>\\n<function=' ~ name }}": None,
    "{%- if tools %}{{- '<tool_call>' ~ name ~ '<arg_key>' }}": None,
    "{%- if tools %}{{- 'unheard of' }}": None,
    "{{- '<tool_call>' }}": None,
}


@pytest.mark.parametrize(("template", "style"), TEMPLATES.items())
def test_templates(template: str, style):
    assert style_of(template) is style


def test_ours_is_hermes():
    assert style_of(CHAT_TEMPLATE) is style_of(ILLUSTRATED_CHAT_TEMPLATE) is HERMES


def test_names_and_marks():
    assert all(STYLES[name].name == name for name in STYLES)
    assert HERMES.markers == ("<tool_call>", "</tool_call>") and LLAMA.markers == ("<|python_tag|>",)
