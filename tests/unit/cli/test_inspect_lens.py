"""`bloomery inspect lens`."""

from __future__ import annotations

import json


def test_table_and_json(call, tiny):
    options = ("--text", "term1 term", "--home", str(tiny.home))
    view = json.loads(call("inspect", "lens", *options, "--json", "--top", "2").out)
    assert [layer["layer"] for layer in view["layers"]] == [-1, 0]
    assert view["layers"][-1]["answer_rank"] == 1 and len(view["layers"][0]["guesses"]) == 2
    lines = call("inspect", "lens", *options).out.splitlines()
    assert "logit lens at" in lines[0] and lines[2].startswith("before")
    assert "no position 50" in call.mistake("inspect", "lens", *options, "--position", "50")
