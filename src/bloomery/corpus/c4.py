"""C4's rules, on lines and on pages, and mC4's (Raffel et al. 2020, JMLR 21; Xue et al. 2021, arXiv:2010.11934).

The code in TensorFlow Datasets and the paper's prose disagree: the code wants 5 words a line and 3 sentences a page,
the prose 3 and 5. The order of the rules is the code's: a page goes for a brace only if the line with it was kept.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.measured_document import Lines, MeasuredDocument
from bloomery.corpus.rule import Rule

_END_MARKS = (".", "?", "!", '"')
_POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def longest_word(lines: Lines) -> NDArray[Any]:
    """Characters of a line's longest word: at most 1,000 (C4, code of TensorFlow Datasets)."""
    return np.array([max(map(len, words), default=0) for words in lines.raw_words], np.int64)


def terminal(lines: Lines) -> NDArray[Any]:
    """1 for a line that ends in one of . ? ! " and not in an ellipsis, else 0 (C4, section 2.2)."""
    return np.array([line.endswith(_END_MARKS) and not line.endswith("...") for line in lines.lines], np.int64)


def line_words(lines: Lines) -> NDArray[Any]:
    """Words between white space of a line without its citation marks: at least 5 (C4, code; 3 in its prose)."""
    pairs = zip(lines.lines, lines.raw, lines.raw_words, strict=True)
    return np.array([len(words) if line is raw else len(line.split()) for line, raw, words in pairs], np.int64)


def line_words_with_citations(lines: Lines) -> NDArray[Any]:
    """Words between white space of a line, its citation marks counted: at least 3 (C4 as datatrove reads it)."""
    return np.array([len(words) for words in lines.raw_words], np.int64)


def javascript(lines: Lines) -> NDArray[Any]:
    """1 for a line that holds "javascript", else 0 (C4, section 2.2)."""
    return lines.holding("javascript")


def policy(lines: Lines) -> NDArray[Any]:
    """1 for a line on terms of use, privacy or cookies, else 0 (C4, code of TensorFlow Datasets)."""
    return lines.holding(*_POLICY)


def lorem_ipsum(lines: Lines) -> NDArray[Any]:
    """Lines left that hold "lorem ipsum": none (C4, section 2.2)."""
    return lines.holding("lorem ipsum")


def braces(lines: Lines) -> NDArray[Any]:
    """Lines left that hold an opening brace: none (C4, section 2.2)."""
    return lines.holding("{")


def sentences(lines: Lines) -> NDArray[Any]:
    """Sentences of the lines left: at least 3 (C4, code; 5 in its prose)."""
    return lines.sentences


def bad_words(lines: Lines) -> NDArray[Any] | None:
    """Lines left that hold a word of the list given, no letter beside it: none (C4, section 2.2)."""
    bad = lines.bad_words
    return None if bad is None else np.array([bad.search(line) is not None for line in lines.lower], np.int64)


def characters(document: MeasuredDocument) -> float:
    """Characters of the page: at most 190,000 (C4, code of TensorFlow Datasets)."""
    return float(len(document.original.text))


def language(document: MeasuredDocument) -> float | None:
    """Probability that the page is in one of the languages wanted (C4 .99, mC4 .70, FineWeb .65)."""
    return document.given.get("language")


def third_longest_line(document: MeasuredDocument) -> float:
    """Characters of the third longest line: at least 200 (mC4, section 3.1)."""
    lengths = heapq.nlargest(3, map(len, document.original.lines))
    return float(lengths[2]) if len(lengths) == 3 else 0.0


def _lines(*, words: int, with_citations: bool = False, terminal_lines: bool = True) -> tuple[Rule, ...]:
    measure = line_words_with_citations if with_citations else line_words
    ends = Rule(name="c4_terminal", measure=terminal, keep=">=", threshold=1, drops="line")
    return (
        Rule(name="c4_longest_word", measure=longest_word, keep="<=", threshold=1000, drops="line"),
        *((ends,) if terminal_lines else ()),
        Rule(name="c4_line_words", measure=measure, keep=">=", threshold=words, drops="line"),
        Rule(name="c4_lorem_ipsum", measure=lorem_ipsum, keep="<=", threshold=0, reads="lines"),
        Rule(name="c4_javascript", measure=javascript, keep="<=", threshold=0, drops="line"),
        Rule(name="c4_braces", measure=braces, keep="<=", threshold=0, reads="lines"),
        Rule(name="c4_policy", measure=policy, keep="<=", threshold=0, drops="line"),
    )


def _sentences(least: int) -> Rule:
    return Rule(name="c4_sentences", measure=sentences, keep=">=", threshold=least, reads="lines")


def _language(name: str, least: float) -> Rule:
    return Rule(name=name, measure=language, keep=">=", threshold=least, reads="given")


_BAD_WORDS = Rule(name="c4_bad_words", measure=bad_words, keep="<=", threshold=0, reads="lines")
_CHARACTERS = Rule(name="c4_characters", measure=characters, keep="<=", threshold=190_000)

TFDS: tuple[Rule, ...] = (_CHARACTERS, *_lines(words=5), _BAD_WORDS, _sentences(3), _language("c4_language", 0.99))
PAPER: tuple[Rule, ...] = (*_lines(words=3), _BAD_WORDS, _sentences(5), _language("c4_language", 0.99))
IN_FINEWEB: tuple[Rule, ...] = (*_lines(words=3, with_citations=True, terminal_lines=False), _sentences(5))
MC4: tuple[Rule, ...] = (
    Rule(name="mc4_third_longest_line", measure=third_longest_line, keep=">=", threshold=200),
    _BAD_WORDS,
    _language("mc4_language", 0.70),
)
LANGUAGE_OF_FINEWEB = _language("fineweb_language", 0.65)
