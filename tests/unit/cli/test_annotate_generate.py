"""`bloomery annotate generate`: a corpus that an endpoint writes."""

from __future__ import annotations

import json
from pathlib import Path

FILE = """
kind = "documents"
prompt = "Write about {x}."
count = 12
similarity = 1.01
validation_fraction = 0.2
[slots]
x = ["a"]
"""


def test_a_corpus_is_written(call, chat_endpoint: str, tmp_path: Path):
    (tmp_path / "g.toml").write_text(FILE)
    (tmp_path / "held.txt").write_text("a text of its own with the number 3 and 3 words\n")
    command = ("annotate", "generate", str(tmp_path / "g.toml"), "--endpoint", chat_endpoint, "--model", "m", "--quiet")
    command += ("--held-out", str(tmp_path / "held.txt"), "--home", str(tmp_path / "home"))
    told = json.loads(call(*command, "--json").out)
    assert sum(told["metrics"]["documents"].values()) == 12
    assert told["metrics"]["dropped"] == {"overlaps_held_out": 1}
    said = call(*command, "--count", "5", "--seed", "9")
    assert said.code == 0 and "energy" not in said.out and "answers, " in said.out and "unknown" in said.out


def test_mistakes(call, chat_endpoint: str, tmp_path: Path):
    (tmp_path / "g.toml").write_text(FILE)
    command = ("annotate", "generate", str(tmp_path / "g.toml"), "--endpoint", chat_endpoint, "--model", "m")
    home = ("--home", str(tmp_path / "home"))
    assert "there is no file" in call.mistake(*command, "--held-out", str(tmp_path / "none"), *home)
    (tmp_path / "g.toml").write_text(FILE.replace("{x}", "{y}"))
    assert "slot {y}" in call.mistake(*command, *home)
    (tmp_path / "g.toml").write_text('kind = "questions"\n')
    assert "no corpus" in call.mistake(*command, *home)
