"""Texts to learn from: questions with their answers, questions alone, or plain texts, from a file or a corpus.

This module does not know tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.adapt.preference.preferences import Prompt, answer, conversation, prompt_of, read_rows
from bloomery.core.artifact import Artifact
from bloomery.core.errors import DataError
from bloomery.corpus import read_documents

_ANSWERS = ("completion", "output", "response", "chosen")


@dataclass(frozen=True)
class Text:
    """`prompt` None: a plain text; `completion` None: a question alone."""

    prompt: Prompt | None
    completion: str | None


def read_texts(source: Artifact | str | Path) -> list[Text]:
    """A corpus's training documents, or the rows of a JSON or JSONL file: `prompt` (or `instruction` and `input`, or
    `conversations`) with `completion`, `output`, `response` or `chosen`, or without; `messages`; or `text` alone."""
    if isinstance(source, Artifact):
        if source.kind != "corpus":
            raise DataError(f"{source.name} is a {source.kind}, not a corpus")
        return [Text(None, document.text) for document in read_documents(source, "train")]
    path = Path(source)
    return [_text(row, f"{path.name}, row {number}") for number, row in enumerate(read_rows(path), 1)]


def _text(row: Mapping[str, Any], where: str) -> Text:
    if isinstance(row.get("text"), str) and "prompt" not in row:
        return Text(None, row["text"])
    key = next((name for name in _ANSWERS if row.get(name) not in (None, "")), None)
    if key is None and isinstance(row.get("messages"), list):
        messages = conversation(row["messages"], where)
        if messages[-1]["role"] == "assistant" and len(messages) > 1:
            return Text(messages[:-1], answer(messages[-1:], where))
        return Text(messages, None)
    prompt = prompt_of(row, where)
    if prompt is None:
        raise DataError(f'{where} has neither "prompt", "messages" nor "text"')
    return Text(prompt, None if key is None else answer(conversation(row[key], where), where))


def windows(ids: list[int], length: int, first: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(before, after) of a plain text's ids, `first` before them: every token is in one part `after`, and parts have
    `length` tokens at most."""
    whole = [first, *ids]
    for start in range(0, len(whole) - 1, length - 1):
        part = whole[start : start + length]
        if len(part) > 1:
            yield tuple(part[:1]), tuple(part[1:])
