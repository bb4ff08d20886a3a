"""Chunk: the nouns of retrieval. A piece of a document that knows where it stands, and a chunk that was found.

This module does not know how documents are cut, kept or searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Filters = Mapping[str, Any]
"""Metadata fields and the value, or the list of values, that each should have."""


LEXICAL, VECTOR, LEXICAL_SHARE = "lexical", "vector", "lexical_share"


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """`document.text[start:end]` is its text, in characters."""

    id: str
    """Of document and place and content: the same text at the same place has the same id."""
    document_id: str
    text: str
    start: int
    end: int
    heading: str = ""
    """Titles above it, outermost first, with " > " between them: indexed with it, no part of its text."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The document's."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A chunk that was found; the higher the score, the better, comparable within one search only."""

    chunk: Chunk
    score: float
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Its place, from 1, in each ranking that was joined: {"lexical": 3, "vector": 1}."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Its score in each of them, BM25's or a cosine; and where it is known the share that BM25's is of the highest that
    any text could have: "lexical_share"."""


class Retriever(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str:
        """With its settings where they change what is found."""
        ...

    def search(self, query: str, k: int = 10, filters: Filters | None = None) -> Sequence[Hit]:
        """The best chunks, best first, at most k. A query without a word finds nothing; it is no error."""
        ...
