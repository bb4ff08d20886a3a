"""Ticket: news is a delta, an error or the end; tokens that are still to be computed are counted."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from bloomery.engine.results import Delta
from bloomery.engine.ticket import Ticket


def test_news_and_what_is_unread():
    first, second = (SimpleNamespace(unread=n) for n in (1, 30))
    texts: Any = [first, second]
    ticket = Ticket(texts, threading.Condition())
    assert not ticket.has_news and ticket.unread == 31 and ticket.unfinished == 2
    ticket.tell(texts[1], Delta(text="a"))
    assert ticket.has_news and ticket.ready.popleft() == (1, Delta(text="a")) and not ticket.has_news
    done: Any = SimpleNamespace(result="whole")
    for one in texts:
        ticket.tell(one, done)
        ticket.ready.clear()
    assert ticket.has_news and not ticket.unfinished
    failed = Ticket(texts, threading.Condition(), error=ValueError())
    assert failed.has_news
