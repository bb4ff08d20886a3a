"""Tool calls in the text of an answer, read as it comes.

What is not a call is content, and nothing is lost: a call that was begun but never named a function comes out as
content again. The forms are those of `bloomery.tokenizer.ToolStyle`. This module does not know wire formats.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from bloomery.engine import Delta
from bloomery.tokenizer import Tokenizer, ToolStyle

_WHITE = " \t\r\n"
_ARGUMENTS = ("arguments", "parameters")
_KEYS = ("name", "id", "type", *_ARGUMENTS)


@dataclass(frozen=True)
class Content:
    text: str


@dataclass(frozen=True)
class CallStart:
    index: int
    name: str


@dataclass(frozen=True)
class CallArguments:
    """A piece of the JSON text of a call's arguments."""

    index: int
    text: str


Event = Content | CallStart | CallArguments


class ToolCallReader:
    """Feed it text with `push`, and `finish` at the end; both give what they have found. `calls` counts the calls."""

    def __init__(self, style: ToolStyle, names: Collection[str]) -> None:
        """`names` are the functions that may be called."""
        self._style = style
        self._names = names
        self._text = ""  # not yet decided
        self._white = ""  # whitespace that belongs to content if more of it follows
        self._call: _Call | None = None
        self._raw = ""  # what stood between the last content and the call
        self._place = "text" if style.opening else "start"
        self.calls = 0

    def push(self, text: str) -> list[Event]:
        self._text += text
        events: list[Event] = []
        while self._text and getattr(self, f"_in_{self._place}")(events):
            pass
        return events

    def finish(self) -> list[Event]:
        """What was held back. A call that was cut off after its name stays as it is."""
        events: list[Event] = []
        rest = self._text
        if self._call is not None:
            rest = "" if self._call.started else self._raw + self._call.raw + rest
        elif self._place != "text":
            rest = self._raw + rest
        self._text, self._call, self._raw = "", None, ""
        if rest.strip(_WHITE) or not self.calls:
            self._content(events, rest)
            if self._white:
                events.append(Content(self._white))
        return events

    # Each place reads what it can from self._text and says whether there may be more to read.

    def _in_start(self, events: list[Event]) -> bool:
        """Llama: the first character decides."""
        bare = self._text.lstrip(_WHITE)
        prefix = self._style.prefix
        if bare.startswith(("{", prefix)):
            place = self._text.index("{") if bare.startswith("{") else self._text.index(prefix) + len(prefix)
            self._raw, self._text = self._text[:place], self._text[place:]
            self._place = "calls"
            return True
        if prefix.startswith(bare):
            return False
        self._place = "content"
        return True

    def _in_text(self, events: list[Event]) -> bool:
        opening = self._style.opening
        place = self._text.find(opening)
        if place >= 0:
            self._content(events, self._text[:place])
            self._raw, self._text = self._white + opening, self._text[place + len(opening) :]
            self._white = ""
            self._place = "list" if self._style.listed else "calls"
            return True
        held = _overlap(self._text, opening)
        self._content(events, self._text[: len(self._text) - held])
        self._text = self._text[len(self._text) - held :]
        return False

    def _in_list(self, events: list[Event]) -> bool:
        """After the mark: the bracket that begins the list."""
        bare = self._text.lstrip(_WHITE)
        if not bare:
            return False
        if bare[0] != "[":
            return self._give_up(events)
        self._raw += self._text[: self._text.index("[") + 1]
        self._text = bare[1:]
        self._place = "calls"
        return True

    def _in_calls(self, events: list[Event]) -> bool:
        if self._call is None:
            bare = self._text.lstrip(_WHITE)
            if not bare:
                return False
            if bare[0] != "{":
                return self._give_up(events)
            self._raw += self._text[: len(self._text) - len(bare)]
            self._text = bare
            self._call = _Call(self._names)
        was_started = self._call.started
        taken, arguments = self._call.push(self._text)
        self._text = self._text[taken:]
        if self._call.broken:
            self._text = self._call.raw + self._text
            self._call = None
            return self._give_up(events)
        if self._call.started and not was_started:
            assert self._call.name is not None
            events.append(CallStart(self.calls, self._call.name))
            self.calls += 1
        if arguments:
            events.append(CallArguments(self.calls - 1, arguments))
        if self._call.done:
            self._call, self._raw, self._place = None, "", "between"
        return True

    def _in_between(self, events: list[Event]) -> bool:
        """After a call: its closing mark, another call, or content again."""
        marks = [mark for mark in (self._style.closing, self._style.opening, self._separator, "]") if mark]
        bare = self._text.lstrip(_WHITE)
        found = next((mark for mark in marks if bare.startswith(mark)), None)
        if found is None:
            if not bare or any(mark.startswith(bare) for mark in marks):
                return False
            self._place = "content"
            return True
        self._raw += self._text[: self._text.index(found) + len(found)]
        self._text = bare[len(found) :]
        if found in (self._style.opening, self._separator):
            self._place = "list" if self._style.listed and found == self._style.opening else "calls"
        else:
            self._raw = ""
        return True

    def _in_content(self, events: list[Event]) -> bool:
        self._content(events, self._text)
        self._text = ""
        return False

    @property
    def _separator(self) -> str:
        return "," if self._style.listed else self._style.separator.strip()

    def _give_up(self, events: list[Event]) -> bool:
        """This is no call: it is content, and so is what follows."""
        self._text, self._raw = self._raw + self._text, ""
        self._place = "content"
        return True

    def _content(self, events: list[Event], text: str) -> None:
        text = self._white + text
        kept = text.rstrip(_WHITE)
        self._white = text[len(kept) :]
        if kept:
            events.append(Content(kept))


