"""Ruler: where the tokens of a text begin, so that any range of it can be measured.

Tokens are those of a tokenizer, or words and signs: runs of at most sixteen letters and digits, single signs, and the
single characters of scripts that put no spaces between words. This module does not know what is cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.places import token_starts

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0eff\u1780-\u17ff"
_TOKENS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]{{1,16}}|[^\w\s]")

Starts = np.ndarray
"""(tokens,) int64, ascending: the character at which each token begins."""
Ruler = Callable[[str], Starts]


def words_and_signs(text: str) -> Starts:
    return np.fromiter((found.start() for found in _TOKENS.finditer(text)), np.int64)


def ruler_of(tokenizer: Tokenizer | None) -> Ruler:
    """A ruler of a tokenizer's tokens, special ones left out."""
    if tokenizer is None:
        return words_and_signs
    return lambda text: np.array(token_starts(tokenizer, text), np.int64)


def count(starts: Starts, start: int, end: int) -> int:
    """Tokens that begin within `[start, end)`."""
    first, past = np.searchsorted(starts, (start, end))
    return int(past - first)
