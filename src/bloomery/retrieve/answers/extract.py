"""Extracts: an answer without a language model: the sentences of the passages that are most about the question.

A sentence's worth is the share of the question's terms that it has, rare ones counting more, and a little for where its
passage stands. A sentence that repeats the question (a heading, a command line in a manual) does not answer it. This
module does not know models.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.retrieve.answers.citation import Citation, cited, numbers, split_sentences, terms
from bloomery.retrieve.answers.passages import Passage

LEAST = 0.15
"""Share of what a question is about that a sentence has to have: with less, it answers another question."""
_RANK = 0.25
"""What the first passage is worth beside all of the question's terms; the n-th is worth 1/n of it."""

_MARKS = ("?", "？", "؟", "՞", ";")
"""At the end of a question; the last is the Greek one."""
_CHARACTERS = 6
"""Of a question that stands nowhere by chance."""


@dataclass(frozen=True)
class Extract:
    """A sentence, and how much it is about the question: from 0 to 1."""

    citation: Citation
    worth: float


def extract(question: str, passages: Sequence[Passage], *, most: int = 2, share: float = 0.6) -> list[Extract]:
    """The best sentences, best first: `most` at most, and none worth less than `share` of the best. [] where none has
    `LEAST` of the question's terms."""
    sentences = [
        (number, passage, piece, start, end)
        for number, passage in enumerate(passages, 1)
        for piece in passage.pieces
        for start, end in split_sentences(piece.text)
    ]
    if asked := _as_asked(question):
        sentences = [one for one in sentences if asked not in _letters(one[2].text[one[3] : one[4]])]
    wanted, had = terms(question), [terms(piece.text[start:end]) for _, _, piece, start, end in sentences]
    if not wanted or not sentences:
        return []
    rarity = {term: math.log(1 + len(had) / (1 + sum(term in one for one in had))) for term in wanted}
    whole = sum(rarity.values())
    best = sorted(passages, key=lambda one: -one.score)
    rank = {id(passage): place for place, passage in enumerate(best, 1)}
    found: list[Extract] = []
    for (number, passage, piece, start, end), there in zip(sentences, had, strict=True):
        if (about := sum(rarity[term] for term in wanted & there) / whole) >= LEAST:
            worth = (about + _RANK / rank[id(passage)]) / (1 + _RANK)
            found.append(Extract(cited(passage, piece, number, start, end, by="extract"), worth))
    found.sort(key=lambda one: (-one.worth, one.citation.passage, one.citation.start))
    return [one for one in found[:most] if one.worth >= share * found[0].worth]


def absent_numbers(question: str, passages: Sequence[Passage]) -> list[str]:
    """The question's numbers and years that stand in none of the passages, in its order."""
    there = set().union(*(numbers(f"{one.heading} {one.text}") for one in passages))
    return [told for bare, told in numbers(question).items() if bare not in there]


def _as_asked(question: str) -> str:
    """A question as it can be found again; "" for what may as well be a part of its answer, as "the blast furnace"."""
    found = _letters(question)
    return found if question.rstrip().endswith(_MARKS) and len(found) >= _CHARACTERS else ""


def _letters(text: str) -> str:
    """Letters and digits of a text, its words apart."""
    return " ".join(re.findall(r"\w+", text.casefold()))
