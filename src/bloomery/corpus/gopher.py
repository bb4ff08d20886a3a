"""Gopher's rules: the quality of a text and how much of it repeats itself (Rae et al. 2021, arXiv:2112.11446).

Where the paper leaves something open, datatrove's reading of it holds, on which FineWeb was made: mean word length
rather than median, copies beyond the first rather than all of them, thresholds of its table A1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bloomery.corpus.measured_document import MeasuredDocument
from bloomery.corpus.repetition import repeated
from bloomery.corpus.rule import Rule


def word_count(document: MeasuredDocument) -> float:
    """Words that are not only punctuation: from 50 to 100,000 (Gopher, section A.1.1)."""
    return float(np.count_nonzero(~document.now.column("symbols")))


def mean_word_characters(document: MeasuredDocument) -> float | None:
    """Mean characters of words that are not only punctuation: from 3 to 10 (Gopher, section A.1.1)."""
    lengths = document.now.column("lengths")[~document.now.column("symbols")]
    return float(lengths.mean()) if len(lengths) else None


def hashes_per_word(document: MeasuredDocument) -> float | None:
    """Hash signs a word: at most 0.1 (Gopher, section A.1.1)."""
    words = len(document.now.numbers)
    return document.now.text.count("#") / words if words else None


def ellipses_per_word(document: MeasuredDocument) -> float | None:
    """Ellipses a word, of three dots or one character: at most 0.1 (Gopher, section A.1.1)."""
    words, text = len(document.now.numbers), document.now.text
    return (text.count("...") + text.count("…")) / words if words else None


def bullet_lines(document: MeasuredDocument) -> float | None:
    """Share of lines that begin with a bullet or hyphen: at most 0.9 (Gopher, section A.1.1)."""
    lines = document.now.any_lines
    return sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines) if lines else None


def ellipsis_lines(document: MeasuredDocument) -> float | None:
    """Share of lines that end in an ellipsis: at most 0.3 (Gopher, section A.1.1)."""
    lines = document.now.any_lines
    return sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines) if lines else None


def words_with_letters(document: MeasuredDocument) -> float | None:
    """Share of words with a letter in them: at least 0.8 (Gopher, section A.1.1)."""
    letters = document.now.column("letters")
    return int(np.count_nonzero(letters)) / len(letters) if len(letters) else None


def common_words(document: MeasuredDocument) -> float:
    """How many of the, be, to, of, and, that, have, with occur: at least 2 (Gopher, section A.1.1)."""
    common = document.now.column("common")
    return float(int(np.bitwise_or.reduce(common)).bit_count()) if len(common) else 0.0


def repeated_paragraphs(document: MeasuredDocument) -> float:
    """Share of paragraphs that are copies of earlier ones: at most 0.30 (Gopher, table A1)."""
    paragraphs = document.now.paragraphs
    return repeated(paragraphs)[0] / len(paragraphs)


def repeated_paragraph_characters(document: MeasuredDocument) -> float | None:
    """Share of the characters in paragraphs that are copies of earlier ones: at most 0.20 (Gopher, table A1)."""
    return repeated(document.now.paragraphs)[1] / len(document.now.text) if document.now.text else None


def repeated_lines(document: MeasuredDocument) -> float:
    """Share of lines that are copies of earlier ones: at most 0.30 (Gopher, table A1)."""
    lines = document.now.runs_of_lines
    return repeated(lines)[0] / len(lines)


def repeated_line_characters(document: MeasuredDocument) -> float | None:
    """Share of the characters in lines that are copies of earlier ones: at most 0.20 (Gopher, table A1)."""
    return repeated(document.now.runs_of_lines)[1] / len(document.now.text) if document.now.text else None


def _most_frequent(size: int, most: float) -> Callable[[MeasuredDocument], float | None]:
    def measure(document: MeasuredDocument) -> float | None:
        if not document.now.text:
            return None
        return document.now.word_runs.most_frequent_characters(size) / len(document.now.text)

    measure.__doc__ = f"Share of the characters in the most frequent {size} words: at most {most} (Gopher, table A1)."
    return measure


def _repeated(size: int, most: float) -> Callable[[MeasuredDocument], float | None]:
    def measure(document: MeasuredDocument) -> float | None:
        return document.now.word_runs.repeated_characters(size) / len(document.now.text) if document.now.text else None

    measure.__doc__ = (
        f"Share of the characters in runs of {size} words that came before: at most {most} (Gopher, table A1)."
    )
    return measure


_TOP = ((2, 0.20), (3, 0.18), (4, 0.16))
_REPEATED = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))

REPETITION: tuple[Rule, ...] = (
    Rule(name="gopher_repeated_paragraphs", measure=repeated_paragraphs, keep="<=", threshold=0.3),
    Rule(name="gopher_repeated_paragraph_characters", measure=repeated_paragraph_characters, keep="<=", threshold=0.2),
    Rule(name="gopher_repeated_lines", measure=repeated_lines, keep="<=", threshold=0.3),
    Rule(name="gopher_repeated_line_characters", measure=repeated_line_characters, keep="<=", threshold=0.2),
    *(
        Rule(name=f"gopher_top_{size}_words", measure=_most_frequent(size, most), keep="<=", threshold=most)
        for size, most in _TOP
    ),
    *(
        Rule(name=f"gopher_repeated_{size}_words", measure=_repeated(size, most), keep="<=", threshold=most)
        for size, most in _REPEATED
    ),
)

QUALITY: tuple[Rule, ...] = (
    Rule(name="gopher_min_words", measure=word_count, keep=">=", threshold=50),
    Rule(name="gopher_max_words", measure=word_count, keep="<=", threshold=100_000),
    Rule(name="gopher_min_word_characters", measure=mean_word_characters, keep=">=", threshold=3),
    Rule(name="gopher_max_word_characters", measure=mean_word_characters, keep="<=", threshold=10),
    Rule(name="gopher_hashes", measure=hashes_per_word, keep="<=", threshold=0.1),
    Rule(name="gopher_ellipses", measure=ellipses_per_word, keep="<=", threshold=0.1),
    Rule(name="gopher_bullet_lines", measure=bullet_lines, keep="<=", threshold=0.9),
    Rule(name="gopher_ellipsis_lines", measure=ellipsis_lines, keep="<=", threshold=0.3),
    Rule(name="gopher_words_with_letters", measure=words_with_letters, keep=">=", threshold=0.8),
    Rule(name="gopher_common_words", measure=common_words, keep=">=", threshold=2),
)
