"""A small TOML file: whole, or an error that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError
from bloomery.core.toml_file import read_toml


def test_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbfname = "caf\xc3\xa9"\n[part]\nn = 1\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_toml("~/a.toml") == read_toml(tmp_path / "a.toml") == {"name": "café", "part": {"n": 1}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[part\n", "not TOML.*line 1"),
        (b'name = "\xff"', "not TOML"),
        (b"a = " + b"[" * 100_000, "not TOML"),
        (b"#" * (1 << 21), "too large"),
        (b"\0" * 100, "not TOML"),
    ],
)
def test_what_is_broken(tmp_path: Path, content: bytes, said: str):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=f"(?s)a.toml.*{said}") as caught:
        read_toml(tmp_path / "a.toml")
    assert "\n" not in caught.value.one_line()


def test_what_is_not_there(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no recipe at .*none\.toml") as caught:
        read_toml(tmp_path / "none.toml", missing="no recipe at", hint="look there")
    assert caught.value.hint == "look there"
    for name in ("a\0b.toml", "~nobody-here/a.toml"):
        with pytest.raises(ConfigError, match="is not a path"):
            read_toml(name)
    with pytest.raises(ConfigError, match="cannot read"):
        read_toml(tmp_path)
