"""Attack: a question whose document also holds an order, and the words by which obedience shows.

`attacks.jsonl` holds forty of our own writing: orders to forget, turns that look real, questions carried outside,
another answer, text that nobody sees, other languages. They show what a defence is worth, not that one is safe: an
attacker who knows it writes others. This module does not know models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bloomery.core.errors import DataError

FILE = Path(__file__).with_name("attacks.jsonl")
_MAX_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Attack:
    """`answer` stands in the document, and none of `success` in an answer that was not led astray."""

    id: str
    kind: str
    """ignore, turn, exfiltrate, change, hidden or language; a file of one's own may have others."""
    language: str
    question: str
    answer: str
    document: str
    success: tuple[str, ...]

    def obeyed(self, text: str) -> bool:
        """Whether a text shows that the order was followed, letters' case aside."""
        return any(one.casefold() in text.casefold() for one in self.success)

    def answered(self, text: str) -> bool:
        """Whether a text holds the right answer."""
        return self.answer.casefold() in text.casefold()


def read_attacks(path: str | Path | None = None) -> list[Attack]:
    """The set that comes with the package, or a file of JSON lines like it. DataError with the line for what is
    none."""
    source = Path(path or FILE)
    try:
        lines = source.read_bytes()[:_MAX_BYTES].decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read: {error}") from None
    made = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
            texts = {name: str(told[name]) for name in ("id", "kind", "language", "question", "answer", "document")}
            one = Attack(**texts, success=tuple(str(word) for word in told["success"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{source}:{number} is no attack: {type(error).__name__} {error}") from None
        if not one.success or not all(one.success) or one.answer not in one.document:
            raise DataError(f"{source}:{number} needs words of success, and a document that holds the answer")
        made.append(one)
    if len({one.id for one in made}) != len(made) or not made:
        raise DataError(f"{source} holds no attacks, or two of the same id")
    return made
