"""`bloomery keys`: a key is printed once and works; what there is, is listed without it."""

from __future__ import annotations

import json
from pathlib import Path

from bloomery.server.keys import KeyRing


def test_a_key_is_made_printed_once_and_works(call, tmp_path: Path):
    path = tmp_path / "keys.toml"
    options = ("--right", "admin", "--requests-per-minute", "60")
    printed = call("keys", str(path), "--new", "alice", *options).out.strip()
    made = json.loads(call("keys", str(path), "--new", "bob", "--json").out)
    ring = KeyRing(path)
    found = ring.find(printed)
    assert found is not None and found.name == "alice" and found.rights == {"admin"}
    assert made["name"] == "bob" and ring.find(made["key"]) is not None
    listed = call("keys", str(path)).out
    assert "alice" in listed and "requests_per_minute=60" in listed and printed not in listed
    assert json.loads(call("keys", str(path), "--json").out)[1] == {"name": "bob", "rights": []}


def test_mistakes_are_one_line(call, tmp_path: Path):
    assert "--new" in call.mistake("keys", str(tmp_path / "none.toml"))
    assert "name" in call.mistake("keys", str(tmp_path / "keys.toml"), "--new", "a b")
    assert "requests_per_minute" in call.mistake(
        "keys", str(tmp_path / "k.toml"), "--new", "a", "--requests-per-minute", "0"
    )
    call.mistake("keys", str(tmp_path / "k.toml"), "--new", "a", "--right", "root")
    assert not (tmp_path / "k.toml").exists()
