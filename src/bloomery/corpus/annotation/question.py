"""Question: what annotators are asked of a document, and what counts as an answer.

    name = "spam"
    kind = "choice"                  # choice, choices, rating, pairwise, ranking, text
    instruction = "Is this message advertising that nobody asked for?"
    labels = ["ham", "spam"]

An answer is plain JSON data: a label; a list of labels; a whole number; "left", "right" or "tie"; an order of
candidates, best first, by their places; a text. A question's id is a digest of all of it: a changed instruction is
another question. This module does not know who answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeGuard

from bloomery.core.config import digest, from_dict, to_dict
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.toml_file import read_toml
from bloomery.corpus.document import Document

Kind = Literal["choice", "choices", "rating", "pairwise", "ranking", "text"]
Level = Literal["nominal", "ordinal", "interval"]
SIDES = ("left", "right", "tie")
FUNCTIONS = "function"
"""The tables of a question's file that are labelling functions."""
_MAX_LABELS = 1000
_MAX_ANSWER_CHARACTERS = 1_000_000
_MAX_CANDIDATES = 100


@dataclass(frozen=True, kw_only=True)
class Example:
    """A text and its answer, to show what is meant."""

    text: str
    answer: Any


@dataclass(frozen=True, kw_only=True)
class Question:
    """See the module. ConfigError for one that cannot be answered."""

    name: str
    """A short name; in files and tables."""
    kind: Kind
    """What is asked for: one label, several labels, a rating, which of two, an order, or a text (a rewriting, say)."""
    instruction: str
    """What annotators are told, people and models alike."""
    labels: tuple[str, ...] = ()
    """The labels, of choice and choices."""
    guidelines: dict[str, str] = field(default_factory=dict)
    """More about a label, by its name."""
    examples: tuple[Example, ...] = ()
    """Texts with their answers ([[examples]]), shown to people and models; not for pairwise and ranking."""
    low: int = 1
    """The worst rating."""
    high: int = 5
    """The best rating."""
    level: Level | Literal[""] = ""
    """What differences between ratings mean for agreement [default: ordinal]; labels are nominal."""
    tie: bool = False
    """Whether neither of two may be better."""
    candidates_field: str = "candidates"
    """Metadata field with the list of texts that pairwise and ranking compare; the document is what they answer."""

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable() or len(self.name) > 100:
            raise ConfigError(f"{self.name!r:.40} is no name of a question", hint='name = "spam"')
        if not self.instruction.strip():
            raise ConfigError(f'the question "{self.name}" asks nothing', hint='instruction = "..."')
        takes_labels = self.kind in ("choice", "choices")
        if takes_labels != bool(self.labels):
            what = "needs labels" if takes_labels else "has no labels"
            raise ConfigError(f'a question of the kind "{self.kind}" {what}', hint='labels = ["ham", "spam"]')
        if takes_labels:
            self._check_labels()
        if unknown := set(self.guidelines) - set(self.labels):
            raise ConfigError(f"guidelines for {sorted(unknown)[0]!r:.40}, which is no label")
        if self.examples and self.kind in ("pairwise", "ranking"):
            raise ConfigError(f"examples are not for {self.kind}")
        for example in self.examples:
            try:
                self.checked(example.answer)
            except DataError as error:
                raise ConfigError(f"an example's answer: {error.message}", hint=error.hint) from error
        if self.kind == "rating" and not self.low < self.high <= self.low + 1000:
            raise ConfigError(f"ratings from {self.low} to {self.high}", hint="low = 1 and high = 5")

    def _check_labels(self) -> None:
        if len(set(self.labels)) != len(self.labels) or not 2 - (self.kind == "choices") <= len(self.labels):
            raise ConfigError("labels should be two or more, each once")
        if len(self.labels) > _MAX_LABELS:
            raise ConfigError(f"{len(self.labels):,} labels are more than {_MAX_LABELS:,}")
        for label in self.labels:
            if not label or label != label.strip() or not label.isprintable():
                raise ConfigError(f"{label!r:.40} is no label", hint="a line of text without space around it")

    @cached_property
    def id(self) -> str:
        """16 hex digits."""
        return digest(to_dict(self))[:16]

    @property
    def measured(self) -> Level:
        """The level of measurement of its answers."""
        return self.level or ("ordinal" if self.kind == "rating" else "nominal")

    def to_dict(self) -> dict[str, Any]:
        return to_dict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Question:
        return from_dict(cls, values, where="question")

    def candidates(self, document: Document) -> list[str]:
        """The texts that are compared. DataError for a document without them."""
        found = document.metadata.get(self.candidates_field)
        needed = "two texts" if self.kind == "pairwise" else "two texts or more"
        texts = [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
        if not texts or texts != found or not 2 <= len(texts) <= (2 if self.kind == "pairwise" else _MAX_CANDIDATES):
            raise DataError(
                f'document {document.id} of {document.source} has no list of {needed} in "{self.candidates_field}"',
                hint="candidates_field names it; curate keeps it with curate.metadata_fields",
            )
        return texts

    def checked(self, value: Any, *, candidates: int = 0) -> Any:
        """The answer in its one form. DataError for what is none; `candidates` is how many are ranked (0: not
        known)."""
        kind = self.kind
        if kind == "choice" and isinstance(value, str) and value in self.labels:
            return value
        if kind == "choices" and isinstance(value, list) and all(one in self.labels for one in value):
            return [label for label in self.labels if label in value]
        if kind == "rating" and _is_whole(value) and self.low <= value <= self.high:
            return int(value)
        if kind == "pairwise" and isinstance(value, str) and value in SIDES[: 3 if self.tie else 2]:
            return value
        if kind == "ranking" and isinstance(value, list) and _is_order(value, candidates):
            return value
        if kind == "text" and isinstance(value, str) and value.strip() and len(value) <= _MAX_ANSWER_CHARACTERS:
            return value
        raise DataError(f'{value!r:.60} is no answer to "{self.name}"', hint=self.expects())

    def expects(self) -> str:
        """What an answer is, in words."""
        return {
            "choice": "one of: " + ", ".join(self.labels)[:200],
            "choices": "a list of: " + ", ".join(self.labels)[:200],
            "rating": f"a whole number from {self.low} to {self.high}",
            "pairwise": "one of: " + ", ".join(SIDES[: 3 if self.tie else 2]),
            "ranking": "the places of all candidates, from 0, the best first",
            "text": "a text",
        }[self.kind]


def _is_whole(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1


def _is_order(value: list[Any], candidates: int) -> bool:
    places = [one for one in value if isinstance(one, int) and not isinstance(one, bool)]
    return 1 < len(places) == len(value) == (candidates or len(value)) and sorted(places) == list(range(len(places)))


def read_question(path: str | Path) -> Question:
    """A question from its TOML file, which may hold labelling functions too. ConfigError naming the file."""
    table = read_toml(path)
    try:
        return Question.of({key: value for key, value in table.items() if key != FUNCTIONS})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
