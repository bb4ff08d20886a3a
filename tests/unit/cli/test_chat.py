"""`bloomery chat`, its lines read from stdin."""

from __future__ import annotations

import io

import pytest


def test_conversation(call, tiny, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\n\n/new\nhi\n"))
    answer = call("chat", "--home", str(tiny.home), "--max-new-tokens", "3", "--temperature", "0", "--system", "s")
    assert answer.code == 0
    lines = answer.out.splitlines()
    # Greedy, and /new forgot the first turn: both answers are the same.
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 : len(lines) // 2 * 2]
    assert "/new begins anew" in answer.err


def test_a_conversation_too_long_says_so(call, tiny, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("term1 " * 100 + "\n"))
    answer = call("chat", "--home", str(tiny.home))
    assert answer.code == 0 and "error: " in answer.err and "/new" in answer.err
