"""StopStrings: whatever the pieces, the text shown is the text before the first stop string."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bloomery.engine.stops import StopStrings


def feed(pieces: list[str], stops: list[str]) -> tuple[str, str | None]:
    matcher = StopStrings(stops)
    shown = "".join(matcher.push(piece) for piece in pieces)
    return shown + matcher.finish(), matcher.found


@given(st.lists(st.text("abc", max_size=4), max_size=12), st.text("abc", min_size=1, max_size=4))
def test_one_stop_string_is_found_across_any_borders(pieces, stop):
    text = "".join(pieces)
    before, found, _ = text.partition(stop)
    assert feed(pieces, [stop]) == (before, stop if found else None)


@given(st.lists(st.text("ab", max_size=3), max_size=10), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_nothing_of_a_stop_string_is_ever_shown(pieces, stops):
    shown, found = feed(pieces, stops)
    assert "".join(pieces).startswith(shown)
    assert not any(stop in shown for stop in stops)
    if found is None:
        assert shown == "".join(pieces)


def test_text_is_held_only_while_it_may_be_a_stop_string():
    matcher = StopStrings(["</s>"])
    assert matcher.push("one <") == "one "
    assert matcher.push("/") == ""
    assert matcher.push("b>") == "</b>"
    assert matcher.push("</s> two") == ""
    assert matcher.found == "</s>"
    assert matcher.push("more") == ""


def test_the_earliest_wins_and_then_the_longest():
    assert feed(["xaby"], ["b", "ab", "a"]) == ("x", "ab")
