"""Which tokens of a conversation the assistant wrote: what a model that is trained on it should learn.

A template may say so itself (`{% generation %}`, as transformers reads it). Of any other it is found out: every text of
every message is enclosed in characters that occur nowhere else, the conversation is rendered once more, and without
them it has to be the same text. An assistant's turn then goes from where the generation prompt ends, which is what the
model will be given, up to and with the token that ends its turn, which is what will stop it. A token that stands for
characters of both sides counts as the assistant's, as in transformers. This module does not know losses or models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import RequestError
from bloomery.tokenizer.chat import ChatTemplate
from bloomery.tokenizer.sandbox import BEGIN, END
from bloomery.tokenizer.special import TURN_ENDS
from bloomery.tokenizer.tokenizer import Tokenizer

ASSISTANTS = frozenset({"assistant", "model"})
_MARKS_ITSELF = re.compile(r"\{%[-+]?\s*generation\b")
_FIRST_MARK, _LAST_MARK = 0xF0000, 0xFFFFD  # the first private-use plane; veils are in the last
_KEPT_KEYS = frozenset({"role", "type", "id", "tool_call_id", "weight"})
_HINT = "mark the assistant's text in the template with {% generation %} and {% endgeneration %}"

Span = tuple[int, int]


@dataclass(frozen=True)
class LearntTokens:
    """`ids` of a conversation, and for each whether it is `learnt`. `ended`: every turn of the assistant has a token
    that ends it."""

    ids: list[int]
    learnt: list[bool]
    ended: bool = True


def learnt_tokens(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
) -> LearntTokens:
    """A conversation in the tokenizer's chat template. Turns with `"weight": 0` are read, but not learnt. RequestError
    (param "messages") for messages that the template refuses, and for a template that hides whose text is whose."""
    template = tokenizer.chat_template
    if template is None:
        raise RequestError(f"{tokenizer.source} has no chat template", param="messages")
    ends = [text for text in TURN_ENDS if _is_special(tokenizer, text)]
    ends += [tokenizer.token_text(index) for index in tokenizer.eos_ids]
    plain, tools = template.plain(messages, tools)
    rendered = template.render(plain, add_generation_prompt=False, tools=tools)
    spans = _spans(template, plain, tools, rendered.text, list(dict.fromkeys(ends)))
    ids: list[int] = []
    offsets: list[Span] = []
    if rendered.forged:
        for text, start, special in _placed(rendered.pieces()):
            if special:
                ids.append(tokenizer.special_id(text))
                offsets.append((start, start + len(text)))
            else:
                found, places = tokenizer.encode_offsets(text)
                ids += found
                offsets += [(start + first, start + last) for first, last in places]
    else:
        ids, offsets = tokenizer.encode_offsets(rendered.text, allow_special=True)
    return LearntTokens(ids, _within(offsets, spans), _all_ended(rendered.text, spans, ends))


def _spans(
    template: ChatTemplate,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    text: str,
    ends: Sequence[str],
) -> list[Span]:
    """From and up to which characters of the rendered text the assistant's turns go."""
    if _MARKS_ITSELF.search(template.source):
        return _own_spans(template, messages, tools, text)
    places = _places(template, messages, tools, text)
    spans: list[Span] = []
    for number, message in enumerate(messages):
        if message["role"] not in ASSISTANTS or message.get("weight") == 0:
            continue
        low = max((last for other, (_, last) in places.items() if other < number), default=0)
        high = min((first for other, (first, _) in places.items() if other > number), default=len(text))
        first, last = places.get(number, (None, None))
        low = max(low, spans[-1][1] if spans else 0)
        within = (low, high if first is None else first, high if last is None else last)
        start = _start(template, messages[:number], tools, text, within, bool(places))
        start = first if start is None else start
        end = None if start is None else _end(text, ends, max(start, last or start), high)
        end = last if end is None else end
        if start is None or end is None:
            raise RequestError(
                f"the chat template does not show where message {number} stands", hint=_HINT, param="messages"
            )
        spans.append((start, end))
    return spans


