"""Sample: the nouns of every evaluation. A question with what is right, who answers it, and what the answer is worth.

Whatever answers (a prompt, a retriever, a fine-tuned model, a classic baseline) is an `Answerer`, and whatever judges
is a `Scorer`, so that each can be compared with each on the same samples. This module does not know tasks, models or
files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bloomery.core.errors import DataError
from bloomery.core.quantity import Quantity


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A question, and what a right answer is. DataError for one that no answer could be right for."""

    id: str
    """Its own within its task."""
    input: str
    """The question as text."""
    targets: tuple[str, ...] = ()
    """Answers that are right, each as good as the others; empty where a scorer needs none (a rubric, tests of code)."""
    choices: tuple[str, ...] = ()
    """Answers to choose from; empty for a free one. Every target is one of them."""
    cluster: str = ""
    """Samples that share it (questions about one passage) are not independent; "": it stands alone."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What scorers and filters may want: a rubric, tests, a schema, the passage."""

    def __post_init__(self) -> None:
        if len(set(self.choices)) != len(self.choices) or len(self.choices) == 1:
            raise DataError(f"sample {self.id!r:.60}: choices are two or more, each different")
        for target in self.targets:
            if self.choices and target not in self.choices:
                raise DataError(f"sample {self.id!r:.60}: {target!r:.60} is none of its choices")

    @property
    def gold(self) -> int | None:
        """The place of the right choice; None where there are none."""
        return self.choices.index(self.targets[0]) if self.choices and self.targets else None


@dataclass(frozen=True, kw_only=True)
class Call:
    """One question to a model within an answer: readable afterwards."""

    messages: Sequence[Mapping[str, Any]]
    text: str
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What was answered, and what it took. Costs are those of asking anew, also where an answer was kept; None and
    unknown for what nobody said."""

    sample_id: str
    text: str
    """The answer itself, ready for scorers: without the thinking before it."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0
    """Wall-clock, waiting included."""
    energy_joules: Quantity = field(default_factory=Quantity.unknown)
    calls: tuple[Call, ...] = ()
    confidence: float | None = None
    """Probability, or share of votes, that the answerer itself gives its answer."""
    error: str = ""
    """Why there is no answer; `text` is then "", which scores nothing."""
    failed: bool = False
    """The error is none of this question's own: a server broke down, and nobody knows what the answer were worth."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else can be read: passages and citations, votes."""


class Answerer(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str:
        """Tells it from others, and stands in reports."""
        ...

    def answer(self, sample: Sample) -> Answered:
        """Sees input, choices and metadata, never targets. BloomeryError where every other sample would meet it too;
        what this sample alone has to blame is `Answered.error`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Score:
    """What an answer is worth to one scorer."""

    sample_id: str
    scorer: str
    value: float
    """From 0 to 1, where 1 is right; scorers that say otherwise tell their unit in their name."""
    answer: str = ""
    """What was taken for the answer."""
    why: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class Scorer(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str:
        """Stands in reports, with its settings where they change it."""
        ...

    def score(self, sample: Sample, answered: Answered) -> Score:
        """An answer that failed, or is empty, is worth 0, never an exception."""
        ...
