"""Judge: applies rules in their order to a document: every score, the first rule that drops it, the lines taken.

All rules are measured even of a document that an early one drops, so that any threshold can be moved afterwards. This
module does not know which rules there are, nor files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.corpus.page import Lines, Page
from bloomery.corpus.rule import Rule
from bloomery.corpus.words import Vocabulary


@dataclass(frozen=True)
class Verdict:
    """`rule` is the first that drops the document, or None; `text` what the rules on lines left of it.

    `scores` holds a score by name for each rule on documents (None: it could not be measured), `taken` (lines,
    characters) for each rule on lines; `lines` the measures of each line, where the rules look at lines.
    """

    text: str
    rule: Rule | None
    scores: Mapping[str, float | None]
    taken: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    lines: Lines | None = None

    @property
    def score(self) -> float | None:
        """The score for which the document was dropped."""
        return self.scores[self.rule.name] if self.rule else None


class Judge:
    """Judges one document after another; words met before cost one look-up."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._vocabulary = Vocabulary()

    def judge(
        self, text: str, *, metadata: Mapping[str, Any] | None = None, given: Mapping[str, float] | None = None
    ) -> Verdict:
        """The verdict on a text. `given` holds scores that come from elsewhere: language, karma, classifier, score."""
        self._vocabulary.make_room()
        page = Page(text, self._vocabulary, metadata)
        page.given.update(given or {})
        scores: dict[str, float | None] = {}
        taken: dict[str, tuple[int, int]] = {}
        measured: dict[tuple[Any, int], float | None] = {}
        by: Rule | None = None
        for rule in self.rules:
            if rule.drops == "line":
                taken[rule.name] = _take_lines(rule, page)
                continue
            if rule.reads == "text":
                page.settle()
            key = (rule.measure, id(page.now) if rule.reads == "text" else 0)
            if key not in measured:
                measured[key] = rule.measure(page)  # type: ignore[arg-type,assignment]
            score = scores[rule.name] = measured[key]
            if by is None and not rule.keeps(score):
                by = rule
        page.settle()
        return Verdict(page.now.text, by, scores, taken, page.lines if taken else None)


def _take_lines(rule: Rule, page: Page) -> tuple[int, int]:
    """(lines, their characters) that the rule takes of those left."""
    lines = page.lines
    dropped = lines.alive & ~rule.keeps(rule.measure(lines))  # type: ignore[arg-type,operator]
    if not dropped.any():
        page.take_lines(dropped)
        return 0, 0
    page.take_lines(dropped)
    places = dropped.nonzero()[0].tolist()
    return len(places), sum(len(lines.lines[place]) for place in places)
