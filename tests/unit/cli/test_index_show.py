"""`bloomery index show`: all indexes, one, its documents, a document's chunks."""

from __future__ import annotations

import json

from bloomery.cli.main import main


def test_show(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("Iron ore.")
    home = ["--home", str(tmp_path / "home"), "--quiet"]
    assert main(["index", "show", *home]) == 0
    assert "no index yet" in capsys.readouterr().out
    assert main(["index", str(tmp_path / "a.txt"), "--into", "one", *home]) == 0
    capsys.readouterr()
    assert main(["index", "show", "--json", *home]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["name"] == "one" and row["chunks"] == 1
    assert main(["index", "show", "one", "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["cut"]["size_tokens"] == 200
    assert main(["index", "show", "one", "--documents", "--json", *home]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert main(["index", "show", "one", "--document", document["id"], *home]) == 0
    assert "Iron ore." in capsys.readouterr().out
    assert main(["index", "show", "one", "--document", "absent", *home]) == 2
