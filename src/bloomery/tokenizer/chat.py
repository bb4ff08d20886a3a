"""Chat templates: messages to text, in a sandbox, and proof that no message forged a special token.

A template is rendered with the messages as they are. If anything in them could matter to a special token it is
rendered once more with those characters *veiled*: swapped for code points that occur nowhere in the messages. The
special tokens of the veiled text can only come from the template. Where both texts hold the same ones, the plain
text is safe to encode as `transformers` does; where they differ, a message spelt a special token (or tried to have
the template piece one together), and the text is cut at the template's own tokens only.

This module does not know how text is encoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import RequestError
from bloomery.tokenizer.tool_style import ToolStyle, style_of

if TYPE_CHECKING:
    from bloomery.tokenizer.sandbox import TemplateSandbox

_MAX_DEPTH = 32
_MAX_TEMPLATE_CHARACTERS = 1 << 20
_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_KNOWN_ROLES = frozenset({"system", "developer", "user", "assistant", "model", "tool", "function", "ipython"})
# What templates ask of messages and tools by name; a special token may hold one of these words.
_KNOWN_KEYS = frozenset(
    {"role", "content", "name", "type", "text", "tool_calls", "tool_call_id", "id", "function", "arguments"}
    | {"description", "parameters", "strict", "properties", "required", "items", "enum", "default"}
)
_FIRST_VEIL = 0x100000  # the last private-use plane


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation. `forged`: the plain text spells special tokens that the template did not write."""

    text: str
    veiled: str
    unveil: Mapping[int, str]
    special: re.Pattern[str] | None
    forged: bool

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """(text, True) for each special token of the template, (text, False) for what lies between."""
        done = 0
        for match in self.special.finditer(self.veiled) if self.special else ():
            if match.start() > done:
                yield self.veiled[done : match.start()].translate(self.unveil), False
            yield match[0], True
            done = match.end()
        if done < len(self.veiled):
            yield self.veiled[done:].translate(self.unveil), False