class _Call:
    """One JSON object {"name": ..., "arguments": {...}}, in any order of keys, read character by character."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self.name: str | None = None
        self.started = False
        self.done = False
        self.broken = False
        self._raw: list[str] = []
        self._key: str | None = None
        self._value: list[str] = []
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._waiting: list[str] = []  # arguments that came before the name
        self._given = False

    @property
    def raw(self) -> str:
        return "".join(self._raw)

    def push(self, text: str) -> tuple[int, str]:
        """(characters read, pieces of the arguments' text that are known now)."""
        known: list[str] = []
        for place, character in enumerate(text):
            self._raw.append(character)
            self._read(character, known)
            if self.broken or self.done:
                return place + 1, "".join(known)
        return len(text), "".join(known)

    def _read(self, character: str, known: list[str]) -> None:
        if self._depth == 0:
            self._depth = 1  # the brace that began it
        elif self._in_string:
            self._keep(character, known)
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif character in "{[":
            self._keep(character, known)
            self._depth += 1
        elif character in "]}" and self._depth > 1:
            self._depth -= 1
            self._keep(character, known)
        elif self._depth == 1 and character in ":,}":
            self._border(character, known)
        elif self._depth > 1 or character not in _WHITE:
            self._in_string = character == '"'
            self._keep(character, known)

    def _keep(self, character: str, known: list[str]) -> None:
        self._value.append(character)
        streams = self._key in _ARGUMENTS and self._value[0] != '"'
        if streams and not (self._given and len(self._value) == 1):
            (known if self.started else self._waiting).append(character)

    def _border(self, character: str, known: list[str]) -> None:
        """A colon after a key, or the end of a value."""
        text, self._value = "".join(self._value), []
        try:
            value = json.loads(text) if text else None
        except ValueError:
            self.broken = not self.started
            value = None
        if character == ":":
            self._key = value if isinstance(value, str) else ""
            self.broken = self.broken or (not self.started and self._key not in _KEYS)
            return
        if self._key == "name":
            self._named(value, known)
        elif self._key in _ARGUMENTS and text:
            if isinstance(value, str):  # a JSON text within JSON, as some models write it
                (known if self.started else self._waiting).append(value)
            self._given = True
        self._key = None
        if character == "}":
            self.done = True
            self.broken = self.broken or not self.started
            if self.started and not self._given:
                known.append("{}")

    def _named(self, value: object, known: list[str]) -> None:
        if not isinstance(value, str) or value not in self._names:
            self.broken = True
        elif self.name is None:
            self.name, self.started = value, True
            known.extend(self._waiting)
            self._waiting = []


class AnswerReader:
    """The events of one answer, delta by delta. Without a style there are no calls, and all is content."""

    def __init__(self, tokenizer: Tokenizer, style: ToolStyle | None, names: Collection[str]) -> None:
        """`names` are the functions that may be called."""
        self._tokenizer = tokenizer
        self._style = style if names else None
        self._calls = ToolCallReader(self._style, names) if self._style is not None else None

    @property
    def calls(self) -> int:
        """How many there were so far."""
        return 0 if self._calls is None else self._calls.calls

    def push(self, delta: Delta) -> list[Event]:
        if self._calls is None or self._style is None:
            return [Content(delta.text)] if delta.text else []
        # A mark may be a special token, which gives no text.
        special = [i for i in delta.token_ids if i in self._tokenizer.special_ids]
        marks = [text for i in special if (text := self._tokenizer.token_text(i)) in self._style.markers]
        events = self._calls.push("".join(marks) + delta.text)
        return events + self._calls.finish() if delta.finish_reason is not None else events


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `mark`."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:n])), 0)
