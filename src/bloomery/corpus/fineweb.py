"""FineWeb's own rules, on text from which C4's have taken lines (Penedo et al. 2024, arXiv:2406.17557, section 3.6)."""

from __future__ import annotations

from bloomery.corpus.measured_document import MeasuredDocument
from bloomery.corpus.repetition import repeated
from bloomery.corpus.rule import Rule
from bloomery.corpus.words import TERMINAL_MARKS

_MARKS = tuple(sorted(TERMINAL_MARKS))
_SHORT_CHARACTERS = 30


def punctuated_lines(document: MeasuredDocument) -> float:
    """Share of lines that end in a mark that ends sentences: at least 0.12 (FineWeb, section 3.6)."""
    lines = document.now.filled_lines
    return sum(line.endswith(_MARKS) for line in lines) / len(lines) if lines else 0.0


def short_lines(document: MeasuredDocument) -> float | None:
    """Share of lines of at most 30 characters: at most 0.67 (FineWeb, section 3.6)."""
    lines = document.now.filled_lines
    return sum(len(line) <= _SHORT_CHARACTERS for line in lines) / len(lines) if lines else None


def repeated_line_characters(document: MeasuredDocument) -> float | None:
    """Share of the characters in lines that are copies of earlier ones: at most 0.01 (FineWeb's code; paper 0.1)."""
    lines = document.now.filled_lines
    return repeated(lines)[1] / (len(document.now.text) - document.now.text.count("\n")) if lines else None


def line_ends_per_word(document: MeasuredDocument) -> float | None:
    """Line ends a word: at most 0.3 (FineWeb's code)."""
    words = len(document.now.numbers)
    return document.now.text.count("\n") / words if words else None


RULES: tuple[Rule, ...] = (
    Rule(name="fineweb_punctuated_lines", measure=punctuated_lines, keep=">=", threshold=0.12),
    Rule(name="fineweb_short_lines", measure=short_lines, keep="<=", threshold=0.67),
    Rule(name="fineweb_repeated_line_characters", measure=repeated_line_characters, keep="<=", threshold=0.01),
    Rule(name="fineweb_line_ends", measure=line_ends_per_word, keep="<=", threshold=0.3),
)
