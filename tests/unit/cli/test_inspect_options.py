"""What the verbs of inspect share."""

from __future__ import annotations

import pytest

from bloomery.cli.inspect_options import add_row, label, number, open_box, row_text, show, table
from bloomery.cli.options import Common
from bloomery.core.errors import ArtifactError


def test_labels_and_numbers():
    assert label(" a") == "' a'" and label("\x1b[2J\n") == "'\\x1b[2J\\n'"
    assert len(label("x" * 50)) <= 16 and label("x" * 50).startswith("'xxx") and label("x" * 50).endswith("…'")
    assert (number(None), number(1234.56), number(-0.000012345)) == ("hidden", "1235", "-1.234e-05")


def test_vectors_on_a_line():
    assert row_text((0.5, -1.25)) == "0.5 -1.25" == row_text((0.5, -1.25), 2)
    assert row_text((1.0, 2.0, 3.0), 2) == "1 2 ... (3 numbers)"


def test_cells_and_titles_are_text(capsys: pytest.CaptureFixture[str]):
    made = table(["token"], ["weight"])
    add_row(made, "[bold]x[/bold]", "0.5")
    show("a [red]title[/red]", made)
    out = capsys.readouterr().out
    assert "a [red]title[/red]\n" in out and "[bold]x[/bold]" in out


def test_the_latest_model_is_the_default(tiny, tmp_path):
    workspace = Common(home=tiny.home, quiet=True).workspace()
    assert open_box("", workspace).name == workspace.latest("model").name
    with pytest.raises(ArtifactError):
        open_box("", Common(home=tmp_path, quiet=True).workspace())
