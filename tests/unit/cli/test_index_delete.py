"""`bloomery index delete`: a document, a filter, all of it."""

from __future__ import annotations

from bloomery.cli.main import main


def test_delete(tmp_path, capsys):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"Text {name} of iron.")
    home = ["--home", str(tmp_path / "home"), "--quiet"]
    assert main(["index", str(tmp_path / "*.txt"), "--into", "i", *home]) == 0
    assert main(["index", "delete", "i", "--document", str(tmp_path / "a.txt"), *home]) == 0
    assert main(["index", "delete", "i", "--filter", f"source={tmp_path / 'b.txt'}", *home]) == 0
    assert capsys.readouterr().out.count("1 documents deleted") == 2
    assert main(["index", "delete", "i", *home]) == 2
    kept, absent = str(tmp_path / "c.txt"), str(tmp_path / "a.txt")
    capsys.readouterr()
    assert main(["index", "delete", "i", "--document", kept, "--document", absent, *home]) == 2
    told = capsys.readouterr()
    assert "no document" in told.err and "a.txt" in told.err and told.err.count("\n") == 1 and not told.out
    assert main(["index", "show", "i", "--document", kept, *home]) == 0  # nothing was deleted
    assert main(["index", "delete", "i", "--everything", *home]) == 0
    assert not (tmp_path / "home" / "indexes" / "i").exists()
