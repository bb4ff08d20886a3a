"""Locks exclude each other and die with their holder."""

from __future__ import annotations

from pathlib import Path

from bloomery.core.locks import FileLock


def test_exclusive(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    assert first.try_acquire() and not second.try_acquire()
    first.release()
    first.release()
    assert second.try_acquire()
    second.release()
    assert not FileLock(tmp_path / "gone" / "l").try_acquire()
