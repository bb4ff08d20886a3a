"""Journal: answers of a model as they came, so that whoever was interrupted need not ask again.

One JSON line an answer; a torn last one, of a process that was killed, is left out. This module does not know what is
asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bloomery.core.config import digest
from bloomery.core.messages import ChatAnswer, ChatOptions, Message, Usage
from bloomery.core.quantity import Quantity


def question_key(model: str, messages: Sequence[Message], options: ChatOptions) -> str:
    """Stands for all that decides an answer."""
    return digest([model, list(map(dict, messages)), options.plain()])


class Journal:
    """Answers by `question_key`, on disk and in memory."""

    def __init__(self, path: Path) -> None:
        self._answers: dict[str, ChatAnswer] = {}
        sound = 0
        if path.exists():
            with path.open("rb") as stream:
                for line in stream:
                    answer = _read(line) if line.endswith(b"\n") else None
                    if answer is None:
                        break
                    self._answers[answer[0]] = answer[1]
                    sound += len(line)
            os.truncate(path, sound)
        self._stream = path.open("ab")

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: str) -> ChatAnswer | None:
        return self._answers.get(key)

    def add(self, key: str, answer: ChatAnswer) -> None:
        usage = answer.usage
        row = {
            "key": key,
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "seconds": answer.seconds,
            "seed": answer.seed,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "energy_joules": usage.energy_joules.to_dict(),
        }
        self._stream.write(json.dumps(row).encode() + b"\n")
        self._stream.flush()
        self._answers[key] = answer

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(line: bytes) -> tuple[str, ChatAnswer] | None:
    try:
        row: dict[str, Any] = json.loads(line)
        usage = Usage(
            prompt_tokens=row["prompt_tokens"],
            completion_tokens=row["completion_tokens"],
            energy_joules=Quantity.from_dict(row["energy_joules"]),
        )
        told = {name: row[name] for name in ("text", "finish_reason", "seconds", "seed")}
        return str(row["key"]), ChatAnswer(usage=usage, **told)
    except (ValueError, KeyError, TypeError):
        return None
