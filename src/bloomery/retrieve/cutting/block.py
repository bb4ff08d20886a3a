"""Block: the nouns of cutting. Ranges of a text that are kept whole where they fit, under a heading.

This module does not know how they are found, nor how they become chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Range = tuple[int, int]
"""Of characters: from the first, to before the last."""


@dataclass(frozen=True)
class Block:
    """A paragraph, table, list item, function: kept whole where it fits, else cut at sentences or at lines."""

    start: int
    end: int
    cut_at: Literal["sentences", "lines"] = "sentences"


@dataclass(frozen=True)
class Section:
    """Blocks in order, under one heading: no chunk reaches from one section into the next."""

    heading: str
    blocks: Sequence[Block]


def trimmed(text: str, start: int, end: int) -> Range:
    """The range without white space at either side; (start, start) where it holds nothing else."""
    piece = text[start:end]
    first = len(piece) - len(piece.lstrip())
    return (start, start) if first == len(piece) else (start + first, start + len(piece.rstrip()))
