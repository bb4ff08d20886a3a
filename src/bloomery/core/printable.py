"""Printable: a text of anybody's without what a terminal would obey. This module does not know who reads it."""

from __future__ import annotations


def printable(text: str, *, keep: str = "", instead: str = " ") -> str:
    """The text with `instead` for every character that does not print and is not among `keep`; a line, without it."""
    return "".join(c if c.isprintable() or c in keep else instead for c in text)
