"""Sentences about a head's attention."""

from __future__ import annotations

from dataclasses import replace

from bloomery.cli.attention_words import CAPTION, difference_line, headline, shown_keys
from bloomery.engine.glass_box_open import open_glass_box


def test_words(tiny):
    from bloomery.core.workspace import Workspace

    workspace = Workspace(tiny.home)
    view = open_glass_box(workspace.latest("model"), workspace=workspace).attention("term1 term2")
    assert "layer 0 of 1, head 0 of" in headline(view) and "soft cap" not in headline(view)
    assert "soft cap 50" in headline(replace(view, softcap=50.0))
    assert "not explanation" in CAPTION
    assert "layer output differs" in difference_line(view)
    assert "weights differ" in difference_line(replace(view, contribution_norm=None)).replace("differs", "differ")
    assert shown_keys(view) == (list(view.keys), "")
    many = tuple(replace(view.keys[0], index=n, weight=n / 4950) for n in range(100))
    keys, note = shown_keys(replace(view, keys=many))
    assert [key.index for key in keys] == list(range(80, 100))
    rest = sum(range(80)) / 4950
    assert f"20 of 100 keys with the largest weights; the others have {rest:.3f}" in note
