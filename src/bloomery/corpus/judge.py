"""Judge: applies rules in their order to a document: every score, the first rule that drops it, the lines taken.

All rules are measured even of a document that an early one drops, so that any threshold can be moved afterwards. This
module does not know which rules there are, nor files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.measured_document import MeasuredDocument
from bloomery.corpus.rule import Rule
from bloomery.corpus.sentences import Chunks
from bloomery.corpus.words import Vocabulary


@dataclass(frozen=True)
class Verdict:
    """`rule` is the first that drops the document, or None; `text` what the rules on lines left of it.

    `scores` holds a score by name for each rule on documents (None: it could not be measured), `taken` (lines,
    characters) for each rule on lines. Where rules look at lines, `lines` holds for each of those rules an array of
    what it measured of every line, and under "characters" the lines' lengths.
    """

    text: str
    rule: Rule | None
    scores: Mapping[str, float | None]
    taken: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    lines: Mapping[str, NDArray[Any] | None] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """The score for which the document was dropped."""
        return self.scores[self.rule.name] if self.rule else None


class Judge:
    """Judges one document after another; words met before cost one look-up."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._vocabulary, self._sentence_chunks = Vocabulary(), Chunks()

    def judge(
        self, text: str, *, given: Mapping[str, float] | None = None, bad_words: re.Pattern[str] | None = None
    ) -> Verdict:
        """The verdict on a text. `given` holds scores that come from elsewhere: language, karma, classifier, score."""
        self._vocabulary.make_room()
        self._sentence_chunks.make_room()
        document = MeasuredDocument(text, self._vocabulary, sentence_chunks=self._sentence_chunks)
        document.given.update(given or {})
        scores: dict[str, float | None] = {}
        taken: dict[str, tuple[int, int]] = {}
        lines: dict[str, NDArray[Any] | None] = {}
        measured: dict[Any, float | None] = {}
        by: Rule | None = None
        for rule in self.rules:
            if rule.drops == "line" or rule.reads == "lines":
                document.lines.bad_words = bad_words
                values: NDArray[Any] | None = rule.measure(document.lines)  # type: ignore[arg-type,assignment]
                lines[rule.name] = values
                if rule.drops == "line" and values is not None:
                    taken[rule.name] = _take_lines(document, ~rule.keeps(values))
                    continue
                score = None if values is None else float(values[document.lines.alive].sum())
            else:
                document.settle()
                key = rule.measure, document.turn
                if key not in measured:
                    measured[key] = rule.measure(document)  # type: ignore[arg-type,assignment]
                score = measured[key]
            scores[rule.name] = score
            if by is None and not rule.keeps(score):
                by = rule
        document.settle()
        if lines:
            lines["characters"] = np.fromiter(map(len, document.lines.lines), np.int64, len(document.lines.lines))
        return Verdict(document.now.text, by, scores, taken, lines)


def _take_lines(document: MeasuredDocument, dropped: NDArray[np.bool_]) -> tuple[int, int]:
    """(lines, their characters) that a rule takes of those left."""
    lines = document.lines
    dropped = dropped & lines.alive
    document.take_lines(dropped)
    places = dropped.nonzero()[0].tolist()
    return len(places), sum(len(lines.lines[place]) for place in places)
