"""Structure: the sections of a text by its headings, and in them paragraphs, list items, tables and fenced code.

Markdown (CommonMark's headings of both kinds, fences, lists and GitHub's tables) and reStructuredText's underlined
titles are seen; a text without any is paragraphs between blank lines. This module does not know sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bloomery.retrieve.cutting.block import Block, Section, trimmed

HEADING_BETWEEN = " > "
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r"([=\-~^\"'`+*:.#])\1{2,}[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]+\S")
_TABLE = re.compile(r"[ \t]*\|.*\|[ \t]*$|[ \t]*\+[-=+]{3,}\+[ \t]*$")
_MAX_TITLE_CHARACTERS = 200


@dataclass
class _Open:
    """A section that lines are still added to."""

    heading: str
    title: tuple[int, int] | None = None
    blocks: list[Block] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """The sections of a text in order. A heading under which nothing stands, nor under any below it, is a block of
    itself, so that it can be found."""
    path: list[tuple[int, str]] = []
    found: list[_Open] = [_Open("")]
    underlines: list[str] = []
    lines = _lines(text)
    place = 0
    while place < len(lines):
        title = _title(text, lines, place, underlines)
        if title is not None:
            level, words, past = title
            path = [(one, name) for one, name in path if one < level] + [(level, words)]
            heading = HEADING_BETWEEN.join(name for _, name in path if name)
            found.append(_Open(heading, (lines[place][0], lines[past - 1][1])))
            place = past
            continue
        block, place = _block(text, lines, place)
        if block is not None:
            found[-1].blocks.append(block)
    return [Section(one.heading, one.blocks) for one in _with_bare_titles(text, found) if one.blocks]


def _with_bare_titles(text: str, found: Sequence[_Open]) -> Iterator[_Open]:
    for place, one in enumerate(found):
        below = found[place + 1].heading if place + 1 < len(found) else ""
        if not one.blocks and one.title is not None and not below.startswith(one.heading + HEADING_BETWEEN):
            start, end = trimmed(text, *one.title)
            above = one.heading.rpartition(HEADING_BETWEEN)[0]
            yield _Open(above, None, [Block(start, end)])
        else:
            yield one


def _lines(text: str) -> list[tuple[int, int]]:
    """Ranges of lines, without their ends."""
    found, start = [], 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        found.append((start, end))
        start = end + 1
    return found


def _title(
    text: str, lines: Sequence[tuple[int, int]], place: int, underlines: list[str]
) -> tuple[int, str, int] | None:
    """(level, title, the line after it) of a heading at a line."""
    line = text[slice(*lines[place])]
    if found := _HEADING.match(line):
        return len(found[1]), found[2].strip()[:_MAX_TITLE_CHARACTERS], place + 1
    words = line.strip()
    if not words or len(words) > _MAX_TITLE_CHARACTERS or place + 1 >= len(lines) or _TABLE.match(line):
        return None
    if place and text[slice(*lines[place - 1])].strip():  # the last line of a paragraph is no title
        return None
    under = _UNDERLINE.match(text[slice(*lines[place + 1])])
    if not under or _UNDERLINE.match(words) or len(under[0].rstrip()) < min(3, len(words)):
        return None
    sign = under[1]
    if sign not in underlines:  # reStructuredText: the first kind of line that is met is the outermost
        underlines.append(sign)
    return underlines.index(sign) + 1, words, place + 2


def _block(text: str, lines: Sequence[tuple[int, int]], place: int) -> tuple[Block | None, int]:
    """The block that begins at a line, and the line after it."""
    start, end = lines[place]
    line = text[start:end]
    if not line.strip():
        return None, place + 1
    if fence := _FENCE.match(line):
        past = place + 1
        while past < len(lines) and not text[slice(*lines[past])].strip().startswith(fence[1]):
            past += 1
        past = min(past + 1, len(lines))
        return Block(start, lines[past - 1][1], "lines"), past
    table = bool(_TABLE.match(line))
    past = place + 1
    while past < len(lines):
        following = text[slice(*lines[past])]
        if not following.strip() or _FENCE.match(following) or _HEADING.match(following):
            break
        if table != bool(_TABLE.match(following)) or _ITEM.match(following):
            break
        past += 1
    first, last = trimmed(text, start, lines[past - 1][1])
    return Block(first, last, "lines" if table else "sentences"), past
