"""Interrupts: signals that ask for an end at the next good moment, instead of one here and now.

This module does not know what is saved before the end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Inside, each of `signals` is a KeyboardInterrupt, though who started this process had it ignored, as shells do
    for jobs in the background. Outside of the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupts(flag: threading.Event, *signals: signal.Signals) -> Iterator[None]:
    """Inside, the first of `signals` (Ctrl-C is SIGINT) sets the flag; a second one stops at once. Outside of the main
    thread, which alone hears signals, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
