"""The page of all keys: each is there with its docstring, default and kind."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Literal

from bloomery.cli import chain
from bloomery.cli.recipe_page import field_docstrings, recipe_page


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Within."""

    share: float = 0.5
    """A | share
    of it."""


@dataclass(frozen=True, kw_only=True)
class Outer:
    names: tuple[str, ...] = ("a",)
    """Names."""
    way: Literal["up", "down"] = "up"
    home: str | None = None
    inner: Inner = field(default_factory=Inner)


def test_a_table(monkeypatch):
    monkeypatch.setattr(chain, "SCHEMA", {"outer": Outer})
    page = recipe_page()
    for line in (
        '| `names` | `["a"]` | list of text | Names. |',
        '| `way` | `"up"` | `up`, `down` |  |',
        "| `home` |  | text |  |",
        "## [outer.inner]",
        "Within.",
        "| `share` | `0.5` | number | A \\| share of it. |",
    ):
        assert line in page.splitlines()
    assert "Outer(" not in page
    assert field_docstrings(Inner) == {"share": "A | share of it."}


def test_every_key_is_said_and_every_default_is_toml():
    rows = [line.split(" | ") for line in recipe_page().splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows if not row[-1].strip(" |")] == []
    for row in rows:
        if row[1].strip("` ") not in ("", "{}"):
            tomllib.loads(f"value = {row[1].strip('`')}")
    page = recipe_page()
    assert "## [train.masking]" in page and "## [train.fit]" in page and "## [pictures]" in page
