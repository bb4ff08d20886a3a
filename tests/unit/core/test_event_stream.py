"""Server-sent events out of bytes, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import DataError
from bloomery.core.event_stream import events

# The second example of the standard (WHATWG HTML 9.2.6): two events, a comment and an unknown field in between.
STANDARD = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"


def test_the_standards_example():
    assert list(events([STANDARD])) == ["first event", "second event", " third event"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@settings(max_examples=40)
@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_however_lines_end_and_bytes_are_cut(end: bytes, cuts: list[int]):
    text = STANDARD.replace(b"\n", end)
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    blocks = [text[a:b] for a, b in pairwise(borders)]
    assert list(events(blocks)) == ["first event", "second event", " third event"]


def test_several_data_lines_are_one_event():
    assert list(events([b"data: YHOO\ndata: +2\ndata: 10\n\n"])) == ["YHOO\n+2\n10"]


def test_a_last_event_without_its_empty_line_is_given():
    assert list(events([b"data: [DO", b"NE]"])) == ["[DONE]"]


def test_characters_that_are_cut_are_whole_again():
    text = "data: 火炉\n\n".encode()
    assert list(events([text[:8], text[8:10], text[10:]])) == ["火炉"]


@pytest.mark.parametrize(
    "block", [b"data: " + b"x" * 200, b"x" * 200, b"data: " + b"x" * 60 + b"\n" + b"data: " + b"x" * 60]
)
def test_an_event_that_does_not_end_is_refused(block: bytes):
    with pytest.raises(DataError, match="longer than 100 bytes"):
        list(events([block, b"\n"], max_bytes=100))
