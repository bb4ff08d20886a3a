"""interrupts: the first signal asks, the second stops."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from bloomery.core.interrupts import interrupted_by, interrupts


def test_first_signal_asks_second_stops():
    flag = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    with interrupts(flag, signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_shell_has_ignored_interrupts(number: signal.Signals):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), interrupted_by(signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_no_handlers_outside_the_main_thread():
    seen = []

    def work() -> None:
        with interrupts(threading.Event(), signal.SIGINT):
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_second_ctrl_c_does_not_wait():
    flag = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts(flag, signal.SIGINT):
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.wait(10)
        os.kill(os.getpid(), signal.SIGINT)
        flag.wait()
        threading.Event().wait(10)
    assert signal.getsignal(signal.SIGINT) is before
