"""What is remembered, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.models.native.machine import cached, processor


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cached("x.json") == tmp_path / "bloomery" / "x.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cached("x.json") == tmp_path / "home" / ".cache" / "bloomery" / "x.json"


def test_the_processor_is_told_once_and_the_same():
    assert processor() and processor() == processor()


def test_where_the_system_tells_nothing_there_is_a_name(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_a: object, **_k: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    processor.cache_clear()
    try:
        assert isinstance(processor(), str)
    finally:
        processor.cache_clear()
