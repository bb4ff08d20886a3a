"""The picture of an audit: a mark a language and tokenizer, and the same bytes for the same numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from bloomery.cli.audit_plot import write_premiums
from bloomery.core.errors import ArtifactError, ConfigError


def _row(language: str, premium: float | None) -> dict[str, Any]:
    ends = (None, None) if premium is None else (premium * 0.9, premium * 1.1)
    return {
        "language": language,
        "script": "Latin",
        "premium": premium,
        "premium_low": ends[0],
        "premium_high": ends[1],
    }


def _data() -> dict[str, Any]:
    rows = [_row("en", 1.0), _row("de", 1.5), _row("my", 10.2), _row("alone", None)]
    return {"reference": "en", "tokenizers": [{"name": name, "languages": rows} for name in ("one $x$", "two")]}


def test_svg_is_whole_and_always_the_same(tmp_path: Path):
    for name in ("a.svg", "b.svg"):
        write_premiums(_data(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    texts = ["".join(e.itertext()) for e in ElementTree.parse(tmp_path / "a.svg").iter() if e.tag.endswith("}text")]
    for said in ("en  Latin", "de  Latin", "my  Latin", "one $x$", "two", "tokens for what en says with one"):
        assert said in texts
    assert not any("alone" in text for text in texts)


def test_png_and_what_cannot_be_drawn(tmp_path: Path):
    write_premiums(_data(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    nothing = {"reference": "en", "tokenizers": [{"name": "one", "languages": [_row("en", None)]}]}
    with pytest.raises(ConfigError, match="premium to draw"):
        write_premiums(nothing, tmp_path / "b.svg")
    with pytest.raises(ArtifactError, match="cannot write"):
        write_premiums(_data(), tmp_path / "none" / "b.svg")
