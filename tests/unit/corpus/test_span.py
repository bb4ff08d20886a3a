"""Spans: they cover everything once, and follow the size alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bloomery.corpus.span import Span, plan


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_spans_follow_one_another_from_the_first_byte_to_the_end(size: int, step: int):
    spans = plan(size, step)
    assert spans[0].start == 0 and spans[0].sure and spans[-1].stop is None
    assert [span.stop for span in spans[:-1]] == [span.start for span in spans[1:]]
    assert not any(span.sure for span in spans[1:])
    assert all(step <= (span.stop or 0) - span.start <= 2 * step for span in spans[:-1])
    assert size - spans[-1].start < 2 * step


def test_what_is_too_small_for_two_is_one():
    assert plan(19, 10) == [Span()]
