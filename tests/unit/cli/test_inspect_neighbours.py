"""`bloomery inspect neighbours`."""

from __future__ import annotations

import json


def test_by_text_and_by_id(call, tiny):
    home = ("--home", str(tiny.home))
    view = json.loads(call("inspect", "neighbours", "--token", "e", *home, "--json", "--top", "3").out)
    assert view["text"] == "e" and len(view["tokens"]) == 4 and view["tokens"][0]["cosine"] == 1.0
    assert view == json.loads(
        call("inspect", "neighbours", "--id", str(view["token_id"]), *home, "--json", "--top", "3").out
    )
    out = call("inspect", "neighbours", "--token", "e", *home).out
    assert "nearest to 'e'" in out and "its row, of length" in out
    assert json.loads(call("inspect", "neighbours", "--id", "0", *home, "--json").out)["token_id"] == 0


def test_mistakes(call, tiny):
    home = ("--home", str(tiny.home))
    assert "one token is wanted" in call.mistake("inspect", "neighbours", *home)
    assert "one token is wanted" in call.mistake("inspect", "neighbours", "--token", "e", "--id", "3", *home)
    assert "tokens" in call.mistake("inspect", "neighbours", "--token", "zebra xylophone", *home)
    assert "vocabulary" in call.mistake("inspect", "neighbours", "--id", "99999", *home)
