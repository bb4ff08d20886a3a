"""Passages: what of the chunks that were found a model gets to read: as much as fits, nothing twice, in an order.

Chunks of one document that overlap or follow each other are joined; the same text in two documents is read once. A
passage knows where each of its characters stands in its document. This module does not know models or citations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bloomery.core.errors import ConfigError
from bloomery.retrieve.chunk import Chunk, Hit

CountTokens = Callable[[str], int]
Order = Literal["score", "document", "edges"]
FRAME_TOKENS = 24
"""What the lines around a passage take, about."""


def estimated_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is known: a third of its UTF-8 bytes, more than most take."""
    return -(-len(text.encode("utf-8", "replace")) // 3)


@dataclass(frozen=True, kw_only=True)
class PassageConfig:
    """How much is read, and in what order."""

    budget_tokens: int = 1500
    """Of all passages together."""
    max_passages: int = 8
    """At most."""
    order: Order = "score"
    """The best first; as documents have them; or the best at both ends and the others between, for models that read
    the middle least (Liu et al., arXiv 2307.03172)."""

    def __post_init__(self) -> None:
        if self.budget_tokens < 32 or self.max_passages < 1:
            raise ConfigError(
                f"{self.max_passages} passages in {self.budget_tokens} tokens are none", hint="32 or more"
            )


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a document without a gap: `document.text[start:end]` is its text."""

    start: int
    end: int
    text: str
    chunks: tuple[Chunk, ...]

    def chunk_id(self, start: int, end: int) -> str:
        """Of the chunk that holds a range of the document, or else of the one that holds its beginning."""
        whole = [one for one in self.chunks if one.start <= start and end <= one.end]
        return (whole or [one for one in self.chunks if one.start <= start < one.end] or list(self.chunks))[0].id


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What is read of one document at one place. `score` is its best chunk's; `also` are documents with the same
    text."""

    document_id: str
    heading: str
    pieces: tuple[Piece, ...]
    score: float
    also: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join(piece.text for piece in self.pieces)

    @property
    def start(self) -> int:
        return self.pieces[0].start

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        return tuple(chunk for piece in self.pieces for chunk in piece.chunks)


def assemble(
    hits: Sequence[Hit], config: PassageConfig | None = None, *, count: CountTokens = estimated_tokens
) -> list[Passage]:
    """The passages of what was found, best first until the budget is full; a chunk that no longer fits makes way for
    a shorter one, and the very first is cut to what fits."""
    config = config or PassageConfig()
    kept: list[Hit] = []
    also: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    left = config.budget_tokens
    for hit in sorted(hits, key=lambda one: -one.score):
        same = " ".join(hit.chunk.text.split()).casefold()
        if not same or same in seen:
            if same and seen[same] not in (hit.chunk.id, "") and hit.chunk.id not in {one.chunk.id for one in kept}:
                also.setdefault(seen[same], []).append(hit.chunk.document_id)
            continue
        joins = any(_touch(hit.chunk, one.chunk) for one in kept)
        if not joins and len(_joined(kept, also)) >= config.max_passages:
            continue
        cost = count(hit.chunk.text) + (0 if joins else FRAME_TOKENS)
        if cost > left and not kept:
            hit, cost = _shortened(hit, left - FRAME_TOKENS, count), left
        if cost <= left and hit.chunk.text:
            kept.append(hit)
            seen[same] = hit.chunk.id
            left -= cost
    return _ordered(_joined(kept, also), config.order)


def _touch(one: Chunk, other: Chunk) -> bool:
    return one.document_id == other.document_id and one.start <= other.end and other.start <= one.end


def _shortened(hit: Hit, room: int, count: CountTokens) -> Hit:
    """The beginning of a chunk that fits, to the end of a word."""
    low, high = 0, len(hit.chunk.text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(hit.chunk.text[:middle]) <= room else (low, middle - 1)
    text = hit.chunk.text[:low]
    text = text[: text.rfind(" ")] if " " in text and low < len(hit.chunk.text) else text
    return replace(hit, chunk=replace(hit.chunk, text=text, end=hit.chunk.start + len(text)))


def _joined(hits: Sequence[Hit], also: dict[str, list[str]]) -> list[Passage]:
    """Passages of chunks, those that touch joined, best first."""
    made: list[Passage] = []
    for document in dict.fromkeys(hit.chunk.document_id for hit in hits):
        own = sorted((hit for hit in hits if hit.chunk.document_id == document), key=lambda hit: hit.chunk.start)
        groups: list[list[Hit]] = []
        end = -1
        for hit in own:
            if groups and hit.chunk.start <= end:
                groups[-1].append(hit)
            else:
                groups.append([hit])
            end = max(end, hit.chunk.end)
        made += [_passage(group, also) for group in groups]
    return sorted(made, key=lambda passage: -passage.score)


def _passage(hits: list[Hit], also: dict[str, list[str]]) -> Passage:
    first = hits[0].chunk
    text, end = first.text, first.end
    for hit in hits[1:]:
        if hit.chunk.end > end:
            text += hit.chunk.text[end - hit.chunk.start :]
            end = hit.chunk.end
    piece = Piece(start=first.start, end=end, text=text, chunks=tuple(hit.chunk for hit in hits))
    others = dict.fromkeys(one for hit in hits for one in also.get(hit.chunk.id, ()) if one != first.document_id)
    return Passage(
        document_id=first.document_id,
        heading=first.heading,
        pieces=(piece,),
        score=max(hit.score for hit in hits),
        also=tuple(others),
    )


def _ordered(passages: list[Passage], order: Order) -> list[Passage]:
    if order == "document":
        places = {document: n for n, document in enumerate(dict.fromkeys(one.document_id for one in passages))}
        return sorted(passages, key=lambda one: (places[one.document_id], one.start))
    if order == "edges":
        return passages[::2] + passages[1::2][::-1]
    return passages
