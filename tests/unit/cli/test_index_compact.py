"""`bloomery index compact`."""

from __future__ import annotations

import json

from bloomery.cli.main import main


def test_compact(tmp_path, capsys):
    path = tmp_path / "a.txt"
    home = ["--home", str(tmp_path / "home"), "--quiet"]
    for text in ("Iron.", "Coal."):
        path.write_text(text)
        assert main(["index", str(path), "--into", "i", *home]) == 0
    capsys.readouterr()
    assert main(["index", "compact", "i", "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out)["chunks"] == 1
    assert main(["index", "search", "i", "coal", *home]) == 0
    assert "Coal." in capsys.readouterr().out
