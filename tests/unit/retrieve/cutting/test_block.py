"""Ranges without white space at their sides."""

from __future__ import annotations

from bloomery.retrieve.cutting.block import trimmed


def test_trimmed():
    assert trimmed(" ab c \n", 0, 7) == (1, 5)
    assert trimmed("   ", 1, 3) == (1, 1)
    assert trimmed("abc", 1, 2) == (1, 2)