def _start(
    template: ChatTemplate,
    before: Sequence[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    text: str,
    within: tuple[int, int, int],
    searches: bool,
) -> int | None:
    """Where the generation prompt before a turn ends; None: it is not there. `within`: where the text before the turn
    ends, and where its own begins and ends. Without `searches` all has to begin as it did when the turn was asked."""
    low, first, last = within
    if not before:
        return None
    try:
        prompt = template.written(before, tools, True)
        bare = template.written(before, tools, False)
    except RequestError:  # a template may refuse a conversation that ends there
        return None
    if text.startswith(prompt) and low <= len(prompt) <= last:
        return len(prompt)
    # Earlier turns may be written otherwise once there are later ones; the prompt itself stays, or its beginning does
    # (one that goes on with "<think>" is followed by no such thing in turns that have been).
    asked = prompt.removeprefix(bare) if prompt.startswith(bare) else ""
    for size in range(len(asked) if searches else 0, 1, -1):
        at = text.rfind(asked[:size], low, first)
        if at >= 0:
            return at + size
    return None


def _end(text: str, ends: Sequence[str], last: int, high: int) -> int | None:
    """Up to where a turn goes whose text ends at `last`: with the first token that ends a turn; None if there is none
    before the next message's text."""
    found = [(at, len(end)) for end in ends if (at := text.find(end, last, high)) >= 0]
    return sum(min(found)) if found else None


def _places(
    template: ChatTemplate,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    text: str,
) -> dict[int, Span]:
    """From and up to which characters the text of each message goes, without messages that leave none; nothing at all
    where the template writes another text as soon as messages are marked."""
    used = set(template.source).union(text)
    free = (chr(code) for code in range(_FIRST_MARK, _LAST_MARK) if chr(code) not in used)
    marks = {mark: number for number, mark in zip(range(len(messages)), free, strict=False)}
    try:
        written = template.written(
            [_marked(message, mark) for message, mark in zip(messages, marks, strict=True)], tools, False
        )
    except RequestError:
        return {}
    places: dict[int, Span] = {}
    kept: list[str] = []
    done = at = 0
    for match in re.finditer("[" + "".join(marks) + "]", written):
        kept.append(written[done : match.start()])
        at, done = at + match.start() - done, match.end()
        number = marks[match[0]]
        places[number] = (places[number][0] if number in places else at, at)
    return places if "".join([*kept, written[done:]]) == text else {}


def _marked(value: Any, mark: str) -> Any:
    """JSON data whose texts are enclosed in a mark, inside the white space around them, which templates strip."""
    if isinstance(value, str):
        bare = value.strip()
        if not bare:
            return value
        start = value.index(bare)
        return f"{value[:start]}{mark}{bare}{mark}{value[start + len(bare) :]}"
    if isinstance(value, dict):
        return {key: one if key in _KEPT_KEYS else _marked(one, mark) for key, one in value.items()}
    return [_marked(one, mark) for one in value] if isinstance(value, list) else value


def _own_spans(
    template: ChatTemplate,
    messages: Sequence[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None,
    text: str,
) -> list[Span]:
    """What the template itself marks as the assistant's."""
    used = set(template.source).union(text)
    begin, end = [chr(code) for code in range(_FIRST_MARK, _LAST_MARK) if chr(code) not in used][:2]
    written = template.written(messages, tools, False, **{BEGIN: begin, END: end})
    turns = [message for message in messages if message["role"] in ASSISTANTS]
    spans: list[Span] = []
    at = done = 0
    for match in re.finditer(f"[{begin}{end}]", written):
        at, done = at + match.start() - done, match.end()
        if match[0] == begin:
            spans.append((at, at))
        else:
            spans[-1] = (spans[-1][0], at)
    if len(spans) == len(turns):
        spans = [span for span, turn in zip(spans, turns, strict=True) if turn.get("weight") != 0]
    return spans


def _within(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Whether each token stands for a character of a span; one that stands for none, whether it lies in one."""
    learnt = []
    place = 0
    for first, last in offsets:
        while place < len(spans) and spans[place][1] <= first:
            place += 1
        inside = place < len(spans) and spans[place][0] < max(last, first + 1)
        learnt.append(inside)
    return learnt


def _all_ended(text: str, spans: Sequence[Span], ends: Sequence[str]) -> bool:
    return all(text[first:last].rstrip().endswith(tuple(ends)) for first, last in spans)


def _placed(pieces: Iterator[tuple[str, bool]]) -> Iterator[tuple[str, int, bool]]:
    at = 0
    for text, special in pieces:
        yield text, at, special
        at += len(text)


def _is_special(tokenizer: Tokenizer, text: str) -> bool:
    try:
        tokenizer.special_id(text)
    except KeyError:
        return False
    return True
