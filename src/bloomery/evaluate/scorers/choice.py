"""Choice: which of a sample's choices a free answer takes: by its letter, its number or its words.

What an answer says last and most plainly counts: a sentence that announces the answer, then an answer that begins with
a letter, then a letter in brackets, then the only choice whose words occur. An answer that takes none, or several, is
told so and worth nothing: guessing for it would be chance's work. This module does not know how questions were put.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers.given import MAX_CHARACTERS, nothing

_LETTERS = string.ascii_uppercase
_SAYS = re.compile(
    r"(?:\banswer|\bchoice|\boption|antwort|réponse|respuesta)\b[\s*_]*"
    r"(?:(?:ist|is|was|est|es|should be|would be|must be)\b)?[\s*_:=\"'`]*(?:(?:option|choice|letter)[\s*_]+)?",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?([^{}]*)\}")
_BEGINS = re.compile(r"[\s*_\"'`(\[]*([A-Za-z]|\d{1,2})[*_\"'`]*(?:[)\].:,]|\s*$|\s*\n|\s+[-–—])")
_LABEL = re.compile(r"([A-Za-z]|\d{1,2})(?![\w'’])[*_\"'`]*([)\].:,;!])?")
_SINCE = re.compile(r"\s*(?:because|since|as|for|[-–—(])", re.IGNORECASE)
_OPENING = " *_\"'`([:$\\"
_OTHER = re.compile(r"\s*(?:or|and|oder|und|ou|et|/|&)\b", re.IGNORECASE)
_BRACKETS = re.compile(r"[(\[]\s*\*{0,2}([A-Z])\*{0,2}\s*[)\]]")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`numbers`: choices are also known as 1, 2, 3; only where no choice is a number itself."""

    numbers: bool = False

    @property
    def name(self) -> str:
        return "choice (numbers)" if self.numbers else "choice"

    def score(self, sample: Sample, answered: Answered) -> Score:
        if (worthless := nothing(self.name, sample, answered)) is not None:
            return worthless
        if not sample.choices or not sample.targets:
            return Score(sample_id=sample.id, scorer=self.name, value=0.0, why="the sample has no choices or no target")
        place = find_choice(answered.text, sample.choices, numbers=self.numbers)
        if place is None:
            return Score(sample_id=sample.id, scorer=self.name, value=0.0, why="takes none of the choices, or several")
        taken = sample.choices[place]
        return Score(sample_id=sample.id, scorer=self.name, value=float(taken in sample.targets), answer=taken)


def find_choice(text: str, choices: Sequence[str], *, numbers: bool = False) -> int | None:
    """The place of the choice that a text takes; None where it takes none, or it cannot be told which."""
    text = unicodedata.normalize("NFKC", text[-MAX_CHARACTERS:]).strip()
    if not text:
        return None
    finder = _Finder(choices, numbers)
    if (place := finder.whole(text)) is not None:
        return place
    for announced in reversed(list(_SAYS.finditer(text))):
        if (place := finder.at(text[announced.end() :])) is not None:
            return place
    for boxed in reversed(_BOXED.findall(text)):
        if (place := finder.whole(boxed)) is not None:
            return place
    if (place := finder.label_first(text)) is not None:
        return place
    letters = {letter for letter in _BRACKETS.findall(text) if letter in finder.labels}
    if len(letters) == 1:
        return finder.labels[letters.pop()]
    lines = [line for line in text.splitlines() if line.strip()]
    for part in (lines[-1], lines[0], text):
        if (place := finder.only_one(part)) is not None:
            return place
    return None


class _Finder:
    def __init__(self, choices: Sequence[str], numbers: bool) -> None:
        self.words = [_alike(choice) for choice in choices]
        self.labels = {letter: place for place, letter in enumerate(_LETTERS[: len(choices)])}
        if numbers and not any(word.isdigit() for word in self.words):
            self.labels |= {str(place + 1): place for place in range(len(choices))}
        self._bare = {_strip(word): place for place, word in reversed(list(enumerate(self.words)))}

    def whole(self, text: str) -> int | None:
        """All of the text is a label or a choice, or both ("B. Berlin")."""
        bare = _strip(_alike(text))
        if bare in self._bare:
            return self._bare[bare]
        if bare.upper() in self.labels:
            return self.labels[bare.upper()]
        label, _, rest = bare.partition(" ")
        place = self.labels.get(_strip(label).upper())
        return place if place is not None and _strip(rest) == _strip(self.words[place]) else None

    def at(self, text: str) -> int | None:
        """The text begins with a label or a choice. "a" and "A" before another word are articles, "I" is a person."""
        rest = " ".join(unicodedata.normalize("NFKC", text[:2000]).split()).lstrip(_OPENING)
        starting = [place for place, word in enumerate(self.words) if _starts(rest.casefold(), word)]
        if starting:
            return max(starting, key=lambda place: len(self.words[place]))
        found = _LABEL.match(rest)
        if found is None:
            return None
        alone = found[2] is not None or not rest[found.end() :].strip(_OPENING + ".)]}")
        if not alone and (found[1].islower() or (found[1] in "AI" and not _SINCE.match(rest[found.end() :]))):
            return None
        return self.labels.get(found[1].upper())

    def label_first(self, text: str) -> int | None:
        found = _BEGINS.match(text)
        if found is None or _OTHER.match(text, found.end()):
            return None
        if found[1].islower() and text.strip(" *_\"'`([").startswith(found[1] + ","):
            return None
        return self.labels.get(found[1].upper())

    def only_one(self, text: str) -> int | None:
        """The only choice whose words occur; words within those of a longer choice that occurs do not count."""
        alike, taken, found = _alike(text), [], set()
        for place in sorted(range(len(self.words)), key=lambda place: -len(self.words[place])):
            word = self.words[place]
            if not word:
                continue
            for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", alike):
                if not any(begin <= match.start() and match.end() <= end for begin, end in taken):
                    taken.append(match.span())
                    found.add(place)
        return found.pop() if len(found) == 1 else None


def _alike(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _strip(text: str) -> str:
    return text.strip(" \t\n.,:;!?*_\"'`()[]{}$“”‘’")


def _starts(text: str, word: str) -> bool:
    return bool(word) and text.startswith(word) and not text[len(word) : len(word) + 1].isalnum()
