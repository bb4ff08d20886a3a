"""Drain: nobody new, and who is in is counted."""

from __future__ import annotations

from bloomery.server.drain import Drain


def test_it_begins_once_and_counts():
    drain = Drain()
    drain.enter()
    assert not drain.begun and drain.seconds == 0.0 and drain.inside == 1
    drain.begin()
    first = drain.seconds
    drain.begin()
    assert drain.begun and drain.seconds >= first >= 0.0
    drain.leave()
    assert drain.inside == 0
