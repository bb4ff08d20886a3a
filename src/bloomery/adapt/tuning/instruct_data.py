"""Instruct data: files of conversations, instructions, prompts with answers, or texts with labels, as they are found.

A row says what it is by its keys:

    messages (and tools)                          as OpenAI's chat routes take them
    conversations (and system, tools)             from and value: ShareGPT's
    prompt, completion (or response)              two texts, or two lists of messages
    instruction, input or context, output or response
    text, label
    text                                          to go on with; all of it is learnt

Files are JSON Lines, a JSON list, or CSV and TSV with a header, plain or packed by xz or gzip. What is wrong is told
with file and line. This module does not know tokens.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.errors import DataError
from bloomery.evaluate.tasks.rows import CSV, TSV

_MAX_BYTES = 4 << 30
_ROLES = {"human": "user", "gpt": "assistant", "observation": "tool", "function_response": "tool"}
_CALLS = ("function_call", "tool_call")
_KEYS = "messages; conversations; prompt and completion; instruction and output; text and label; text"
_UNPACK: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row. Of a conversation, `messages` and `tools`; of a completion, `prompt` and `answer`; of a text `answer`
    alone, and its `label` where it has one. `where` is its file and line."""

    where: str
    messages: tuple[Mapping[str, Any], ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    prompt: str | None = None
    answer: str = ""
    label: str | None = None

    @property
    def identity(self) -> str:
        """Equal rows have the same."""
        parts = [list(self.messages), list(self.tools), self.prompt, self.answer, self.label]
        return json.dumps(parts, sort_keys=True, ensure_ascii=False)


def read_examples(path: str | Path) -> list[Example]:
    """All rows of a file. DataError, in one line with file and line, for what is no such row; for a file without."""
    path = Path(path).expanduser()
    found = [_example(row, f"{path} {where}") for row, where in _rows(path)]
    if not found:
        raise DataError(f"{path} has no examples")
    return found


def _rows(path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    text = _text(path)
    name = path.name.removesuffix(".xz").removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        reader = csv.DictReader(io.StringIO(text, newline=""), **(TSV if name.endswith(".tsv") else CSV))
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{path} line {reader.line_num} has another number of columns than its header")
                yield row, f"line {reader.line_num}"
        except csv.Error as error:
            raise DataError(f"{path} line {reader.line_num}: {error}") from error
    elif text.lstrip()[:1] == "[":
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is no JSON: {error}") from error
        for number, row in enumerate(rows, start=1):
            yield _mapping(row, f"{path} item {number}"), f"item {number}"
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path} line {number} is no JSON: {error}", hint="one JSON object a line") from error
            yield _mapping(row, f"{path} line {number}"), f"line {number}"


def _text(path: Path) -> str:
    opened = _UNPACK.get(path.suffix, open)
    try:
        with opened(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > _MAX_BYTES:
        raise DataError(f"{path} has more than {_MAX_BYTES >> 30} GiB", hint="split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} line {line} is not UTF-8") from error


def _example(row: Mapping[str, Any], where: str) -> Example:
    if "messages" in row:
        return _conversation(row["messages"], row.get("tools"), where)
    if "conversations" in row:
        talk = [_shared(turn, where) for turn in _list(row["conversations"], "conversations", where)]
        system = row.get("system")
        first = [{"role": "system", "content": _string(system, "system", where)}] if system else []
        return _conversation([*first, *talk], row.get("tools"), where)
    if "prompt" in row:
        return _completion(row, where)
    if "instruction" in row:
        asked = _string(row["instruction"], "instruction", where)
        given = _string(_first(row, ("input", "context"), ""), "input", where)
        answer = _string(_first(row, ("output", "response"), None), "output", where)
        return Example(where=where, messages=asked_and_answered(asked, given, answer))
    if "text" in row:
        label = row.get("label")
        if isinstance(label, (list, dict)):
            raise DataError(f"{where}: a label is a text or a number, not {label!r:.40}")
        text = _string(row["text"], "text", where)
        if not text.strip():
            raise DataError(f"{where}: the text is empty")
        return Example(where=where, answer=text, label=None if label is None else str(label))
    there = ", ".join(map(str, row)) or "nothing"
    raise DataError(f"{where} has none of the known keys, but {there:.80}", hint=f"known: {_KEYS}")


def asked_and_answered(instruction: str, given: str, answer: str) -> tuple[dict[str, str], ...]:
    """An instruction, what it is about, and the answer, as a conversation."""
    content = f"{instruction}\n\n{given}" if given.strip() else instruction
    return {"role": "user", "content": content}, {"role": "assistant", "content": answer}


def _completion(row: Mapping[str, Any], where: str) -> Example:
    answer = _first(row, ("completion", "response", "chosen"), None)
    prompt = row["prompt"]
    if isinstance(prompt, list) and isinstance(answer, list):
        # What stands in the prompt is read, not learnt.
        before = [{**_mapping(one, where), "weight": 0} for one in prompt]
        return _conversation([*before, *answer], row.get("tools"), where)
    text = _string(answer, "completion", where)
    if not text:
        raise DataError(f"{where}: the completion is empty")
    return Example(where=where, prompt=_string(prompt, "prompt", where), answer=text)


def _conversation(value: Any, tools: Any, where: str) -> Example:
    messages = []
    for message in _list(value, "messages", where):
        message = _mapping(message, where)
        if not isinstance(message.get("role"), str):
            raise DataError(f"{where}: a message has no role", hint='such as "user" or "assistant"')
        if message.get("weight", 1) not in (0, 1):
            raise DataError(f"{where}: a message's weight is 0 or 1, not {message['weight']!r:.40}")
        messages.append(_without_values(message, where))
    if not any(one["role"] in ("assistant", "model") for one in messages):
        raise DataError(f"{where}: nothing is said by the assistant", hint="a message with role assistant is learnt")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else []
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: tools are no JSON: {error}") from error
    known = [_mapping(tool, where) for tool in _list(tools or [], "tools", where, empty=True)]
    described = [tool if "function" in tool else {"type": "function", "function": tool} for tool in known]
    return Example(where=where, messages=tuple(messages), tools=tuple(described))


def _without_values(message: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A message whose parts are {"type", "value"} (LLaMA-Factory's), as OpenAI and templates of thinking models say
    it; any other as it is."""
    parts = message.get("content")
    if not isinstance(parts, list) or not all(isinstance(part, dict) and "value" in part for part in parts):
        return message
    made: dict[str, Any] = {**message, "content": ""}
    for part in parts:
        value = part["value"]
        if part.get("type") == "tool_call":
            made.setdefault("tool_calls", []).extend(_calls(value, where))
        elif part.get("type") in ("text", "reasoning"):
            key = "content" if part["type"] == "text" else "reasoning_content"
            made[key] = made.get(key, "") + _string(value, "value", where)
        else:
            raise DataError(f"{where}: a part of a message has the type {part.get('type')!r:.40}")
    return made


def _calls(value: Any, where: str) -> list[dict[str, Any]]:
    try:
        call = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: a call of a function is no JSON: {error}") from error
    return [{"type": "function", "function": one} for one in (call if isinstance(call, list) else [call])]


def _shared(turn: Any, where: str) -> dict[str, Any]:
    """A turn of ShareGPT's as a message."""
    turn = _mapping(turn, where)
    who, text = turn.get("from"), _string(turn.get("value"), "value", where)
    if not isinstance(who, str):
        raise DataError(f"{where}: a turn does not say from whom it is", hint='such as "human" or "gpt"')
    if who in _CALLS:
        calls = _calls(text, where)
        return {"role": "assistant", "content": "", "tool_calls": calls}
    return {"role": _ROLES.get(who, who), "content": text}


def _first(row: Mapping[str, Any], keys: Sequence[str], default: Any) -> Any:
    return next((row[key] for key in keys if row.get(key) is not None), default)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} should be an object, not {value!r:.40}")
    return value


def _list(value: Any, key: str, where: str, *, empty: bool = False) -> list[Any]:
    if not isinstance(value, list) or not (value or empty):
        raise DataError(f"{where}: {key} should be a list, not {value!r:.40}")
    return value


def _string(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: {key} should be a text, not {value!r:.40}")
    return value
