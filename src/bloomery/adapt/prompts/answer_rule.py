"""Answer rule: where in what a model said its answer stands.

The thinking before it is left out, a choice is told as the task tells it, and what names no answer is no answer:
nothing is guessed. This module does not know models or prompts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bloomery.core.errors import ConfigError
from bloomery.core.messages import chosen
from bloomery.core.number import as_digits, last_number

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MOST_CHARACTERS = 200_000
_LETTER = re.compile(r"[\s(\[*_\"'`]*([A-Z])(?![\w'])")
_AROUND = " \t\r\n.,;:!?\"'`*_()[]{}"
Take = Literal["text", "line", "choice", "number", "json", "pattern"]


@dataclass(frozen=True, kw_only=True)
class AnswerRule:
    """How an answer is read. ConfigError for a rule that cannot be meant."""

    take: Take = "text"
    """text: all of it; line: its first line; choice: the one of the sample's choices that it names, or the first line
    where the sample has none; number: the last number; json: an object, or a key of one; pattern: the first group, or
    the whole, of a regular expression's last match."""
    marker: str = ""
    """What stands before the answer ("Answer:"); its last place counts, in any case. Without it there is no answer."""
    choices_as: Literal["texts", "letters"] = "texts"
    """What choices are called between the prompt and the model: by themselves, or A, B, C."""
    pattern: str = ""
    """Of take = "pattern"."""
    key: str = ""
    """Of take = "json": the value of this key is the answer; "" the whole object."""
    schema: dict[str, Any] = field(default_factory=dict)
    """The answer is held to this JSON schema as it is written."""
    constrained: bool = False
    """The answer is held to the choices as it is written. No thinking comes before it then."""

    def __post_init__(self) -> None:
        if (self.take == "pattern") != bool(self.pattern):
            raise ConfigError('"answer.pattern" and take = "pattern" belong together')
        if self.take != "json" and (self.key or self.schema):
            raise ConfigError('"answer.key" and "answer.schema" are of take = "json"')
        if self.constrained and (self.take != "choice" or self.marker):
            raise ConfigError(
                '"answer.constrained" is of take = "choice" without a marker', hint="the whole answer is the choice"
            )
        try:
            re.compile(self.pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(f'"answer.pattern" is no regular expression: {error}') from error

    def names(self, choices: Sequence[str]) -> tuple[str, ...]:
        """What the choices are called in the prompt. ConfigError for more choices than letters."""
        if self.choices_as == "texts":
            return tuple(choices)
        if len(choices) > len(LETTERS):
            raise ConfigError(f"{len(choices)} choices have no letters", hint='answer.choices_as = "texts"')
        return tuple(LETTERS[: len(choices)])

    def read(self, said: str, choices: Sequence[str] = ()) -> str | None:
        """The answer in what a model said, or None where there is none."""
        text = self.after_marker(said[-_MOST_CHARACTERS:])
        if text is None:
            return None
        if self.take == "choice" and choices:
            return self._choice(text, choices)
        if self.take == "number":
            number = last_number(text)
            return None if number is None else as_digits(number)
        if self.take == "json":
            return json_answer(text, self.key)
        if self.take == "pattern":
            found = [match.group(1) if match.re.groups else match.group() for match in re.finditer(self.pattern, text)]
            return (found[-1] or "").strip() or None if found else None
        bare = text.strip()
        if self.take in ("line", "choice"):
            bare = bare.split("\n", 1)[0].strip()
        return bare or None

    def after_marker(self, said: str) -> str | None:
        """What comes after the last marker; all of it for a rule without one, None where it is missing."""
        if not self.marker:
            return said
        places = list(re.finditer(re.escape(self.marker), said, re.IGNORECASE))
        return said[places[-1].end() :] if places else None

    def _choice(self, text: str, choices: Sequence[str]) -> str | None:
        names = self.names(choices)
        exact = chosen(text, names)
        if exact is not None:
            return choices[names.index(exact)]
        if self.choices_as == "letters":
            found = _LETTER.match(text)
            if found and found.group(1) in names:
                return choices[names.index(found.group(1))]
        return named_choice(text, choices)


def named_choice(text: str, choices: Sequence[str]) -> str | None:
    """The only choice that a text names as whole words, in any case; None where it names none, or several.

    A choice within a longer one that is named ("spam" in "not spam") is not named by it.
    """
    bare = text.strip(_AROUND).casefold()
    same = [choice for choice in choices if choice.strip(_AROUND).casefold() == bare]
    if len(same) == 1:
        return same[0]
    rest, found = text.casefold(), []
    for choice in sorted(choices, key=len, reverse=True):
        words = choice.strip().casefold()
        if not words:
            continue
        rest, count = re.subn(rf"(?<!\w){re.escape(words)}(?!\w)", "\0", rest)
        if count:
            found.append(choice)
    return found[0] if len(found) == 1 else None


def json_answer(text: str, key: str) -> str | None:
    """An object's key as text, or the object; None for what is no object, or lacks the key. What stands around the
    outermost braces (a fence, a sentence) is nothing."""
    start, end = text.find("{"), text.rfind("}")
    try:
        value = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if not key:
        return json.dumps(value, ensure_ascii=False)
    found = value.get(key)
    if found is None:
        return None
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
