"""When merging by rank is the same as merging by a list: against both algorithms, written here in a few lines."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.tokenizer.merge_order import Refusal, all_merges, check_order, merges_of


def by_list(text: str, merges: list[tuple[str, str]]) -> list[str]:
    """Byte pairs as first published: each pair of the list in turn, from the left."""
    parts = list(text)
    for left, right in merges:
        place = 0
        while place < len(parts) - 1:
            if (parts[place], parts[place + 1]) == (left, right):
                parts[place : place + 2] = [left + right]
            place += 1
    return parts


def by_rank(text: str, ids: dict[str, int]) -> list[str]:
    """tiktoken's: the neighbours that spell the token of the lowest rank, the leftmost first."""
    parts = list(text)
    while True:
        pairs = [(ids[a + b], place) for place, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in ids]
        if not pairs:
            return parts
        _, place = min(pairs)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_is_accepted_is_the_same(data: st.DataObject):
    """Any list of merges over two letters that is accepted cuts any text as ranks do; some are accepted."""
    letters, merges = ["a", "b"], []
    for _ in range(data.draw(st.integers(1, 6))):
        known = [*letters, *(left + right for left, right in merges)]
        pair = (data.draw(st.sampled_from(known)), data.draw(st.sampled_from(known)))
        if pair not in merges:
            merges.append(pair)
    ids = {text: place for place, text in enumerate(dict.fromkeys([*letters, *(a + b for a, b in merges)]))}
    try:
        check_order(merges, letters, ids, whole=False)
    except Refusal:
        return
    if len({a + b for a, b in merges}) < len(merges):
        return  # every way to make a token is listed: by definition
    for text in data.draw(st.lists(st.text(alphabet="ab", max_size=24), max_size=10)):
        assert by_list(text, merges) == by_rank(text, ids)


def test_a_list_that_cuts_otherwise_is_refused():
    """Two merges for "abc": "bc" comes first, so "a" and "bc" stay apart by the list, and are one by rank."""
    merges = [("b", "c"), ("a", "b"), ("ab", "c")]
    ids = {text: place for place, text in enumerate(["a", "b", "c", "bc", "ab", "abc"])}
    assert by_list("abc", merges) != by_rank("abc", ids)
    with pytest.raises(Refusal, match="own letters"):
        check_order(merges, "abc", ids, whole=False)
    every = all_merges(ids)
    assert every == [("b", "c"), ("a", "b"), ("a", "bc"), ("ab", "c")]
    check_order(every, "abc", ids, whole=True)
    with pytest.raises(Refusal, match="several ways"):
        check_order([*merges, ("ab", "c")], "abc", ids, whole=True)


def test_ids_out_of_order_are_refused():
    with pytest.raises(Refusal, match="order"):
        check_order([("a", "b"), ("b", "c")], "abc", {"a": 0, "b": 1, "c": 2, "ab": 4, "bc": 3}, whole=False)


def test_both_spellings_of_merges():
    assert merges_of({"merges": ["a b", ["b", "c d"]]}) == [("a", "b"), ("b", "c d")]