class ChatTemplate:
    """A Jinja template of a Hugging Face folder. `special_texts` are the spellings of the special tokens;
    `variables` what the template knows beside the messages (bos_token and so on)."""

    def __init__(self, source: str, *, special_texts: Iterable[str], variables: Mapping[str, str]) -> None:
        self.source = source
        self._variables = dict(variables)
        self._special_texts = sorted((text for text in special_texts if text), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, self._special_texts))) if self._special_texts else None

    @cached_property
    def tool_style(self) -> ToolStyle | None:
        """How the template writes calls of tools; None if it knows no tools, or writes calls in another way."""
        return style_of(self.source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> Rendered:
        """Render a conversation. `tools` are functions as OpenAI describes them. RequestError (param "messages") if it
        is malformed or the template refuses it."""
        messages, plain_tools = self.plain(messages, tools)
        text = self.written(messages, plain_tools, add_generation_prompt)
        veils = self._veils([*messages, *(plain_tools or [])])
        hidden, hidden_tools = (
            None if one is None else [_map_strings(part, lambda value: self._veil(value, veils)) for part in one]
            for one in (messages, plain_tools)
        )
        assert hidden is not None
        if hidden == messages and hidden_tools == plain_tools:
            return Rendered(text, text, {}, self._special, forged=False)
        veiled = self.written(hidden, hidden_tools, add_generation_prompt)
        forged = self._found(text) != self._found(veiled)
        unveil = {veil: chr(code) for code, veil in veils.items()}
        return Rendered(text, veiled, unveil, self._special, forged=forged)

    def plain(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
        """Copies of both as plain data, checked. RequestError as `render`."""
        return self._checked(messages), [_plain(tool, "tools", 0) for tool in tools] if tools else None

    def written(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
        **variables: str,
    ) -> str:
        """The text alone, of messages and tools that are plain data already; `variables` join those of the template."""
        from bloomery.tokenizer.sandbox import RefusedError

        try:
            return self._sandbox.render(
                **self._variables,
                **variables,
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
            )
        except RefusedError as error:
            raise RequestError(f"the chat template refuses these messages: {error}", param="messages") from error

    @cached_property
    def _sandbox(self) -> TemplateSandbox:
        from bloomery.tokenizer.sandbox import RefusedError, TemplateSandbox  # here: without a template, no Jinja

        if len(self.source) > _MAX_TEMPLATE_CHARACTERS:
            raise RequestError("the model's chat template is too long to be one", param="messages")
        try:
            return TemplateSandbox(self.source)
        except RefusedError as error:
            raise RequestError(f"the model's chat template is broken: {error}", param="messages") from error

    def _checked(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence) or not messages:
            raise RequestError("messages should be a list of one message or more", param="messages")
        return [self._checked_message(index, message) for index, message in enumerate(messages)]

    def _checked_message(self, index: int, message: Any) -> dict[str, Any]:
        if not isinstance(message, Mapping):
            raise RequestError(f"message {index} should be an object with role and content", param="messages")
        role = message.get("role")
        if not isinstance(role, str) or not _ROLE.fullmatch(role):
            raise RequestError(
                f"message {index} has no valid role", hint='such as "user" or "assistant"', param="messages"
            )
        plain: dict[str, Any] = _plain(message, f"message {index}", 0)
        content = plain.get("content")
        if isinstance(content, list) and not self._reads_parts:
            plain["content"] = _joined(content, index)
        return plain

    @cached_property
    def _reads_parts(self) -> bool:
        """Whether the template itself looks into content given as a list of typed parts."""
        return bool(re.search(r"""\.type\b|\[\s*['"]type['"]\s*\]""", self.source))

    def _found(self, text: str) -> list[str]:
        return self._special.findall(text) if self._special else []

    @cached_property
    def _veiled_characters(self) -> frozenset[str]:
        """The characters of special tokens that a message's text must not contribute: those that are not words."""
        chosen: set[str] = set()
        for text in self._special_texts:
            marks = {character for character in text if not (character.isalnum() or character.isspace())}
            chosen |= marks or set(text)
        return frozenset(chosen)

    @cached_property
    def _exempt(self) -> re.Pattern[str] | None:
        """Texts that the template looks for in messages, `</think>` say: they stay, so that it behaves the same.

        Not those that are, hold or are part of a special token.
        """
        texts = [
            text
            for text in self._sandbox.compared
            if not any(text in special or special in text for special in self._special_texts)
            and not self._veiled_characters.isdisjoint(text)
        ]
        return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None

    def _veils(self, messages: list[dict[str, Any]]) -> dict[int, int]:
        """For every character of a special token a code point that neither the messages nor the template hold."""
        used = set(self.source)
        for message in messages:
            _map_strings(message, lambda text: used.update(text) or text)
        free = (code for code in range(_FIRST_VEIL, 0x10FFFE) if chr(code) not in used)
        alphabet = sorted({character for text in self._special_texts for character in text})
        return {ord(character): veil for character, veil in zip(alphabet, free, strict=False)}

    def _veil(self, text: str, veils: Mapping[int, int]) -> str:
        wordlike = self._veiled_characters.isdisjoint(text)
        if wordlike and (text in _KNOWN_ROLES or text in self._sandbox.constants):
            return text  # the template was made for it
        if (bare := text.strip()) and any(bare.lower() in special.lower() for special in self._special_texts):
            return text.translate(veils)
        if wordlike:
            return text
        marks = {code: veil for code, veil in veils.items() if chr(code) in self._veiled_characters}
        if self._exempt is None:
            return text.translate(marks)
        parts, done = [], 0
        for match in self._exempt.finditer(text):
            parts += [text[done : match.start()].translate(marks), match[0]]
            done = match.end()
        return "".join([*parts, text[done:].translate(marks)])


def _plain(value: Any, where: str, depth: int) -> Any:
    """A copy of JSON data as exact built-in types, so that a template meets no foreign object."""
    if depth > _MAX_DEPTH:
        raise RequestError(f"{where} is nested too deeply", param="messages")
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise RequestError(f"{where} has a key that is not text", param="messages")
        return {str(key): _plain(one, where, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one, where, depth + 1) for one in value]
    raise RequestError(f"{where} holds a {type(value).__name__}, which is not JSON", param="messages")


def _joined(parts: list[Any], index: int) -> str:
    """The text of content given as parts, for a template that knows only text."""
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise RequestError(
                f"message {index} has a part that is not text: this model reads text only", param="messages"
            )
    return "".join(part["text"] for part in parts)


def _map_strings(value: Any, function: Callable[[str], str]) -> Any:
    """JSON data with every string replaced, keys too."""
    if isinstance(value, str):
        return function(value)
    if isinstance(value, dict):
        return {key if key in _KNOWN_KEYS else function(key): _map_strings(one, function) for key, one in value.items()}
    if isinstance(value, list):
        return [_map_strings(one, function) for one in value]
    return value
