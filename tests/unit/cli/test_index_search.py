"""`bloomery index search`: hits as lines and as JSON, filters."""

from __future__ import annotations

import json

import pytest

from bloomery.cli.index_search import read_filters
from bloomery.cli.main import main
from bloomery.core.errors import ConfigError


def test_hits(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "iron ore", "year": 1}\n{"text": "iron slag", "year": 2}\n')
    home = ["--home", str(tmp_path / "home"), "--quiet"]
    assert main(["index", str(path), "--into", "rows", "--field", "year", *home]) == 0
    capsys.readouterr()
    assert main(["index", "search", "rows", "iron", "-k", "1", "--filter", "year=2", "--json", *home]) == 0
    (hit,) = json.loads(capsys.readouterr().out)
    assert hit["text"] == "iron slag" and hit["metadata"]["year"] == 2 and hit["ranks"] == {"lexical": 1}
    assert main(["index", "search", "rows", "iron", *home]) == 0
    assert "[0:8]" in capsys.readouterr().out
    assert main(["index", "search", "rows", "copper", *home]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert main(["index", "search", "rows", "iron", "--mode", "vector", *home]) == 2
    assert "no vectors" in capsys.readouterr().err


def test_filters():
    assert read_filters(["a=x", "a=y", "n=3"]) == {"a": ["x", "y"], "n": [3, "3"]}
    assert read_filters(None) == {}
    with pytest.raises(ConfigError):
        read_filters(["a"])
