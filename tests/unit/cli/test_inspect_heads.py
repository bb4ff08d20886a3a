"""`bloomery inspect heads`."""

from __future__ import annotations

import json


def test_table_and_json(call, tiny):
    options = ("--text", "term1 term2 term3", "--home", str(tiny.home))
    view = json.loads(call("inspect", "heads", *options, "--json").out)
    assert len(view["entropy"]) == 1 and len(view["induction"][0]) == len(view["entropy"][0])
    sharpest = min(range(len(view["entropy"][0])), key=lambda head: view["entropy"][0][head])
    lines = call("inspect", "heads", *options, "--sort", "entropy").out.splitlines()
    assert lines[2].split()[:2] == ["0", str(sharpest)]
    strongest = max(range(len(view["induction"][0])), key=lambda head: view["induction"][0][head])
    lines = call("inspect", "heads", *options, "--sort", "induction").out.splitlines()
    assert lines[2].split()[:2] == ["0", str(strongest)]
    assert "on random tokens that come twice" in lines[0]
    assert "cannot be sorted" in call.mistake("inspect", "heads", *options, "--sort", "size")
