"""Cut: a document into chunks, each of which knows its place: `document.text[start:end]` is its text.

Sections are found by the document's kind (see `structure`, `code`); the blocks of a section are put together until a
chunk is full, and a block that is larger than a chunk is cut at sentences or lines, then at tokens. All but white
space and headings is in some chunk. This module does not know where documents come from, nor where chunks go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from bloomery.corpus.document import Document
from bloomery.retrieve.cutting.block import Block, Range, Section, trimmed
from bloomery.retrieve.cutting.code import code_sections, is_code
from bloomery.retrieve.cutting.config import CutConfig
from bloomery.retrieve.cutting.ruler import Ruler, Starts, count, words_and_signs
from bloomery.retrieve.cutting.sentences import sentences
from bloomery.retrieve.cutting.structure import HEADING_BETWEEN, sections


class Piece(NamedTuple):
    """A chunk that has no name yet."""

    start: int
    end: int
    heading: str


def cut(document: Document, config: CutConfig, ruler: Ruler = words_and_signs) -> list[Piece]:
    """The pieces of a document, in the order in which they begin; none of a text of white space."""
    text = document.text
    starts = ruler(text)
    pieces: list[Piece] = []
    for section in _sections(document, config):
        if config.method == "tokens":
            ranges = _windows(text, starts, 0, len(text), config.size_tokens, config.overlap_tokens)
        else:
            units = [unit for block in section.blocks for unit in _units(text, starts, block, config)]
            ranges = _packed(starts, units, config)
        pieces += [Piece(start, end, section.heading) for start, end in ranges]
    return pieces


def chunk_id(document_id: str, start: int, end: int, text: str) -> str:
    """16 hex digits of document, place and content."""
    told = f"{document_id}\0{start}\0{end}\0{text}"
    return hashlib.sha256(told.encode("utf-8", "replace")).hexdigest()[:16]


def _sections(document: Document, config: CutConfig) -> Sequence[Section]:
    text, name = document.text, PurePath(document.source).name
    start, end = trimmed(text, 0, len(text))
    if start == end:
        return ()
    whole = (Section("", (Block(start, end),)),)
    if config.method == "code" or (config.method == "auto" and is_code(name, document.metadata)):
        return code_sections(text, name, document.metadata)
    return sections(text) if config.method in ("auto", "structure") else whole


def _units(text: str, starts: Starts, block: Block, config: CutConfig) -> Iterator[Range]:
    """The block itself, or what it is cut into: what may stand together in a chunk."""
    size = config.size_tokens
    if config.method == "whole" or (config.method != "sentences" and count(starts, block.start, block.end) <= size):
        yield block.start, block.end
        return
    parts = sentences(text, block.start, block.end) if block.cut_at == "sentences" else _line_ranges(text, block)
    for start, end in parts:
        if count(starts, start, end) <= size:
            yield start, end
        else:
            yield from _windows(text, starts, start, end, size, 0)


def _line_ranges(text: str, block: Block) -> list[Range]:
    found, start = [], block.start
    for line in text[block.start : block.end].splitlines(keepends=True):
        if line.strip():  # indentation stays
            found.append((start, start + len(line.rstrip())))
        start += len(line)
    return found


def _windows(text: str, starts: Starts, start: int, end: int, size: int, overlap: int) -> Iterator[Range]:
    """Ranges of `size` tokens; white space at their sides is left out."""
    first, past = (int(n) for n in np.searchsorted(starts, (start, end)))
    begin = start
    while True:
        stop = int(starts[first + size]) if first + size < past else end
        low, high = trimmed(text, begin, stop)
        if low < high:
            yield low, high
        if first + size >= past:
            return
        first += size - overlap
        begin = int(starts[first])


def _packed(starts: Starts, units: Sequence[Range], config: CutConfig) -> Iterator[Range]:
    """Neighbours together, as many as fit; each begins with the last ones of the chunk before, as many as may be."""
    sizes = [count(starts, start, end) for start, end in units]
    first = 0
    while first < len(units):
        past, total = first + 1, sizes[first]
        while past < len(units) and count(starts, units[first][0], units[past][1]) <= config.size_tokens:
            total += sizes[past]
            past += 1
        yield units[first][0], units[past - 1][1]
        if past == len(units):
            return
        again, overlapping = past, 0
        while again - 1 > first and overlapping + sizes[again - 1] <= config.overlap_tokens:
            again -= 1
            overlapping += sizes[again]
        # What overlaps must leave room for something new, or a chunk would lie within the one before.
        while again < past and count(starts, units[again][0], units[past][1]) > config.size_tokens:
            again += 1
        first = again


def with_title(title: str, heading: str) -> str:
    """A document's title before the headings of a chunk, once."""
    title = " ".join(title.split())
    if not title or heading == title or heading.startswith(title + HEADING_BETWEEN):
        return heading
    return HEADING_BETWEEN.join(part for part in (title, heading) if part)
