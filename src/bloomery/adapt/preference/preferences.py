"""Preferences: what somebody liked better, or found good or bad, read from JSON and JSONL in the forms that there are.

A prompt is messages or plain text, a completion the text that answers it. This module does not know tokens or losses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.errors import DataError
from bloomery.corpus.streams import BrokenStream, read_blocks

Prompt = str | tuple[dict[str, str], ...]
"""Plain text, or messages with `role` and `content`, the last of which is not the assistant's."""
_EXPANSION = 200
_ROLES = {"human": "user", "gpt": "assistant", "observation": "tool"}
_JUDGEMENTS = ("label", "kto_tag", "desirable")


@dataclass(frozen=True)
class Preference:
    """Two answers to a prompt, of which `chosen` is the better one."""

    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Judged:
    """An answer to a prompt, and whether it is a good one."""

    prompt: Prompt
    completion: str
    label: bool


def read_preferences(path: str | Path) -> list[Preference]:
    """Pairs of a JSON or JSONL file (compressed or not). DataError, with the row, for what is none.

    A row has `chosen` and `rejected` (text, a message, or messages) and before them `prompt` (text or messages),
    `conversations` or `messages`, or `instruction` and maybe `input` and `system`; without any of these `chosen` and
    `rejected` are whole conversations that begin alike.
    """
    return [_pair(row, f"{Path(path).name}, row {number}") for number, row in enumerate(read_rows(path), 1)]


def read_judged(path: str | Path) -> list[Judged]:
    """Judged completions of a file: `prompt` and `completion`, or `messages` whose last is the answer, and `label`
    (true or false). Pairs are taken as two of them, a good one and a bad one."""
    found: list[Judged] = []
    for number, row in enumerate(read_rows(path), 1):
        where = f"{Path(path).name}, row {number}"
        if "chosen" in row and "rejected" in row:
            pair = _pair(row, where)
            found += [Judged(pair.prompt, pair.chosen, True), Judged(pair.prompt, pair.rejected, False)]
        else:
            found.append(_judged(row, where))
    return found


def read_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list or of JSON lines. DataError for anything else."""
    path = Path(path).expanduser()
    try:
        data = b"".join(read_blocks(path, max_expansion=_EXPANSION))
    except BrokenStream as error:
        raise DataError(f"cannot read {path}: {error.detail}") from error
    try:
        text = data.decode("utf-8-sig")
        rows = json.loads(text) if text.lstrip().startswith("[") else _lines(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is neither a JSON list nor JSON lines: {error}") from error
    if not rows:
        raise DataError(f"{path} has no rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path.name}, row {number} is no object")
        yield row


def _lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _pair(row: Mapping[str, Any], where: str) -> Preference:
    for key in ("chosen", "rejected"):
        if row.get(key) in (None, "", []):
            raise DataError(f'{where} has no "{key}"', hint="a pair is {prompt, chosen, rejected}")
    chosen, rejected = (conversation(row[key], where) for key in ("chosen", "rejected"))
    prompt = prompt_of(row, where)
    if prompt is None:
        prompt, chosen, rejected = _parted(chosen, rejected, where)
    return Preference(prompt, answer(chosen, where), answer(rejected, where))


def _judged(row: Mapping[str, Any], where: str) -> Judged:
    key = next((name for name in _JUDGEMENTS if name in row), None)
    if key is None or not isinstance(row[key], (bool, int)) or row[key] not in (0, 1):
        raise DataError(f'{where} has no "label" of true or false', hint="a row is {prompt, completion, label}")
    if "completion" in row or "output" in row:
        prompt = prompt_of(row, where)
        if prompt is None:
            raise DataError(f'{where} has no "prompt"')
        told = conversation(row.get("completion", row.get("output")), where)
        return Judged(prompt, answer(told, where), bool(row[key]))
    messages = conversation(row.get("messages", row.get("conversations")), where)
    if len(messages) < 2:
        raise DataError(f'{where} has neither "completion" nor messages that end with an answer')
    return Judged(messages[:-1], answer(messages[-1:], where), bool(row[key]))


def prompt_of(row: Mapping[str, Any], where: str) -> Prompt | None:
    """What a row asks, in any of the spellings; None where it asks nothing."""
    if isinstance(row.get("prompt"), str):
        return row["prompt"]
    for key in ("prompt", "conversations", "messages"):
        if key in row and not (key == "messages" and "completion" not in row and "chosen" not in row):
            return conversation(row[key], where)
    if isinstance(row.get("instruction"), str):
        more = row.get("input")
        text = f"{row['instruction']}\n\n{more}" if isinstance(more, str) and more.strip() else row["instruction"]
        system = row.get("system")
        before = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
        return (*before, {"role": "user", "content": text})
    return None


def conversation(value: Any, where: str) -> tuple[dict[str, str], ...]:
    """Text as one message of the assistant's; messages in either spelling."""
    if isinstance(value, str):
        return ({"role": "assistant", "content": value},)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or not value:
        raise DataError(f"{where}: a conversation is a list of messages")
    return tuple(_message(one, where) for one in value)


def _message(value: Any, where: str) -> dict[str, str]:
    if isinstance(value, Mapping):
        role, content = value.get("role", value.get("from")), value.get("content", value.get("value"))
        if isinstance(role, str) and isinstance(content, str):
            return {"role": _ROLES.get(role, role), "content": content}
    raise DataError(f"{where}: a message has a role and content, both texts")


def _parted(
    chosen: tuple[dict[str, str], ...], rejected: tuple[dict[str, str], ...], where: str
) -> tuple[Prompt, tuple[dict[str, str], ...], tuple[dict[str, str], ...]]:
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    if not same:
        raise DataError(f'{where} has no "prompt"', hint="a pair is {prompt, chosen, rejected}")
    return chosen[:same], chosen[same:], rejected[same:]


def answer(messages: tuple[dict[str, str], ...], where: str) -> str:
    """The text of a completion that is one message of the assistant's. DataError for any other."""
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise DataError(f"{where}: a completion is one message of the assistant's")
    return messages[0]["content"]
