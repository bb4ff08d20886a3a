"""ToolStyle: how a model writes that it calls a tool, as its chat template shows it.

    hermes    <tool_call>{"name": ..., "arguments": {...}}</tool_call> for each call   Hermes 2 Pro, Qwen 2.5, ours
    mistral   [TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...]                    Mistral 7B v0.3 and later
    llama     {"name": ..., "parameters": {...}}, one, or several parted by "; "       Llama 3.1 and 3.2

The forms are those of the models' published chat templates. This module does not know grammars or requests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_READS_TOOLS = re.compile(r"\btools\b")


@dataclass(frozen=True, kw_only=True)
class ToolStyle:
    """`opening` and `closing` stand around a call, or around the list of all calls; `separator` parts calls; `prefix`
    may precede everything. Each may be one token of the tokenizer, special or not."""

    name: str
    opening: str
    closing: str
    arguments: str
    """The key of the arguments."""
    listed: bool = False
    """All calls stand in one JSON list after `opening`."""
    separator: str = ""
    prefix: str = ""
    id_characters: int = 24
    """Letters and digits of the id of a call; a template may insist on their number."""

    @property
    def markers(self) -> tuple[str, ...]:
        """The texts that only the form of calls holds."""
        return tuple(text for text in (self.opening, self.closing, self.prefix) if text)


HERMES = ToolStyle(name="hermes", opening="<tool_call>", closing="</tool_call>", arguments="arguments")
MISTRAL = ToolStyle(
    name="mistral", opening="[TOOL_CALLS]", closing="", arguments="arguments", listed=True, id_characters=9
)
LLAMA = ToolStyle(name="llama", opening="", closing="", arguments="parameters", separator="; ", prefix="<|python_tag|>")
STYLES = {style.name: style for style in (HERMES, MISTRAL, LLAMA)}


def style_of(template: str) -> ToolStyle | None:
    """The style of a chat template's source, or None if it knows no tools, or writes calls in another way."""
    if not _READS_TOOLS.search(template):
        return None
    if "[TOOL_CALLS]" in template:
        return None if "[ARGS]" in template or "[CALL_ID]" in template else MISTRAL
    if "<tool_call>" in template:
        return None if "<function=" in template or "<arg_key>" in template else HERMES
    if '"parameters":' in template.replace("\\", "") and ("ipython" in template or "<|python_tag|>" in template):
        return LLAMA
    return None
