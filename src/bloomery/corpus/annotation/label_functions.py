"""Labelling functions: rules that give a document a label, or none. Declared in TOML, or any Python function.

    [[function]]
    name = "asks to text a number"
    label = "spam"
    regex = "(txt|text) .{0,20}\\bto \\d{4,6}\\b"

A function of a file gives its label where all of its conditions hold: `keywords` (one of them, as whole words), `regex`
(found somewhere), `min_`/`max_` of `words` and `characters`, `field` with `equals` (one of them) or `matches` (a
pattern); `unless_keywords` and `unless_regex` must not hold. Large and small letters are the same, but with `case =
true`. This module does not know how their labels are weighed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.config import digest, from_dict, to_dict
from bloomery.core.errors import ConfigError, nearest
from bloomery.core.toml_file import read_toml
from bloomery.corpus.annotation.question import FUNCTIONS, Question, read_question
from bloomery.corpus.document import Document
from bloomery.corpus.rows import field_of

ABSTAIN = -1
_CHUNK = 10_000
Votes = NDArray[np.int16]
"""(documents, functions): places of labels, or ABSTAIN."""


@dataclass(frozen=True)
class LabelFunction:
    """A name and what it says of a document: a label, or None for no opinion."""

    name: str
    call: Callable[[Document], str | None]
    identity: str = ""
    """Stands for what it does, where that is known."""

    def __call__(self, document: Document) -> str | None:
        return self.call(document)


def label_function(call: Callable[[Document], str | None]) -> LabelFunction:
    """A Python function as a labelling function of its name; a decorator."""
    return LabelFunction(call.__name__, call)


@dataclass(frozen=True, kw_only=True)
class DeclaredFunction:
    """A [[function]] of a file; see the module."""

    name: str
    label: str
    keywords: tuple[str, ...] = ()
    regex: str = ""
    unless_keywords: tuple[str, ...] = ()
    unless_regex: str = ""
    min_words: int = 0
    max_words: int | None = None
    min_characters: int = 0
    max_characters: int | None = None
    field: str = ""
    equals: tuple[str, ...] = ()
    matches: str = ""
    case: bool = False

    def __post_init__(self) -> None:
        asks = (self.keywords, self.regex, self.min_words, self.min_characters, self.equals, self.matches)
        if not any(asks) and self.max_words is None and self.max_characters is None:
            raise ConfigError(f'the function "{self.name}" has no condition', hint='keywords = ["free"]')
        if bool(self.field) != bool(self.equals or self.matches):
            raise ConfigError(f'in "{self.name}", field goes together with equals or matches')
        for word in (*self.keywords, *self.unless_keywords):
            if not word.strip():
                raise ConfigError(f'a keyword of "{self.name}" is empty')

    def compiled(self) -> LabelFunction:
        """ConfigError for a pattern that is none."""
        wanted = [self._pattern(_words(self.keywords)), self._pattern(self.regex)]
        unwanted = [self._pattern(_words(self.unless_keywords)), self._pattern(self.unless_regex)]
        value_pattern = self._pattern(self.matches)
        equals = {one if self.case else one.casefold() for one in self.equals}

        def call(document: Document) -> str | None:
            text = document.text
            if not self.min_characters <= len(text) <= (self.max_characters or len(text)):
                return None
            if self.min_words or self.max_words is not None:
                words = len(text.split())
                if not self.min_words <= words <= (words if self.max_words is None else self.max_words):
                    return None
            if any(one is not None and not one.search(text) for one in wanted):
                return None
            if any(one is not None and one.search(text) for one in unwanted):
                return None
            if self.field:
                held = field_of(document.metadata, self.field)
                if held is None:
                    return None
                value = str(held)
                if equals and (value if self.case else value.casefold()) not in equals:
                    return None
                if value_pattern is not None and not value_pattern.search(value):
                    return None
            return self.label

        return LabelFunction(self.name, call, digest(to_dict(self)))

    def _pattern(self, text: str) -> re.Pattern[str] | None:
        if not text:
            return None
        try:
            return re.compile(text, 0 if self.case else re.IGNORECASE)
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(f'the pattern of "{self.name}" is none: {error}', hint=text[:80]) from error


def _words(words: Sequence[str]) -> str:
    """A pattern for one of the words, whole; signs at an end ("£", "!") need no border there."""
    parts = []
    for word in words:
        before = r"(?<!\w)" if word[0].isalnum() else ""
        after = r"(?!\w)" if word[-1].isalnum() else ""
        parts.append(before + r"\s+".join(map(re.escape, word.split())) + after)
    return "|".join(parts)


@dataclass(frozen=True)
class RuleSet:
    """A question and the functions that answer it."""

    question: Question
    functions: tuple[LabelFunction, ...]

    def __post_init__(self) -> None:
        if self.question.kind != "choice":
            raise ConfigError(f'labelling functions answer questions of the kind "choice", not "{self.question.kind}"')
        names = [function.name for function in self.functions]
        if not names or len(set(names)) != len(names):
            raise ConfigError("labelling functions should be one or more, each with a name of its own")

    @property
    def digest(self) -> str:
        """Of what is declared; functions in Python stand there by name alone."""
        return digest([self.question.id, *([one.name, one.identity] for one in self.functions)])

    def votes(self, documents: Iterable[Document]) -> Votes:
        """What each function says of each document. ConfigError for a label that the question has not."""
        places = {label: place for place, label in enumerate(self.question.labels)}
        parts = [np.empty((0, len(self.functions)), np.int16)]
        rows: list[list[int]] = []
        for document in documents:
            rows.append([self._vote(function, document, places) for function in self.functions])
            if len(rows) == _CHUNK:
                parts.append(np.array(rows, np.int16))
                rows = []
        return np.concatenate([*parts, np.array(rows, np.int16).reshape(len(rows), len(self.functions))])

    def _vote(self, function: LabelFunction, document: Document, places: Mapping[str, int]) -> int:
        said = function(document)
        if said is None:
            return ABSTAIN
        if said not in places:
            raise ConfigError(f'"{function.name}" gives the label {said!r:.40}', hint=nearest(str(said), places))
        return places[said]


def read_rules(path: str | Path) -> RuleSet:
    """The question and functions of a TOML file. ConfigError naming it."""
    question = read_question(path)
    listed = read_toml(path).get(FUNCTIONS, [])
    if not isinstance(listed, list) or not listed:
        raise ConfigError(
            f"{path} declares no [[function]]", hint='[[function]] with name, label and keywords = ["..."]'
        )
    functions = []
    for number, values in enumerate(listed, 1):
        try:
            declared = from_dict(DeclaredFunction, _table(values), where=f"function {number}")
            if declared.label not in question.labels:
                hint = nearest(declared.label, question.labels)
                raise ConfigError(f'"{declared.name}" gives the label {declared.label!r:.40}', hint=hint)
            functions.append(declared.compiled())
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    return RuleSet(question, tuple(functions))


def _table(values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError("a function is a table", hint="[[function]]")
    return values
